"""Commands as a person types them: exit codes, one line per error, what is written where."""

import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from d3gan import TrainConfig, __version__, load_generator, sample, train
from d3gan.cli import COMMANDS, main
from d3gan.config.help import field_texts
from d3gan.config.ini import load_config
from tests.conftest import tiny_settings

ROOT = Path(__file__).parents[1]
Tiny = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "run"
    return train(TrainConfig(**tiny_settings(pictures, out, sample_every=5))).run


def as_flags(settings: dict[str, Any]) -> list[str]:
    return [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]


def test_train_takes_flags_over_the_file(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tiny_settings(pictures, tmp_path / "run", max_steps=4)
    file = tmp_path / "mine.ini"
    file.write_text("[parameters]\n" + "\n".join(f"{k} = {v}" for k, v in settings.items()))
    assert main(["train", "--config", str(file), "--model", "dcgan", "--max_steps=3", "--lr", "0.001"]) == 0
    config = load_config(tmp_path / "run" / "config.ini")
    assert config == TrainConfig(**(settings | {"max_steps": 3, "model": "dcgan", "lr": 0.001}))
    output = capsys.readouterr().out
    assert "step 3/3" in output
    assert output.splitlines()[-1].startswith("done: 3 steps; samples in ")


def test_a_run_says_what_it_is_before_it_starts_and_when_nothing_is_left(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tiny_settings(pictures, tmp_path / "run", max_steps=3, seed=7, grad_accum_steps=2, device="cpu")
    words = ["train", *as_flags(settings | {"precision": "float32"})]
    assert main(words) == 0
    first = capsys.readouterr().out.splitlines()
    assert f"training d3gan on {pictures.name}: cpu, float32, seed 7" in first
    assert "data: 44 images, 16 x 16 pixels, 3 channels" in first
    assert "batch size 4 x 2 accumulated: 8 images per step" in first
    generator = sum(p.numel() for p in load_generator(tmp_path / "run").parameters())
    (networks,) = (line for line in first if line.startswith("networks: "))
    assert networks.startswith(f"networks: dcgan; parameters: generator {generator:,}, discriminators 2 x ")
    assert f"steps 0 to 3, 5 per epoch; run directory {tmp_path / 'run'}" in first
    assert main(words) == 0
    again = capsys.readouterr().out.splitlines()
    assert not any(line.startswith(("steps ", "done")) for line in again)
    assert again[-1].startswith("nothing left to do: 3 steps were done before; samples in ")
    assert main([*words, "--max-steps=2"]) == 0
    assert "3 steps were done before, 2 were asked for" in capsys.readouterr().out


def test_config_ini_in_the_current_folder_is_read(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = tiny_settings(pictures, tmp_path / "run", max_steps=1)
    Path("config.ini").write_text("[parameters]\n" + "\n".join(f"{k} = {v}" for k, v in settings.items()))
    assert main(["train"]) == 0
    assert (tmp_path / "run" / "checkpoints" / "step-00000001.pt").is_file()


def test_the_line_that_train_py_prints_resumes_the_run(pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = as_flags(tiny_settings(pictures, run, epochs=4000))
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *words], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    while not list(run.glob("checkpoints/step-*.pt")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    last = process.communicate(timeout=60)[0].splitlines()[-1]
    step = int(last.split("at step ")[1].split(";")[0])
    program, script, *resume = shlex.split(last.split("Resume with: ")[1])
    assert (program, script) == ("python", "train.py")
    command = [sys.executable, str(ROOT / script), *resume, f"--max-steps={step + 3}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert f"done: {step + 3} steps" in done.stdout


@pytest.mark.parametrize("script", ["train.py", "train_ddp.py"])
def test_the_original_programs_commands(script: str, pictures: Path, tmp_path: Path) -> None:
    flags = as_flags(tiny_settings(pictures, tmp_path / "run", max_steps=2))
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *flags], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (tmp_path / "run" / "generator.safetensors").is_file()
    assert ("no GPU found: starting one CPU process" in done.stdout) == (script == "train_ddp.py")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            "train --batch-siz 3",
            "--batch-siz: unknown flag (did you mean '--batch-size' or '--image-size'?); see d3gan",
        ),
        ("train --size 3", "(did you mean '--seed', '--image-size' or '--batch-size'?); see d3gan train --help-all"),
        ("train --xyzzy", "--xyzzy: unknown flag; see d3gan train --help-all"),
        (
            "train --resume",
            "--resume: is no flag, since runs resume by themselves: the same command with the same --out",
        ),
        ("train --checkpoint-path=a.pt", "--checkpoint-path: is no flag, since runs resume by themselves"),
        ("compare --load a", "--load: is no flag, since runs resume by themselves"),
        ("sample RUN --resume", "--resume: unknown flag"),
        ("train --batch-size many", "--batch-size = 'many': must be a whole number"),
        ("train --batch-size", "--batch-size: needs a value: a whole number"),
        ("train --batch-size --lr 1", "--batch-size: needs a value"),
        ("train --seed -1", "seed = -1: must be from 0 to"),
        ("train --model dcgam", "(did you mean 'dcgan'?)"),
        ("train --tensorboard=1", "takes no value; write --tensorboard, or --no-tensorboard"),
        ("train stray", "stray: unexpected"),
        ("train -b 3", "-b: unexpected"),
        ("train --config nowhere.ini", "--config nowhere.ini: cannot be read as an .ini file: No such file"),
        ("train --dataset minst", "dataset = minst: is neither"),
        ("train --device tpu", "device = 'tpu': must be auto, cpu, cuda, cuda:N or mps"),
        ("train --device cpu:3", "device = 'cpu:3': must be auto, cpu"),
        ("sample RUN --num 10001", "--num 10001: a PNG shows at most 10,000 images; --npz"),
        ("train --device cuda:77", "device = 'cuda:77': this machine shows PyTorch"),
        ("trian", "trian: unknown command (did you mean 'train'?)"),
        ("data fetsh mnist", "data fetsh: unknown command (did you mean 'data fetch'?)"),
        ("data fetch", "NAME is missing: d3gan data fetch NAME [OPTIONS]"),
        ("data fetch minst", "did you mean 'mnist'"),
        ("sample", "RUN is missing"),
        ("sample nowhere", "nowhere: holds no run of d3gan"),
        ("sample RUN --num 0", "num = 0: must be from 1"),
        ("sample RUN --out grid.jpg", "--out grid.jpg: the name must end in .png"),
        ("sample RUN --animate --out a.mp4", "--out a.mp4: the name of an animation must end in .gif or .webp"),
        ("sample RUN --npz a.npy", "--npz a.npy: the name must end in .npz"),
        ("sample RUN --animate --interpolate", "--interpolate and --animate: give only one of them"),
        ("sample RUN --interpolate --num 1", "at least two images per row"),
        ("sample RUN more", "more: unexpected"),
        ("export RUN --format onx", "--format = 'onx': must be safetensors, onnx, html, hub (did you mean 'onnx'?)"),
        ("export RUN --license mit", "--license mit: goes with --format hub alone; leave it out"),
        ("export RUN --format onnx --data-dir d", "--data-dir d: goes with --format html alone"),
        ("export RUN --format html --out page.txt", "--out page.txt: the page's name must end in .html"),
        (
            "export RUN --format html --runtime .",
            "--runtime .: holds no ort-wasm-simd-threaded.wasm; give the folder",
        ),
        ("export RUN --format hub --license MIT!", "--license MIT!: must be an identifier of the hub"),
        ("export RUN --format hub --out RUN", "is a run, whose files would be overwritten; name a new folder"),
    ],
)
def test_a_bad_value_gets_one_line_and_exit_code_2(
    arguments: str,
    expected: str,
    run: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(run) if word == "RUN" else word for word in arguments.split()]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("d3gan: error: ")
    assert expected in output.err
    assert output.err.count("\n") == 1
    assert not list(tmp_path.iterdir()), "an error leaves nothing behind"


def test_an_external_fault_gets_one_line_and_exit_code_1(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    damaged = tmp_path / "g.safetensors"
    damaged.write_bytes((run / "generator.safetensors").read_bytes()[:-9])
    assert main(["sample", str(damaged)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"d3gan: error: {damaged}: is damaged")
    assert error.count("\n") == 1
    assert main(["sample", str(damaged), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_defect_shows_its_traceback_on_request_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> int:
        raise TypeError("deep\ninside")

    monkeypatch.setitem(COMMANDS, "data list", (COMMANDS["data list"][0], broken))
    assert main(["data", "list"]) == 1
    assert capsys.readouterr().err == (
        "d3gan: error: unexpected TypeError: deep inside; --debug shows where; please report it\n"
    )
    assert main(["data", "list", "--debug"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last)")
    assert 'raise TypeError("deep\\ninside")' in shown


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory. Tried"), RuntimeError("can't allocate memory")]
)
def test_too_little_memory_is_reported_as_such(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> int:
        raise error

    monkeypatch.setitem(COMMANDS, "data list", (COMMANDS["data list"][0], broken))
    assert main(["data", "list"]) == 1
    assert capsys.readouterr().err.startswith("d3gan: error: not enough memory (")


def test_a_flag_beats_a_bad_value_in_the_file_and_the_files_mistakes_are_the_files(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.ini"
    file.write_text("[parameters]\nbatch_size = 1\n")
    flags = as_flags(tiny_settings(pictures, tmp_path / "run", max_steps=1))
    assert main(["train", f"--config={file}", *flags]) == 0
    capsys.readouterr()
    assert main(["train", f"--config={file}", "--lr=0.1"]) == 2
    assert capsys.readouterr().err == f"d3gan: error: {file}: batch_size = 1: must be from 2 to 1000000\n"


def test_the_original_programs_type_is_a_flag_too(pictures: Path, tmp_path: Path) -> None:
    settings = tiny_settings(pictures, tmp_path / "run", max_steps=1)
    settings["type"] = settings.pop("dataset")
    assert main(["train", *as_flags(settings)]) == 0


def test_other_files_among_the_samples_are_passed_over(run: Path, tmp_path: Path) -> None:
    stray = run / "samples" / "step-final.png"
    stray.write_bytes(b"")
    assert main(["sample", str(run), "--animate", f"--out={tmp_path / 'a.gif'}"]) == 0
    stray.unlink()


def test_half_of_what_torchrun_sets_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train"]) == 2
    assert "WORLD_SIZE = 2, but RANK, MASTER_ADDR, MASTER_PORT is not set" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_explains_each_of_its_flags(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*name.split(), "--help-all"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(COMMANDS[name][0]):
        assert field.name.replace("_", "-") in text.lower()


@pytest.mark.parametrize("name", [name for name, (owner, _) in COMMANDS.items() if hasattr(owner, "HELP")])
def test_the_short_help_of_a_command_with_many_flags(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    owner = COMMANDS[name][0]
    grouped = " ".join(owner.HELP.groups.values()).split()
    assert sorted(grouped) == sorted(field.name for field in dataclasses.fields(owner)), "each flag is in one group"
    assert set(owner.HELP.usual) & set(grouped) >= {"model" if name == "train" else "models", "out"}
    # The keys of training are explained for every command that has them.
    assert set(owner.HELP.usual) - set(grouped) <= {"workers_per_node"}
    assert all(line and "\n" not in line for line in field_texts(owner).values())
    lines = text.splitlines()
    assert len(lines) < 70
    assert max(map(len, lines)) <= 100
    assert lines[-1].endswith(f"All {len(grouped)} flags: d3gan {name} --help-all")
    shown = [line.split()[0] for line in lines if line.startswith("  --")]
    usual = [word for word in grouped if word in owner.HELP.usual]
    assert shown == [f"--{word.replace('_', '-')}" for word in usual]
    for example in owner.HELP.examples:
        assert f"  d3gan {name} {example}" in lines


def test_help_shows_values_as_resolved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.ini").write_text("[parameters]\nmodel = gman\nlr = 0.007\nbatch_size = 32\n")

    def help_of(words: str) -> str:
        with pytest.raises(SystemExit):
            main(["train", *words.split()])
        return " ".join(capsys.readouterr().out.replace("│", " ").split())

    text = help_of("--config mine.ini --help --seed 5")
    for shown in ("--lr 0.007 ", "--discriminators 4 ", "--weighting softmax ", "--out runs/mnist-gman-b32-s5 "):
        assert shown in text
    assert "Values shown: mine.ini, and the flags given." in text
    assert "Values shown: the defaults." in help_of("--help")
    assert "Values shown: preset mnist-demo. " in help_of("--preset mnist-demo --help")
    assert "Values shown: the defaults, since --config no.ini: cannot be read" in help_of("--config no.ini -h")
    long = help_of("--config mine.ini --help-all")
    assert "(default: 0.007)" in long
    assert "(default: softmax)" in long
    assert "Defaults shown: mine.ini." in long
    assert "as the data needs" in long, "explanations of several lines are whole"


def test_bash_completes_commands_flags_and_their_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tyro-print-completion", "bash"]) == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    program = f"""source {script}
function=$(complete -p d3gan | sed 's/.*-F \\([^ ]*\\).*/\\1/')
offer() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); $function; echo "${{COMPREPLY[@]}}"; }}
offer d3gan t
offer d3gan data ""
offer d3gan train --ba
offer d3gan train --model dc
offer d3gan info runs/
complete -p d3gan"""
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    commands, data, flags, values, paths, how = done.stdout.splitlines()
    assert commands == "train"
    assert {"list", "fetch", "verify"} <= set(data.split())
    assert set(flags.split()) == {"--batch-size", "--bandit-alpha", "--bandit-kappa"}
    assert set(values.split()) == {"dcgan", "dcgan-controlled"}
    assert paths == ""
    assert "-o default" in how, "so bash offers files"
    assert main(["--tyro-print-completion", "csh"]) == 2
    assert "--tyro-print-completion csh: must be bash, zsh, fish" in capsys.readouterr().err


def test_overview_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == main([]) == main(["data"]) == main(["data", "--help"]) == main(["--version"]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in COMMANDS)
    assert output.splitlines()[-1] == f"d3gan {__version__}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--help"],
        ["train", "--help-all"],
        ["data", "list"],
        ["presets"],
        ["models"],
        ["train", "--lr", "x"],
    ],
)
def test_what_needs_no_torch_imports_none(arguments: list[str]) -> None:
    code = (
        "import sys; from d3gan.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules and 'scipy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_closed_pipe_is_no_error() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    command = f"{sys.executable} -m d3gan data list | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=environment)
    assert done.stderr == ""
    assert done.returncode == 141


def test_sample_writes_the_same_grid_again(run: Path, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        assert main(["sample", str(run), "--num=6", "--columns=3", f"--seed={seed}", f"--out={path}"]) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes() != paths[2].read_bytes()
    with Image.open(paths[0]) as image:
        assert image.size == (3 * 18 + 2, 2 * 18 + 2)
        small = np.asarray(image)
    assert main(["sample", str(run), "--num=6", "--columns=3", "--seed=1", f"--out={paths[1]}", "--scale=3"]) == 0
    with Image.open(paths[1]) as image:
        assert np.array_equal(np.asarray(image), small.repeat(3, axis=0).repeat(3, axis=1))


def test_sample_npz_holds_images_and_their_latents(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    assert main(["sample", str(run), "--num=5", f"--npz={path}"]) == 0
    generator = load_generator(run)
    with np.load(path) as arrays:
        assert arrays["arr_0"].shape == (5, 16, 16, 3)
        assert arrays["arr_0"].dtype == np.uint8
        assert arrays["latents"].shape == (5, 6)
    assert np.array_equal(np.load(path)["arr_0"], sample(generator, 5).permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_animations_show_every_sample_grid(suffix: str, run: Path, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    assert main(["sample", str(run), "--animate", f"--out={path}"]) == 0
    with Image.open(path) as image:
        assert image.n_frames == len(list((run / "samples").iterdir())) == 6  # type: ignore[attr-defined]
        assert image.width > 400


def test_interpolations_start_and_end_where_they_should(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "i.png"
    assert main(["sample", str(run), "--interpolate", "--num=10", "--columns=5", f"--out={path}"]) == 0
    with Image.open(path) as image:
        assert image.size == (5 * 18 + 2, 2 * 18 + 2)


def test_exported_safetensors_is_the_same_generator(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    assert main(["export", str(run), f"--out={path}"]) == 0
    ours, theirs = load_generator(run), load_generator(path)
    assert all((a == b).all() for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


def test_exported_onnx_makes_the_same_images_at_any_batch_size(run: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "g.onnx"
    # In a separate process: the exporter leaves warnings behind that would fail other tests.
    done = subprocess.run(
        [sys.executable, "-m", "d3gan", "export", str(run), "--format", "onnx", "--out", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{path}\n"
    generator = load_generator(run)
    latents = np.random.default_rng(0).standard_normal((7, 6), np.float32)
    images = runtime.InferenceSession(str(path)).run(["images"], {"latents": latents})[0]
    import torch

    expected = generator(torch.from_numpy(latents)).detach().numpy()
    assert np.abs(images - expected).max() < 1e-5


def test_python_needs_four_names(run: Path) -> None:
    import d3gan

    assert {"TrainConfig", "train", "load_generator", "sample"} < set(d3gan.__all__) == set(dir(d3gan))
    assert (d3gan.TrainConfig, d3gan.train, d3gan.sample) == (TrainConfig, train, sample)
    with pytest.raises(AttributeError):
        d3gan.trian  # noqa: B018
    images = sample(load_generator(run), 3, seed=4)
    assert images.shape == (3, 3, 16, 16)
    assert images.dtype.is_floating_point is False
    header = json.loads((run / "environment.json").read_text())
    assert header["sessions"][0]["d3gan"] == __version__
