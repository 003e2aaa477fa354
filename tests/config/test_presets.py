"""Presets: what each says of itself, and ``--preset`` as a person types it."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from d3gan import TrainConfig
from d3gan.cli import main
from d3gan.config.ini import load_config
from d3gan.config.presets import load_preset, preset_header, preset_names
from tests.conftest import tiny_settings

DEMO = "mnist-demo"


def flags(pictures: Path, out: Path, *keep: str) -> list[str]:
    """Flags that make a tiny run of two steps, all but those of the keys to keep from the preset."""
    settings = tiny_settings(pictures, out, max_steps=2, evaluate_every=0, num_samples=4)
    return [f"--{key.replace('_', '-')}={value}" for key, value in settings.items() if key not in keep]


@pytest.mark.parametrize("name", preset_names())
def test_each_preset_can_be_read_and_says_what_it_is_for_and_what_to_expect(name: str) -> None:
    load_preset(name)
    purpose, expected = preset_header(name)
    assert len(purpose) > 20
    assert re.search(r"not measured here|docs/\w+\.md", expected), "a result needs its source"


def test_the_list_says_of_each_what_it_is_for_costs_and_leads_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    text = capsys.readouterr().out
    assert re.findall(r"(?m)^\S+$", text) == preset_names()
    words = " ".join(text.split())
    for name in preset_names():
        assert all(part in words for part in preset_header(name))
    # 60,000 digits are 1,875 batches of 32.
    steps, size = 1875 * load_preset(DEMO).epochs, load_preset(DEMO).batch_size
    assert re.search(rf"{DEMO} for .* cost \d,\d{{3}} GFLOP per run: {steps:,} steps of {size} images", words)


def test_a_printed_preset_is_a_config_file_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", DEMO]) == 0
    (tmp_path / "mine.ini").write_text(capsys.readouterr().out)
    assert load_config(tmp_path / "mine.ini") == load_preset(DEMO)


def test_train_reads_a_preset_under_the_flags_and_not_the_folders_config(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.ini").write_text("[parameters]\nbeta1 = 0.4\n")
    assert main(["train", f"--preset={DEMO}", *flags(pictures, Path("run"), "ngf", "checkpoint")]) == 0
    settings = tiny_settings(pictures, Path("run"), max_steps=2, evaluate_every=0, num_samples=4)
    preset = dataclasses.asdict(load_preset(DEMO))
    settings |= {key: preset[key] for key in ("ngf", "checkpoint")}
    assert load_config("run/config.ini") == TrainConfig(**(preset | settings))


def test_a_preset_reaches_the_processes_of_a_run(pictures: Path, tmp_path: Path) -> None:
    words = ["train", "--workers-per-node=2", f"--preset={DEMO}", *flags(pictures, tmp_path / "run", "checkpoint")]
    done = subprocess.run([sys.executable, "-m", "d3gan", *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert load_config(tmp_path / "run" / "config.ini").checkpoint == load_preset(DEMO).checkpoint


def test_compare_and_scale_read_a_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--preset=cifar10-64", "--dry-run", "--max-steps=5", f"--out={tmp_path}"]) == 0
    assert "cifar10-d3gan-b64-s0: to be trained" in capsys.readouterr().out
    from d3gan.scaling.options import Scale

    assert Scale(preset="cifar10-64").train_config.batch_size == 64


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["train", "--preset=mnist-dmo"],
            "preset mnist-dmo: unknown (did you mean 'mnist-demo'?); allowed: cifar10-",
        ),
        (["compare", "--preset", "../config"], "preset ../config: unknown; allowed: cifar10-256, cifar10-512, "),
        (["presets", "mnist-dmo"], "preset mnist-dmo: unknown (did you mean 'mnist-demo'?)"),
        (["scale", "--preset", "mnist"], "preset mnist: unknown (did you mean 'mnist-demo'?)"),
        (["train", "--preset=mnist-demo", "--config=a.ini"], "--preset mnist-demo and --config a.ini: give one of"),
        (["scale", "--preset=mnist-demo", "--config=a.ini"], "--preset mnist-demo and --config a.ini: give one of"),
        (["train", "--preset=mnist-demo", "--nc=2"], "error: nc = 2: must be one of 1, 3"),
    ],
)
def test_a_bad_preset_gets_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
