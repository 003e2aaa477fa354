"""MD-GAN in two processes: the step of one process, the same files, and runs that end and resume."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from d3gan import TrainConfig, train
from d3gan.distributed.group import Group
from d3gan.runs.checkpoint import checkpoints, load_checkpoint
from d3gan.runs.directory import RunDirectory
from d3gan.training.setup import build_gan
from tests.distributed.md_gan_programs import CASES, config, steps, tensors
from tests.distributed.processes import ROOT, launch, results_of_two, torchrun, wait_for, workers
from tests.distributed.test_train import last_step, settings, started, words
from tests.training.test_loop import assert_same_run, metrics

__all__ = ["started"]  # a fixture
FOUR: dict[str, Any] = dict(model="md-gan", discriminators=4, batch_size=4, epochs=30)
"""Two processes with two discriminators each: 150 steps, a swap every 5."""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return results_of_two("tests.distributed.md_gan_programs", tmp_path_factory.mktemp("md-gan"))


@pytest.mark.parametrize("name", CASES)
def test_two_processes_do_what_one_does_with_all_discriminators(ranks: list[dict[str, Any]], name: str) -> None:
    one, two = steps(name, Group()), ranks[0]["steps"][name]
    assert one["swaps"] == two["swaps"] > 0
    for key in ("results", "diagnostics"):
        torch.testing.assert_close(two[key], one[key], rtol=0, atol=1e-10, msg=key)
    ours, theirs = (
        {**each["generator"], **each["generator_optimizer"], **each["states"]["discriminators"]}
        | {f"D{key}": value for key, value in each["states"]["discriminator_optimizer"].items()}
        for each in (one, two)
    )
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(theirs[key], value, rtol=0, atol=1e-10, msg=key)


@pytest.mark.parametrize("name", CASES)
def test_the_generators_stay_equal(ranks: list[dict[str, Any]], name: str) -> None:
    first, second = (each["steps"][name] for each in ranks)
    for part in ("generator", "generator_optimizer"):
        for key, value in first[part].items():
            assert torch.equal(value, second[part][key]), key
    assert torch.equal(first["results"], second["results"])


def test_only_the_generators_gradients_losses_and_swaps_are_exchanged(ranks: list[dict[str, Any]]) -> None:
    gan = build_gan(config("four, whose pairs cross", 1), torch.device("cpu"), "float64")
    generator = sum(p.numel() for p in gan.generator.parameters())
    statistics = sum(b.numel() for b in gan.generator.buffers() if b.is_floating_point())
    of_one = sum(p.numel() for p in gan.discriminators.members[0].parameters())
    for seen in (each["reductions"] for each in ranks):
        assert sum(seen["gradients"]) == 3 * generator
        assert seen["others"] == [2 * 4 + statistics + 1] * 3
        assert set(seen["swaps"]) <= {3 * of_one}
        assert len(seen["swaps"]) in (0, 2)


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nobody disturbed."""
    folder = tmp_path_factory.mktemp("md-gan-whole")
    launcher = launch(["--workers-per-node=2", *words(pictures, folder / "run", **FOUR)], folder / "log")
    assert launcher.wait(100) == 0, (folder / "log").read_text()
    return folder / "run"


def test_checkpoints_hold_all_discriminators_and_the_log_their_means(
    whole: Path, pictures: Path, tmp_path: Path
) -> None:
    one = train(TrainConfig(**settings(pictures, tmp_path / "one", **FOUR | {"batch_size": 8}))).run
    for ours, theirs in zip(metrics(one), metrics(whole), strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert value == pytest.approx(theirs[name], abs=1e-5), name  # kept in float32
    a, b = (load_checkpoint(checkpoints(run / "checkpoints")[-1]) for run in (one, whole))
    assert a.keys() == b.keys()
    for part in ("generator", "discriminators", "generator_optimizer", "discriminator_optimizer"):
        ours, theirs = (tensors(state[part]) for state in (a, b))
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            torch.testing.assert_close(theirs[key], value, rtol=0, atol=1e-8, msg=key)
    assert a["discriminator_optimizer"]["param_groups"] == b["discriminator_optimizer"]["param_groups"]


def test_a_run_stopped_around_a_swap_goes_on_bit_for_bit(pictures: Path, tmp_path: Path) -> None:
    """Two processes in float32; the second swap comes before step 11."""
    runs = [("whole", 0), *(("parts", last) for last in (4, 5, 6, 10, 11, 0))]
    told = [
        settings(pictures, tmp_path / out, **FOUR | dict(precision="float32", epochs=4, max_steps=last))
        for out, last in runs
    ]
    command = [*torchrun(2), "-m", "tests.distributed.several_runs", *map(json.dumps, told)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_the_picture_of_points_shows_the_discriminators_of_all_processes(tmp_path: Path) -> None:
    ring: dict[str, Any] = dict(dataset="ring8", model="md-gan", discriminators=4, precision="float64", device="cpu")
    ring |= dict(nz=3, ngf=4, ndf=8, max_steps=12, sample_every=12, lr=0.03, seed=1)
    two = json.dumps(ring | dict(batch_size=8, out=str(tmp_path / "two")))
    command = [*torchrun(2), "-m", "tests.distributed.several_runs", two]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    one = train(TrainConfig(**ring | dict(batch_size=16, out=str(tmp_path / "one")))).run
    pictures = [
        np.asarray(Image.open(RunDirectory(run).sample(12)).convert("RGB")) for run in (one, tmp_path / "two")
    ]
    assert pictures[0].shape == pictures[1].shape
    assert (pictures[0] != pictures[1]).mean() < 0.001  # a point that rounds to the pixel beside


@pytest.mark.slow
def test_a_killed_rank_changes_nothing(whole: Path, tmp_path: Path, started: Any) -> None:
    run = tmp_path / "run"
    launcher = started("--workers-per-node=2", "--max-restarts=2", **FOUR)
    wait_for(lambda: last_step(run) > 40)
    workers(launcher)[1].kill()
    assert launcher.wait(100) == 0, (tmp_path / "log").read_text()
    assert "restart 1 of 2" in (tmp_path / "log").read_text()
    assert_same_run(whole, run)


def test_a_run_of_one_process_goes_on_in_two_and_back(
    whole: Path, pictures: Path, tmp_path: Path, started: Any
) -> None:
    one = FOUR | {"batch_size": 8}
    train(TrainConfig(**settings(pictures, tmp_path / "run", **one, max_steps=10)))  # to a swap
    assert started("--workers-per-node=2", **FOUR, max_steps=26).wait(60) == 0, (tmp_path / "log").read_text()
    train(TrainConfig(**settings(pictures, tmp_path / "run", **one)))
    a, b = (load_checkpoint(checkpoints(run / "checkpoints")[-1]) for run in (tmp_path / "run", whole))
    for part in ("generator", "discriminators", "discriminator_optimizer"):
        ours, theirs = (tensors(state[part]) for state in (a, b))
        for key, value in ours.items():
            torch.testing.assert_close(theirs[key], value, rtol=0, atol=1e-8, msg=key)


def test_processes_that_cannot_share_the_discriminators_get_one_line(tmp_path: Path, started: Any) -> None:
    launcher = started("--workers-per-node=2", model="md-gan", discriminators=3)
    assert launcher.wait(60) == 2
    errors = [line for line in (tmp_path / "log").read_text().splitlines() if "error" in line]
    assert len(errors) == 1
    assert "discriminators = 3: must be a multiple of the number of processes, here 2" in errors[0]
