"""``d3gan scale`` as a user calls it, with networks of a few channels."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from d3gan.errors import ConfigError
from d3gan.scaling.command import table, workloads_of
from d3gan.scaling.options import Scale

CONFIG = "[parameters]\nbatch_size = 4\nnz = 6\nngf = 4\nndf = 4\nimage_size = 16\n"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.ini"
    path.write_text(CONFIG)
    return path


def scale(words: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "d3gan", "scale", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture(scope="module")
def out(config: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scaling")
    words = [f"--config={config}", f"--dataset={pictures}", f"--out={out}", "--workers=1,2", "--batch-sizes=4,8"]
    done = scale([*words, "--seconds=0.2", "--rounds=2", "--device=cpu", "--precision=float32", "--project=16"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("efficiency") == 1
    assert str(out / "scaling.json") in done.stdout
    return out


def test_everything_is_measured_and_adds_up(out: Path) -> None:
    document = json.loads((out / "scaling.json").read_text())
    rows = document["rows"]
    found = [(row["model"], row["workers"], row["batch_size"]) for row in rows]
    assert found == [(model, workers, size) for model in ("dcgan", "d3gan") for size in (4, 8) for workers in (1, 2)]
    for row in rows:
        assert row["global_batch_size"] == row["workers"] * row["batch_size"]
        assert len(row["rounds"]) == 2
        slowest = max(found["step_seconds"] for found in row["rounds"])
        assert row["images_per_second"]["low"] == pytest.approx(row["global_batch_size"] / slowest)
        for name in ("images_per_second", "step_seconds", "compute_seconds", "epoch_seconds", "utilization"):
            low, median, high = (row[name][key] for key in ("low", "median", "high"))
            assert 0 < low <= median <= high, name
        assert row["utilization"]["high"] <= 1
        assert 0 <= row["data_seconds"]["high"] < row["step_seconds"]["high"]
        assert (row["communication_seconds"]["high"] == 0) or row["workers"] == 2
        steps = 44 // row["global_batch_size"]
        assert row["epoch_seconds"]["low"] == pytest.approx(steps * row["step_seconds"]["low"])
    (swept,) = document["all_reduce"]["sweeps"]
    assert (swept["workers"], len(swept["points"])) == (2, 9)
    assert swept["points"][-1]["seconds"]["median"] > swept["points"][0]["seconds"]["median"]
    sizes = document["gradients"]
    assert sizes["d3gan"]["discriminator_bytes"] == 2 * sizes["dcgan"]["discriminator_bytes"]
    assert document["projection"]["upto"] == 16
    assert document["projection"]["models"]["d3gan"]["workers"][-1] == 16


def test_every_plot_is_there(out: Path) -> None:
    names = ["batch_size", "epoch_time", "projection", "speedup", "throughput", "time_split", "utilization"]
    assert sorted(path.stem for path in out.glob("*.png")) == names


def test_the_table_compares_with_one_process(out: Path) -> None:
    lines = table(json.loads((out / "scaling.json").read_text())).splitlines()
    assert len(lines) == 9
    assert [line.split()[4] for line in lines[1::2]] == ["1.00"] * 4


def test_one_process_needs_no_launcher(config: Path, pictures: Path, tmp_path: Path) -> None:
    words = [f"--config={config}", f"--dataset={pictures}", f"--out={tmp_path}", "--workers=1", "--rounds=1"]
    done = scale([*words, "--seconds=0.1", "--models=d3gan", "--device=cpu"])
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "scaling.json").read_text())["all_reduce"] is None


@pytest.mark.slow
def test_md_gan_is_measured_where_its_discriminators_can_be_shared(
    config: Path, pictures: Path, tmp_path: Path
) -> None:
    words = [f"--config={config}", f"--dataset={pictures}", f"--out={tmp_path}", "--workers=1,2", "--rounds=1"]
    done = scale([*words, "--seconds=0.1", "--models=d3gan,md-gan", "--device=cpu"])
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "scaling.json").read_text())
    one, two, alone, together = document["rows"]
    assert one["exchanged_bytes"] == alone["exchanged_bytes"] == 0
    sizes = document["gradients"]["md-gan"]
    assert sizes["generator_bytes"] < together["exchanged_bytes"]
    assert two["exchanged_bytes"] == sum(document["gradients"]["d3gan"].values())
    assert "MB/step" in table(document)
    options = Scale(workers="1,2,4", models="md-gan,dcgan", batch_sizes="3,8")
    assert [(w.model, w.workers, w.batch_size) for w in workloads_of(options) if w.model == "md-gan"] == [
        ("md-gan", 2, 3),
        ("md-gan", 1, 8),
        ("md-gan", 2, 8),
    ]


def test_strong_scaling_shares_the_batch_out() -> None:
    options = Scale(workers="1,2,4", mode="strong", batch_sizes="6,8", models="d3gan")
    assert [(w.workers, w.batch_size) for w in workloads_of(options)] == [(1, 6), (2, 3), (1, 8), (2, 4), (4, 2)]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (dict(workers="2,4"), "--workers 2,4: must hold 1"),
        (dict(workers="1,x"), "--workers 1,x: must be whole numbers above 0 with commas"),
        (dict(batch_sizes="1"), "--batch-sizes 1: must be at least 2"),
        (dict(models="d3gan,dcgn"), "--models: 'dcgn' is unknown .did you mean 'dcgan'"),
        (dict(models=","), "--models is empty"),
        (dict(seconds=0.0), "seconds = 0.0: must be from 0.1"),
        (dict(project=1024, workers="1"), "--project 1024: needs an all-reduce measured"),
        (dict(project=1024, mode="strong"), "not --mode strong"),
        (dict(nnodes=2), "--nnodes above 1: needs --rdzv-endpoint"),
        (dict(nnodes=2, rdzv_endpoint="a:1", workers="1,3"), "the largest must be a multiple of --nnodes 2"),
        (dict(config="nowhere.ini"), "nowhere.ini: cannot be read"),
    ],
)
def test_mistakes_get_one_line(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Scale(**flags)


def test_too_few_images_are_refused_before_anything_is_measured(config: Path, pictures: Path, tmp_path: Path) -> None:
    words = [f"--config={config}", f"--dataset={pictures}", f"--out={tmp_path}", "--batch-sizes=40", "--device=cpu"]
    done = scale(words)
    assert done.returncode == 2
    assert "error: a step needs 80 images, the data set has 44" in done.stderr
    assert not list(tmp_path.iterdir())
