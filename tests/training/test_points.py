"""Runs on points in the plane, from training to the comparison's page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from d3gan import TrainConfig, load_generator, sample, train
from d3gan.cli import main
from d3gan.comparison.flops import flops_per_image
from d3gan.runs.directory import RunDirectory
from d3gan.training.setup import build_gan
from d3gan.training.step import train_step

SETTINGS: dict[str, Any] = dict(
    dataset="ring8", batch_size=20, nz=2, ngf=6, ndf=4, max_steps=12, checkpoint=4, log_every=3, device="cpu",
    sample_every=6, evaluate_every=6, num_samples=60,
)  # fmt: skip


def run(folder: Path, **changes: Any) -> Path:
    return train(TrainConfig(**SETTINGS | {"out": str(folder)} | changes)).run


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_resumes_bit_for_bit_and_is_measured_by_its_modes(tmp_path: Path) -> None:
    whole = RunDirectory(run(tmp_path / "whole"))
    run(tmp_path / "parts", max_steps=5)
    parts = RunDirectory(run(tmp_path / "parts"))
    assert whole.generator.read_bytes() == parts.generator.read_bytes()
    timeless = [
        [{k: v for k, v in line.items() if "seconds" not in k} for line in lines(each.evaluations)[-1:]]
        for each in (whole, parts)
    ]
    assert timeless[0] == timeless[1]
    (last,) = timeless[0]
    assert {"modes_ring8", "quality_ring8", "kl_ring8", "num_samples"} <= last.keys()
    assert "features" not in last
    for _, file in whole.sample_grids():
        with Image.open(file) as picture:
            assert picture.size == (288, 288)


@pytest.mark.parametrize("dataset", ["ring8", "grid25"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"discriminator_norm": "batch"}, {"discriminator_norm": "spectral", "loss": "hinge"}, {"penalty": "r1,r2"}],
    ids=str,
)
def test_norms_losses_and_penalties_work_on_points(dataset: str, changes: dict[str, Any], tmp_path: Path) -> None:
    folder = run(tmp_path / "run", dataset=dataset, radius=2.0, deviation=0.3, max_steps=6, **changes)
    (line,) = lines(RunDirectory(folder).evaluations)
    assert f"modes_{dataset}-radius-2-deviation-0.3" in line


def test_the_picture_shows_points_modes_and_boundaries(tmp_path: Path) -> None:
    from d3gan.sampling.point_picture import half_side, plane, point_picture

    centers = np.array([[1.0, 0.0], [-1.0, 0.0]])
    half = half_side(centers)
    empty = np.asarray(point_picture(np.full((1, 2), 99, np.float32), half).convert("L"))
    assert (empty == 255).all()
    points = np.asarray(point_picture(np.full((1, 2), half / 2, np.float32), half).convert("L"))
    rows, columns = np.nonzero(points < 200)
    assert (rows.mean(), columns.mean()) == pytest.approx((288 / 4, 288 * 3 / 4), abs=2)  # up is positive
    right = plane(half)[:, 0]
    ground = np.asarray(point_picture(np.full((1, 2), 99, np.float32), half, None, 5 * right[None]).convert("RGB"))
    left, blue = ground[144, 20].astype(int), ground[144, -20].astype(int)
    assert left[0] > left[2]
    assert blue[2] > blue[0]


def test_samples_are_points(tmp_path: Path) -> None:
    folder = run(tmp_path / "run")
    points = sample(load_generator(folder), num=5, seed=3)
    assert (points.shape, points.dtype) == ((5, 2), torch.float32)
    assert main(["sample", str(folder)]) == 0
    with Image.open(folder / "grid.png") as picture:
        assert picture.size == (288, 288)
    assert main(["sample", str(folder), "--npz", str(tmp_path / "points.npz"), "--num", "7"]) == 0
    assert np.load(tmp_path / "points.npz")["arr_0"].shape == (7, 2)
    assert main(["sample", str(folder), "--animate"]) == 0


def test_points_are_not_interpolated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(run(tmp_path / "run", max_steps=1)), "--interpolate"]) == 2
    assert "makes points, and only images are interpolated" in capsys.readouterr().err


def test_evaluate_measures_the_modes_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(tmp_path / "run")
    capsys.readouterr()
    for source in (folder, folder / "generator.safetensors"):
        assert main(["evaluate", str(source), "--num-samples", "60", "--json"]) == 0
        record = json.loads(capsys.readouterr().out)
        last = lines(RunDirectory(folder).evaluations)[-1]
        assert {k: record[k] for k in record if "_ring8" in k} == {k: last[k] for k in last if "_ring8" in k}
    assert main(["evaluate", str(folder), "--metrics", "fid"]) == 2
    assert "--metrics fid: of ring8 there are modes" in capsys.readouterr().err


def test_compare_uses_the_divergence_and_shows_the_pictures(tmp_path: Path) -> None:
    words = [f"--{k.replace('_', '-')}={v}" for k, v in SETTINGS.items()]
    out = tmp_path / "compared"
    models = "--models=dcgan-controlled,d3gan-controlled"
    assert main(["compare", models, "--seeds=2", f"--out={out}", "--at-once=1", *words]) == 0
    document = json.loads((out / "comparison.json").read_text())
    assert document["metrics"]["ring8"] == {"distance": "kl_ring8", "others": ["modes_ring8", "quality_ring8"]}
    assert "reverse KL" in document["verdict"]
    page = (out / "report.html").read_text()
    assert "modes (ring8)" in page
    assert "FID at equal" not in page
    assert list((out / "figures").glob("modes-by-iteration-ring8*.svg"))


@pytest.mark.parametrize("changes", [{}, {"discriminators": 3, "weighting": "mean", "d_steps": 2}], ids=str)
def test_operations_are_those_that_pytorch_counts(changes: dict[str, Any]) -> None:
    config = TrainConfig(**SETTINGS | changes)
    gan = build_gan(config, torch.device("cpu"), "float64")
    images = config.images_per_step
    with FlopCounterMode(display=False) as counter:
        train_step(gan, torch.rand(images, 2).double(), torch.zeros(images, 2).double())
    assert flops_per_image(config) == counter.get_total_flops() / images
