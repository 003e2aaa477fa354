"""Evaluations during training: what is written, which step is kept, and that stopping changes nothing."""

import dataclasses
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from d3gan import TrainConfig, load_generator, train
from d3gan.cli import main
from d3gan.errors import ConfigError
from d3gan.evaluation.evaluate import fake_images
from d3gan.runs.checkpoint import checkpoints, load_checkpoint
from d3gan.runs.directory import RunDirectory
from d3gan.runs.generator_file import read_facts
from d3gan.runs.jsonl import read_lines
from d3gan.training import evaluation
from tests.evaluation.networks import save_only_varied

Tiny = Callable[..., TrainConfig]


@pytest.fixture
def followed(tiny: Tiny, network: Path) -> Tiny:
    settings = dict(evaluate_every=4, num_samples=50, features=str(network), metrics="fid,is,kid")
    return lambda name="run", **changes: tiny(name, **(settings | changes))


def lines(run: Path) -> list[dict[str, Any]]:
    evaluations = [json.loads(line) for line in RunDirectory(run).evaluations.read_text().splitlines()]
    assert all(line["evaluation_seconds"] > 0 for line in evaluations)
    return [{name: value for name, value in line.items() if not name.endswith("_seconds")} for line in evaluations]


def fid(line: dict[str, Any]) -> float:
    (name,) = (name for name in line if name.startswith("fid_"))
    return float(line[name])


def test_each_evaluation_is_a_line_with_its_step(followed: Tiny) -> None:
    run = train(followed()).run
    evaluations = lines(run)
    assert [line["step"] for line in evaluations] == [4, 8, 12, 16, 20, 22]
    assert [line["images_seen"] for line in evaluations] == [4 * line["step"] for line in evaluations]
    for line in evaluations:
        assert (line["num_samples"], line["reference_images"], line["generator"]) == (50, 44, "raw")
        assert {name.split("_")[0] for name in line} >= {"fid", "is", "kid"}
    assert len({fid(line) for line in evaluations}) == 6
    raw = [json.loads(line) for line in RunDirectory(run).evaluations.read_text().splitlines()]
    assert raw[0]["training_seconds"] < raw[-1]["training_seconds"]


def test_following_changes_no_weight(followed: Tiny) -> None:
    states = []
    for name, every in (("with", 4), ("without", 0)):
        run = RunDirectory(train(followed(name, evaluate_every=every)).run)
        states.append(load_checkpoint(checkpoints(run.checkpoints)[-1])["generator"])
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())


def test_the_best_step_is_kept(followed: Tiny) -> None:
    run = RunDirectory(train(followed()).run)
    best = min(lines(run.path), key=fid)
    assert load_checkpoint(run.best_checkpoint)["step"] == best["step"]
    facts = read_facts(run.best_generator)
    assert (facts["step"], facts["weights"]) == (best["step"], "raw")
    best_state = load_checkpoint(run.best_checkpoint)["generator"]
    state = load_generator(run.best_generator).state_dict()
    assert all(torch.equal(best_state[name], value) for name, value in state.items())
    assert len(checkpoints(run.checkpoints)) == 2, "best.pt is beside the last two"


@pytest.mark.parametrize("missing", [("best.pt", "generator-best"), ("generator-best",)])
def test_the_best_files_are_made_again_after_a_kill_before_them(missing: tuple[str, ...], followed: Tiny) -> None:
    """The evaluation is in evaluations.jsonl and its checkpoint is saved; the process ended before the rest."""
    whole = RunDirectory(train(followed()).run)
    best = min(lines(whole.path), key=fid)["step"]
    killed = RunDirectory(train(followed("killed", max_steps=best)).run)
    assert read_facts(killed.best_generator)["step"] == best
    for path in (killed.best_checkpoint, killed.best_generator):
        if path.stem in missing or path.name in missing:
            path.unlink()
    train(followed("killed", max_steps=best))  # a finished run
    assert read_facts(killed.best_generator)["step"] == best
    assert load_checkpoint(killed.best_checkpoint)["step"] == best


def test_a_torn_last_line_of_a_finished_run_is_written_again(followed: Tiny) -> None:
    run = RunDirectory(train(followed()).run)
    before = lines(run.path)
    text = run.evaluations.read_text()
    for torn in (text[:-40], text.rstrip("\n")):
        run.evaluations.write_text(torn)
        train(followed())
        assert lines(run.path) == before


def test_evaluating_afterwards_gives_the_same_metrics(followed: Tiny, network: Path, capsys: Any) -> None:
    run = train(followed(seed=5)).run
    capsys.readouterr()
    words = ["evaluate", str(run), "--num-samples", "50", "--features", str(network), "--json"]
    assert main([*words, "--metrics", "fid,is,kid"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["seed"] == 5
    last = lines(run)[-1]
    for name, value in last.items():
        if name.split("_")[0] in ("fid", "is", "kid"):
            assert record[name] == value, name


@pytest.mark.parametrize("stops", [[9], [4, 15]])
def test_a_stopped_run_writes_the_same_lines(stops: list[int], followed: Tiny) -> None:
    whole = RunDirectory(train(followed("whole", ema=0.9)).run)
    for step in stops:
        train(followed("parts", ema=0.9, max_steps=step))
    parts = RunDirectory(train(followed("parts", ema=0.9)).run)
    evaluations = lines(parts.path)
    # Where a run ends it is evaluated; those lines are beside the others.
    assert [line for line in evaluations if line["step"] not in stops or line["step"] % 4 == 0] == lines(whole.path)
    assert all(line["generator"] == "ema" for line in evaluations)
    best = min(evaluations, key=fid)
    assert load_checkpoint(parts.best_checkpoint)["step"] == best["step"]


@pytest.mark.parametrize("changes", [{}, {"metrics": "is,kid", "checkpoint": 10}])
def test_a_line_after_the_last_checkpoint_is_written_again(
    changes: dict[str, Any], followed: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(followed("whole", **changes)).run
    evaluate = evaluation.PeriodicEvaluator.evaluate

    def break_down(self: Any, generator: Any, step: int, *rest: Any) -> Any:
        if step == 16:
            raise KeyboardInterrupt
        return evaluate(self, generator, step, *rest)

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(evaluation.PeriodicEvaluator, "evaluate", break_down)
        train(followed("parts", **changes))
    # Where no FID makes a step the best one, step 12 was evaluated after the last checkpoint, of step 10.
    assert [line["step"] for line in lines(RunDirectory(followed("parts").run_directory).path)] == [4, 8, 12]
    parts = RunDirectory(train(followed("parts", **changes)).run)
    assert lines(parts.path) == lines(whole)
    assert parts.best_checkpoint.exists() == (not changes)
    if not changes:
        assert load_checkpoint(parts.best_checkpoint)["step"] == min(lines(whole), key=fid)["step"]


def test_a_stop_does_not_wait_for_an_evaluation_and_the_next_call_makes_up_for_it(
    followed: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(followed("whole", num_samples=600)).run
    asked = []

    def noticing(source: Any) -> Any:
        def images(start: int, stop: int) -> Any:
            asked.append(start)
            if len(asked) == 8:  # the second chunk of three, of the third evaluation
                os.kill(os.getpid(), signal.SIGTERM)
            return source(start, stop)

        return images

    with monkeypatch.context() as signalled:
        signalled.setattr(evaluation, "fake_images", lambda *words: noticing(fake_images(*words)))
        stopped = train(followed("parts", num_samples=600), raise_interrupt=False)
    assert (stopped.step, stopped.interrupted_by) == (12, signal.SIGTERM)
    assert len(asked) == 8
    assert [line["step"] for line in lines(stopped.run)] == [4, 8]
    parts = train(followed("parts", num_samples=600)).run
    assert lines(parts) == lines(whole)


@pytest.mark.parametrize("step", [0, 1])
def test_a_stop_during_an_evaluation_put_off_or_of_the_last_step_is_told(
    step: int, followed: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of the run, and before the first step of the run that goes on."""

    def stopping(*words: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return fake_images(*words)

    last = 4 if step == 0 else 8
    train(followed("run", max_steps=4, evaluate_every=0 if step else 4)) if step else None
    with monkeypatch.context() as signalled:
        signalled.setattr(evaluation, "fake_images", stopping)
        stopped = train(followed("run", max_steps=last), raise_interrupt=False)
    assert (stopped.step, stopped.interrupted_by) == (4, signal.SIGTERM)
    done = train(followed("run", max_steps=last))
    assert (done.step, done.interrupted_by) == (last, None)
    assert [line["step"] for line in lines(done.run)] == [4, 8][: last // 4]


@pytest.mark.parametrize("fails", [False, True])
def test_an_evaluation_that_fails_is_a_line_and_training_goes_on(
    fails: bool, followed: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = save_only_varied(tmp_path / "varied.pt", fails)
    config = followed(features=str(program), max_steps=8)
    changed = [f.name for f in dataclasses.fields(config) if getattr(config, f.name) != f.default]
    words = [f"--{name.replace('_', '-')}={getattr(config, name)}" for name in changed]
    assert main(["train", *words]) == 0
    reason = "not enough contrast" if fails else "NaN or infinite"
    out = capsys.readouterr().out
    assert out.count("FID and IS and KID not computed: ") == 2
    assert reason in out
    run = RunDirectory(config.run_directory)
    evaluations = lines(run.path)
    assert [line["step"] for line in evaluations] == [4, 8]
    assert all(reason in line["not_computed"][metric] for line in evaluations for metric in ("fid", "is", "kid"))
    assert not run.best_checkpoint.exists()
    assert load_checkpoint(checkpoints(run.checkpoints)[-1])["step"] == 8
    # What is asked for by itself, and cannot be had, is an error.
    assert main(["evaluate", str(run.path), "--num-samples=50", f"--features={program}"]) == 1
    said = capsys.readouterr()
    assert "not computed: " in said.out
    assert reason in said.err


def test_a_finished_run_can_still_be_followed(followed: Tiny) -> None:
    train(followed("run", evaluate_every=0))
    assert [line["step"] for line in lines(train(followed("run")).run)] == [22]


def test_raw_weights_can_be_evaluated_beside_an_average(followed: Tiny) -> None:
    plain = lines(train(followed("plain")).run)
    raw = lines(train(followed("raw", ema=0.9, generator="raw")).run)
    assert raw == plain
    averaged = lines(train(followed("averaged", ema=0.9)).run)
    assert all(fid(a) != fid(b) for a, b in zip(raw, averaged, strict=True))


def test_lines_of_another_kind_are_not_compared(tmp_path: Path, followed: Tiny) -> None:
    write = evaluation.PeriodicEvaluator.write
    path = tmp_path / "evaluations.jsonl"
    line = {"step": 1, "num_samples": 50, "reference": "a", "generator": "raw", "fid_x_train": 5.0}
    assert write(None, path, line)  # type: ignore[arg-type]  # it looks at nothing else
    assert not write(None, path, line | {"fid_x_train": 5.0})  # type: ignore[arg-type]
    assert write(None, path, line | {"fid_x_train": 4.0})  # type: ignore[arg-type]
    for other in ({"num_samples": 60}, {"reference": "b"}, {"generator": "ema"}):
        assert write(None, path, line | {"fid_x_train": 4.5} | other)  # type: ignore[arg-type]
    path.write_text(path.read_text() + '{"step": 9, "fid_x_')
    assert len(read_lines(path)) == 6


def test_images_seen_count_discriminator_steps(followed: Tiny) -> None:
    run = RunDirectory(train(followed("twice", d_steps=2, max_steps=4)).run)
    seen = [json.loads(path.read_text().splitlines()[-1])["images_seen"] for path in (run.metrics, run.evaluations)]
    assert seen[0] == seen[1] == 4 * followed().batch_size * 2


def test_each_fall_of_coverage_is_reported_once(tmp_path: Path, said: list[str]) -> None:
    path = tmp_path / "evaluations.jsonl"
    for step, coverage in enumerate([0.02, 0.3, 0.8, 0.5, 0.39, 0.2, 0.6, 0.3]):
        line = {
            "step": step,
            "num_samples": 9,
            "reference": "train",
            "generator": "raw",
            "coverage_x_train": coverage,
        }
        evaluation.PeriodicEvaluator.write(None, path, line)  # type: ignore[arg-type]  # it looks at nothing else
    assert [text.partition(":")[0] for text in said] == ["step 4", "step 7"]
    assert "fell to 0.39 from 0.8 at best" in said[0]


def test_progress_and_events_show_the_metrics(
    followed: Tiny, capsys: pytest.CaptureFixture[str], network: Path
) -> None:
    config = followed(tensorboard=True, metrics="fid,is")
    words = [
        f"--{name.replace('_', '-')}={getattr(config, name)}" for name in ("dataset", "out", "features", "metrics")
    ]
    words += ["--image-size=16", "--batch-size=4", "--nz=6", "--ngf=4", "--ndf=4", "--max-steps=8", "--device=cpu"]
    assert main(["train", *words, "--evaluate-every=4", "--num-samples=50", "--tensorboard"]) == 0
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if line.startswith("step 4: FID "))
    assert ", IS " in line
    assert "(tiny-" in line
    assert line.endswith(", all), best so far")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(RunDirectory(config.run_directory).path / "events"))
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("fid_")]
    assert [event.step for event in events.Scalars(tags[0])] == [4, 8]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": "fids"}, "'fids' is unknown"),
        ({"reference": "test"}, "has no splits"),
        ({"protocol": "published"}, "64 features of Inception"),
        ({"generator": "ema"}, "no moving average is kept"),
        ({"num_samples": 1}, "num_samples = 1: must be from 2"),
        ({"features": "elsewhere.pt"}, "unknown"),
    ],
)
def test_what_cannot_be_followed_is_said_before_training(changes: dict[str, Any], words: str, followed: Tiny) -> None:
    with pytest.raises(ConfigError, match=words):
        train(followed(**changes))
