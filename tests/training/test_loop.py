"""Whole runs: what they leave behind, and that stopping changes nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from d3gan import TrainConfig, load_generator, train
from d3gan.cli import main
from d3gan.errors import ConfigError, ExternalError, TrainingDivergedError
from d3gan.runs.checkpoint import checkpoints, load_checkpoint
from d3gan.runs.directory import RunDirectory, checkpoint_path
from d3gan.runs.opening import refuse_other_runs
from d3gan.training.progress import Silent
from d3gan.training.step import train_step
from tests.conftest import tiny_settings

Tiny = Callable[..., TrainConfig]
HANGUP = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
TIMES = ("images_per_second", "images_per_second_without_data", "training_seconds", "peak_memory_bytes")


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def assert_same(a: Any, b: Any, path: str = "") -> None:
    """Equal bit for bit, tensors and numbers, at every depth."""
    assert type(a) is type(b), path
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}[{i}]")
    else:
        assert a == b, path


def assert_same_run(a: Path, b: Path) -> None:
    assert metrics(a) == metrics(b)
    last_a, last_b = (load_checkpoint(checkpoints(run / "checkpoints")[-1]) for run in (a, b))
    for part in ("step", "generator", "discriminators", "generator_optimizer", "discriminator_optimizer", "data"):
        assert_same(last_a[part], last_b[part], part)
    samples = [sorted(p.name for p in (run / "samples").iterdir()) for run in (a, b)]
    assert set(samples[0]) <= set(samples[1])
    for name in samples[0]:
        assert (a / "samples" / name).read_bytes() == (b / "samples" / name).read_bytes(), name


@pytest.fixture(scope="module")
def uninterrupted(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    torch.set_num_threads(1)
    return train(TrainConfig(**tiny_settings(pictures, out))).run


def test_a_run_leaves_what_is_promised(uninterrupted: Path) -> None:
    run = RunDirectory(uninterrupted)
    assert [p.name for p in checkpoints(run.checkpoints)] == ["step-00000020.pt", "step-00000022.pt"]
    assert [step for step, _ in run.sample_grids()] == [0, 11, 22]
    with Image.open(run.sample(22)) as grid:
        assert grid.size == (8 * 18 + 2, 8 * 18 + 2)
    session = json.loads(run.environment.read_text())["sessions"][0]
    assert session["device"] == "cpu"
    assert session["data"]["images"] == 44
    assert len(session["data"]["sha256"]) == 64
    generator = load_generator(uninterrupted)
    state = load_checkpoint(checkpoint_path(run.checkpoints, 22))["generator"]
    assert_same(dict(generator.state_dict()), dict(state))
    assert not generator.training


def test_metrics_have_every_step_once(uninterrupted: Path) -> None:
    lines = metrics(uninterrupted)
    assert [line["step"] for line in lines] == [3, 6, 9, 12, 15, 18, 21, 22]
    for line in lines:
        assert line["images_seen"] == 4 * line["step"]
        assert line["epoch"] == pytest.approx(line["step"] / 11, abs=1e-6)
        assert len(line["real_losses"]) == len(line["fake_losses"]) == len(line["weights"]) == 2
        assert sum(line["weights"]) == pytest.approx(1), "one discriminator per step"
        assert line["learning_rate"] == line["learning_rate_d"] == 0.0002
    full = [json.loads(text) for text in (uninterrupted / "metrics.jsonl").read_text().splitlines()]
    for line in full:
        assert line["images_per_second_without_data"] >= line["images_per_second"] > 0
        assert line["peak_memory_bytes"] > 2**20
    assert [line["training_seconds"] for line in full] == sorted(line["training_seconds"] for line in full)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(uninterrupted: Path, tiny: Tiny) -> None:
    assert_same_run(uninterrupted, train(tiny("again")).run)
    other = metrics(train(tiny("other", seed=1, max_steps=3)).run)
    assert other[0]["generator_loss"] != metrics(uninterrupted)[0]["generator_loss"]


@pytest.mark.parametrize("first", [1, 5, 6, 7, 11, 21])
def test_a_run_stopped_at_a_step_ends_as_if_it_never_stopped(first: int, uninterrupted: Path, tiny: Tiny) -> None:
    outcome = train(tiny(max_steps=first))
    assert (outcome.step, outcome.last_step) == (first, first)
    assert metrics(outcome.run)[-1]["step"] == first
    assert train(tiny()).step == 22
    assert_same_run(uninterrupted, outcome.run)


def test_many_stops_and_changed_intervals_change_nothing(uninterrupted: Path, tiny: Tiny) -> None:
    for last in (2, 4, 5, 13, 14, 20):
        train(tiny(max_steps=last, checkpoint=last + 1, sample_every=1))
    assert_same_run(uninterrupted, train(tiny()).run)


def test_the_published_dcgan_resumes_its_falling_learning_rate(tiny: Tiny) -> None:
    whole = train(tiny("whole", model="dcgan")).run
    train(tiny("parts", model="dcgan", max_steps=8))
    assert_same_run(whole, train(tiny("parts", model="dcgan")).run)
    rates = [line["learning_rate"] for line in metrics(whole)]
    assert rates == pytest.approx([0.0002 * (1 - (line["step"] - 1) / 22) for line in metrics(whole)])


@pytest.mark.parametrize(("model", "expected"), [("d3gan", 0.0006), ("dcgan", 0.0006 * 15 / 21)])
def test_the_learning_rate_grows_with_the_batches_of_a_step(model: str, expected: float, tiny: Tiny) -> None:
    run = train(tiny(model=model, grad_accum_steps=3, epochs=7, lr_scaling="linear", max_steps=7, log_every=7)).run
    assert metrics(run)[0]["learning_rate"] == pytest.approx(expected)
    assert metrics(run)[0]["images_seen"] == 7 * 12


def test_synchronised_batchnorm_without_a_gpu_is_refused(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match="sync_batchnorm = True: PyTorch has it for GPUs alone, this is cpu"):
        train(tiny(sync_batchnorm=True))


def test_a_run_with_other_batches_a_step_is_not_gone_on_with(tiny: Tiny) -> None:
    train(tiny(max_steps=2))
    with pytest.raises(ConfigError, match="was trained with 1 batches per step, here are 2"):
        train(tiny(grad_accum_steps=2))


class SignalAt(Silent):
    def __init__(self, step: int, number: signal.Signals):
        self.step, self.number = step, number

    def advance(self, step: int) -> None:
        if step == self.step:
            os.kill(os.getpid(), self.number)

    def __call__(self, _last: int, _first: int) -> "SignalAt":
        return self

    def __enter__(self) -> "SignalAt":
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, *HANGUP])
def test_a_signal_saves_and_the_same_call_goes_on(number: signal.Signals, uninterrupted: Path, tiny: Tiny) -> None:
    before = signal.signal(number, signal.default_int_handler)  # these tests may run under nohup
    try:
        outcome = train(tiny(), SignalAt(8, number), raise_interrupt=False)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert (outcome.step, outcome.interrupted_by) == (8, number)
    assert checkpoints(outcome.run / "checkpoints")[-1].name == "step-00000008.pt"
    train(tiny())
    assert_same_run(uninterrupted, outcome.run)


def test_an_ignored_hangup_stays_ignored(tiny: Tiny) -> None:
    """As under nohup."""
    if not HANGUP:
        pytest.skip("this system has no SIGHUP")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert train(tiny(), SignalAt(8, signal.SIGHUP)).step == 22
    finally:
        signal.signal(signal.SIGHUP, before)


class RemoveAt(Silent):
    """Removes the run's folder after a step."""

    def __init__(self, step: int, run: Path):
        self.step, self.run = step, run

    @contextmanager
    def __call__(self, _total: int, _start: int) -> Iterator[Silent]:
        yield self

    def advance(self, step: int) -> None:
        if step == self.step:
            shutil.rmtree(self.run)


@pytest.mark.parametrize("changes", [{}, {"log_every": 1000}, {"checkpoint": 1000, "log_every": 1000}])
def test_a_run_whose_folder_is_removed_ends_with_an_error_and_makes_no_half_one(
    changes: dict[str, Any], tiny: Tiny
) -> None:
    config = tiny(**changes)
    with pytest.raises(ExternalError, match=r"removed or moved|No such file"):
        train(config, RemoveAt(7, config.run_directory))
    assert not config.run_directory.exists()


def test_a_second_signal_does_not_wait_for_the_step(tiny: Tiny, uninterrupted: Path) -> None:
    class Twice(SignalAt):
        def advance(self, step: int) -> None:
            super().advance(step)
            super().advance(step)

    with pytest.raises(KeyboardInterrupt):
        train(tiny(), Twice(8, signal.SIGINT))
    outcome = train(tiny())
    assert_same_run(uninterrupted, outcome.run)


def start(pictures: Path, out: Path, **changes: Any) -> "subprocess.Popen[str]":
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in tiny_settings(pictures, out, **changes).items()]
    return subprocess.Popen(
        [sys.executable, "-m", "d3gan", "train", *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_step(run: Path, step: int, process: "subprocess.Popen[str]") -> None:
    path = run / "metrics.jsonl"
    for _ in range(3000):
        if path.exists() and path.read_text().count("\n") * 3 >= step:
            return
        if process.poll() is not None:
            pytest.fail(f"ended early: {process.communicate()[0]}")
        time.sleep(0.01)
    process.kill()
    pytest.fail("never got there")


def test_kill_9_loses_nothing_that_counts(pictures: Path, tiny: Tiny, tmp_path: Path) -> None:
    """Killed twice at moments nobody chose, among them while it may be writing."""
    whole = train(tiny("whole", epochs=20)).run
    for step in (40, 120):
        process = start(pictures, tmp_path / "killed", epochs=20)
        wait_for_step(tmp_path / "killed", step, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9999, "gen')  # a line cut short
    outcome = train(tiny("killed", epochs=20))
    assert outcome.step == 220
    assert_same_run(whole, outcome.run)


def test_ctrl_c_in_the_shell_saves_and_says_how_to_go_on(pictures: Path, tmp_path: Path) -> None:
    process = start(pictures, tmp_path / "run", epochs=4000)
    wait_for_step(tmp_path / "run", 6, process)
    process.send_signal(signal.SIGINT)
    output = process.communicate()[0]
    assert process.returncode == 130
    last = output.splitlines()[-1]
    assert "stopped by SIGINT at step" in last
    assert "Resume with: d3gan train --dataset=" in last
    step = int(last.split("at step ")[1].split(";")[0])
    assert checkpoints(tmp_path / "run" / "checkpoints")[-1] == checkpoint_path(tmp_path / "run/checkpoints", step)


def test_another_config_or_other_data_are_refused_and_nothing_is_touched(
    tiny: Tiny, tmp_path: Path, pictures: Path
) -> None:
    run = train(tiny(max_steps=2)).run
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match=r"lr = 0.0002 there, 0.001 asked for.*another --out"):
        train(tiny(lr=0.001))
    with pytest.raises(ConfigError, match="epochs = 2 there, 3 asked for"):
        train(tiny(epochs=3, model="dcgan"))
    assert before == {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("x")
    with pytest.raises(ConfigError, match="is not empty and holds no run"):
        train(tiny("letters"))
    with pytest.raises(ConfigError, match="is a file"):
        train(tiny("letters/dear.txt"))


def test_a_kill_after_the_last_save_leaves_no_third_checkpoint(tiny: Tiny) -> None:
    run = train(tiny()).run
    folder = run / "checkpoints"
    before = sorted(path.name for path in folder.iterdir())
    shutil.copy(folder / "step-00000020.pt", folder / "step-00000015.pt")
    (folder / "step-00000022.pt.tmp").write_bytes(b"half")
    train(tiny())
    assert sorted(path.name for path in folder.iterdir()) == before


def test_epochs_that_end_a_run_before_max_steps_are_told(tiny: Tiny, said: list[str], capsys: Any) -> None:
    run = train(tiny(max_steps=30)).run
    (told,) = (line for line in said if "max_steps = 30" in line)
    assert told == "epochs = 2 ends the run at step 22, before max_steps = 30; give --epochs 3 for all of them"
    assert main(["info", str(run)]) == 0
    assert "--epochs N" in capsys.readouterr().out


def test_a_kill_before_the_config_was_whole_leaves_a_folder_that_can_be_used(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in (".lock", "config.ini.tmp"):
        (tmp_path / "run" / name).write_text("[param")
    assert train(tiny(max_steps=1)).step == 1
    assert not (tmp_path / "run" / "config.ini.tmp").exists()


def test_changed_pictures_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(8):
        Image.new("RGB", (16, 16), (i, 0, 0)).save(folder / f"{i}.png")
    config = TrainConfig(**tiny_settings(folder, tmp_path / "run", max_steps=2))
    train(config)
    Image.new("RGB", (16, 16), (0, 99, 0)).save(folder / "3.png")
    with pytest.raises(ConfigError, match="trained on other images"):
        train(config)


def test_more_epochs_go_on_where_the_schedule_allows_it(tiny: Tiny) -> None:
    whole = train(tiny("whole", epochs=3)).run
    train(tiny("longer"))
    assert_same_run(whole, train(tiny("longer", epochs=3)).run)


def test_a_finished_run_is_left_alone(tiny: Tiny) -> None:
    run = train(tiny(max_steps=4)).run
    before = metrics(run)
    outcome = train(tiny(max_steps=3))
    assert (outcome.step, outcome.last_step) == (4, 3)
    assert metrics(run) == before


def test_a_damaged_checkpoint_falls_back_to_the_one_before(uninterrupted: Path, tiny: Tiny, said: list[str]) -> None:
    run = train(tiny(max_steps=12)).run
    newest = checkpoints(run / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    said.clear()
    train(tiny())
    assert any("trying an older one" in line and newest.name in line for line in said)
    assert any(line.startswith("resuming from") and "step-00000010.pt" in line for line in said)
    assert_same_run(uninterrupted, run)


def changed_checkpoint(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    state = load_checkpoint(path)
    change(state)
    torch.save(state, path)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("metrics_log"),
        lambda state: state.update(step=float("nan")),
        lambda state: state.update(step=-22),
        lambda state: state.update(step=10**30),
        lambda state: state["metrics_log"].update(rows=torch.zeros(2, 99)),
        lambda state: state["generator"].popitem(),
        lambda state: state["generator_optimizer"]["state"][0].update(exp_avg=torch.zeros(3)),
        lambda state: state.update(discriminators={k: value[:1] for k, value in state["discriminators"].items()}),
    ],
)
def test_a_checkpoint_that_does_not_fit_falls_back_to_the_one_before(
    change: Callable[[dict[str, Any]], object], uninterrupted: Path, tiny: Tiny
) -> None:
    run = train(tiny()).run
    last = checkpoint_path(run / "checkpoints", 22)
    changed_checkpoint(last, change)
    train(tiny())
    assert_same_run(uninterrupted, run)
    assert last.with_name(last.name + ".damaged").exists()


@pytest.mark.parametrize("changes", [{"seed": 1}, {"ngf": 8}, {"beta1": 0.25}])
def test_a_checkpoint_of_another_run_is_refused_by_its_config(changes: dict[str, Any], tiny: Tiny) -> None:
    run, other = train(tiny(max_steps=8)).run, train(tiny("other", max_steps=9, **changes)).run
    shutil.copy(checkpoint_path(other / "checkpoints", 9), run / "checkpoints")
    ((key, value),) = changes.items()
    with pytest.raises(ConfigError, match=rf"step-00000009.pt: is of another run \({key} = {value} there"):
        train(tiny())


def test_torn_lines_of_a_finished_run_are_cut(uninterrupted: Path, tiny: Tiny) -> None:
    run = train(tiny()).run
    for tail in ('{"step": 22, "gene', '{"step": 22}'):  # torn, and whole without its line break
        before = (run / "metrics.jsonl").read_text()
        (run / "metrics.jsonl").write_text(before + tail)
        train(tiny())
        assert all(isinstance(json.loads(line), dict) for line in (run / "metrics.jsonl").read_text().splitlines())
    assert metrics(run)[: len(metrics(uninterrupted))] == metrics(uninterrupted)


@pytest.mark.parametrize("name", ["checkpoints/step-00000001.pt", "checkpoints/x.pt.tmp"])
def test_folders_among_checkpoints_are_left_alone(name: str, tiny: Tiny) -> None:
    run = train(tiny(max_steps=8)).run
    (run / name).mkdir()
    assert train(tiny()).step == 22
    assert (run / name).is_dir()


@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluations.jsonl"])
def test_a_folder_in_place_of_a_file_is_named(name: str, tiny: Tiny) -> None:
    run = train(tiny(max_steps=8)).run
    (run / name).unlink(missing_ok=True)
    (run / name).mkdir()
    with pytest.raises(ExternalError, match=name):
        train(tiny())


@pytest.mark.parametrize(
    "text", ['{"sessions": null}', '{"sessions": [1]}', '{"sessions": {"a": 1}}', "[" * 20_000, "\xff"]
)
def test_an_environment_file_that_is_not_ours_stops_nothing(text: str, tiny: Tiny) -> None:
    run = train(tiny(max_steps=8)).run
    (run / "environment.json").write_text(text, encoding="latin-1")
    with (run / "metrics.jsonl").open("a") as file:
        file.write("[" * 20_000 + "\n")
    assert train(tiny()).step == 22


def test_two_processes_do_not_share_a_run(pictures: Path, tiny: Tiny, tmp_path: Path) -> None:
    process = start(pictures, tmp_path / "run", epochs=4000)
    try:
        wait_for_step(tmp_path / "run", 3, process)
        with pytest.raises(ExternalError, match="another process is training in this folder"):
            train(tiny("run", epochs=4000))
    finally:
        process.kill()
        process.communicate()


def test_divergence_names_step_and_network_and_the_last_good_checkpoint(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_of = {"now": 0}

    def poisoned(gan: Any, *batch: Any) -> Any:
        step_of["now"] += 1
        if step_of["now"] == 8:
            with torch.no_grad():
                next(gan.discriminators.members[1].parameters())[0, 0, 0, 0] = float("nan")
        return train_step(gan, *batch)

    monkeypatch.setattr("d3gan.training.accumulation.train_step", poisoned)
    config = tiny()
    with pytest.raises(TrainingDivergedError) as caught:
        train(config)
    message = str(caught.value)
    assert message.startswith("step 8: the real loss of discriminator 1 is nan")
    assert "step-00000005.pt" in message
    assert [p.name for p in checkpoints(config.run_directory / "checkpoints")] == ["step-00000005.pt"]


def test_weights_that_are_not_finite_are_never_saved(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned(gan: Any, *batch: Any) -> Any:
        result = train_step(gan, *batch)
        with torch.no_grad():
            next(gan.generator.parameters()).fill_(float("inf"))
        return result

    monkeypatch.setattr("d3gan.training.accumulation.train_step", poisoned)
    config = tiny(max_steps=1)
    with pytest.raises(TrainingDivergedError, match=r"the state of the generator is not finite.*no checkpoint yet"):
        train(config)
    assert not checkpoints(config.run_directory / "checkpoints")


def test_running_statistics_that_are_not_finite_are_never_saved(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned(gan: Any, *batch: Any) -> Any:
        result = train_step(gan, *batch)
        gan.generator.get_buffer("layers.1.running_var").fill_(float("nan"))
        return result

    monkeypatch.setattr("d3gan.training.accumulation.train_step", poisoned)
    with pytest.raises(TrainingDivergedError, match="the state of the generator is not finite"):
        train(tiny(max_steps=1))


def test_every_step_has_latents_and_images_of_its_own(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.Tensor, ...]] = []

    def noting(gan: Any, *batch: Any) -> Any:
        seen.append(tuple(tensor.clone() for tensor in batch[:2]))
        return train_step(gan, *batch)

    monkeypatch.setattr("d3gan.training.accumulation.train_step", noting)
    train(tiny("d3gan"))
    assert len(seen) == 22
    for kind in zip(*seen, strict=True):
        assert len({tensor.numpy().tobytes() for tensor in kind}) == 22
    first, seen = seen, []
    train(tiny("dcgan", model="dcgan"))
    assert_same(first, seen, "models with one seed see the same batches")


def test_the_callers_settings_of_cudnn_are_left_alone(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn = torch.backends.cudnn
    before = (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32)
    during = []

    def noting(gan: Any, *batch: Any) -> Any:
        during.append((cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32))
        return train_step(gan, *batch)

    monkeypatch.setattr("d3gan.training.accumulation.train_step", noting)
    train(tiny("free", max_steps=1, deterministic=False))
    train(tiny("bound", max_steps=1))
    assert during == [(True, False, False), (False, True, False)]
    assert (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == before


def test_a_generator_older_than_the_last_checkpoint_is_written_again(tiny: Tiny) -> None:
    """As a crash between the two files leaves it, on a run that is finished."""
    run = train(tiny(max_steps=4)).run
    old = (run / "generator.safetensors").read_bytes()
    train(tiny(max_steps=8))
    new = (run / "generator.safetensors").read_bytes()
    assert old != new
    for content in (old, b"damaged", None):
        if content is None:
            (run / "generator.safetensors").unlink()
        else:
            (run / "generator.safetensors").write_bytes(content)
        train(tiny(max_steps=8))
        assert (run / "generator.safetensors").read_bytes() == new


def test_damaged_checkpoints_never_restart_a_run(tiny: Tiny) -> None:
    run = train(tiny(max_steps=8)).run
    before = metrics(run)
    for path in checkpoints(run / "checkpoints"):
        path.write_bytes(b"damaged")
    for _ in range(2):
        with pytest.raises(ExternalError, match="no usable checkpoint is left"):
            train(tiny())
    assert metrics(run) == before


def test_a_config_that_is_no_runs_is_never_overwritten(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    own = tmp_path / "mine" / "config.ini"
    own.write_text("# my notes\n[parameters]\nlr = 0.1\n")
    with pytest.raises(ConfigError, match="is not empty and holds no run"):
        train(tiny("mine"))
    assert own.read_text().startswith("# my notes")
    assert [p.name for p in own.parent.iterdir()] == ["config.ini"]


def test_a_damaged_config_in_the_run_is_a_fault_of_the_world(tiny: Tiny) -> None:
    path = RunDirectory(train(tiny(max_steps=2)).run).config
    path.write_text(path.read_text().replace("batch_size = 4", "batch_size = four"))
    with pytest.raises(
        ExternalError, match=r"config\.ini: cannot be read .*batch_size.*fix the file or choose another --out"
    ):
        train(tiny())


def test_images_may_be_called_otherwise_when_a_run_goes_on(
    tiny: Tiny, pictures: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: Path
) -> None:
    run = train(tiny(max_steps=7)).run
    monkeypatch.chdir(pictures.parent)
    train(tiny(dataset=f"./{pictures.name}/"))
    assert_same_run(uninterrupted, run)


def test_a_run_inside_its_own_images_is_refused(pictures: Path, tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match="lies inside the folder of images"):
        train(tiny(out=str(pictures / "runs" / "x")))
    assert not (pictures / "runs").exists()


def test_a_run_in_a_folder_with_the_name_of_a_known_set_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mnist").mkdir()
    refuse_other_runs(TrainConfig(dataset="MNIST", out="mnist/run"))
    Path("faces").mkdir()
    with pytest.raises(ConfigError, match="lies inside"):
        refuse_other_runs(TrainConfig(dataset="faces", out="faces/run"))


def test_default_names_of_runs(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures)
    names = [TrainConfig(dataset=d).run_directory.name for d in ("mnist", "a/faces.v2.zip", ".", "a/faces.v2")]
    assert names == [f"{n}-d3gan-b128-s0" for n in ("mnist", "faces.v2", pictures.name, "faces.v2")]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_is_told_as_one(pictures: Path, tmp_path: Path) -> None:
    """The limit stops the first checkpoint half-way; what is smaller is written before it."""
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in tiny_settings(pictures, tmp_path / "run").items()]
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        f"from d3gan.cli import main; sys.exit(main(['train', *{flags!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "step-00000005.pt: File too large; free some space there" in done.stderr
    assert not checkpoints(tmp_path / "run" / "checkpoints")


def test_a_reader_who_leaves_does_not_stop_the_run(pictures: Path, tmp_path: Path) -> None:
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in tiny_settings(pictures, tmp_path / "run", epochs=60).items()]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-m", "d3gan", "train", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while "step 3/" not in process.stdout.readline():
            pass
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode in (0, 141)
    assert checkpoints(tmp_path / "run" / "checkpoints")[-1] == checkpoint_path(tmp_path / "run/checkpoints", 660)


def test_another_machine_is_warned_of(tiny: Tiny, said: list[str]) -> None:
    run = train(tiny(max_steps=2)).run
    path = RunDirectory(run).environment
    path.write_text(path.read_text().replace('"threads": 1', '"threads": 64'))
    said.clear()
    train(tiny())
    assert any("threads 64 -> 1" in line and "not bit for bit" in line for line in said)


@pytest.mark.parametrize("changes", [{"nc": 1}, {"discriminators": 3, "weighting": "argmin"}, {"precision": "bf16"}])
def test_other_kinds_of_run(changes: dict[str, Any], tiny: Tiny) -> None:
    whole = train(tiny("whole", **changes)).run
    train(tiny("parts", **changes, max_steps=7))
    assert_same_run(whole, train(tiny("parts", **changes)).run)
