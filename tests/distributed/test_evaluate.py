"""Evaluations by several processes: the same figures as by one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from d3gan import TrainConfig, train
from tests.conftest import tiny_settings
from tests.distributed.processes import torchrun

WORDS = ("--num-samples", "563", "--device", "cpu", "--bootstrap", "3", "--json")


def start(processes: int, words: list[str], data: Path) -> subprocess.CompletedProcess[str]:
    launcher = torchrun(processes) if processes > 1 else [sys.executable]
    command = [*launcher, "-m", "d3gan", "evaluate", *words]
    environment = os.environ | {"D3GAN_DATA": str(data)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=False)


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(TrainConfig(**tiny_settings(pictures, tmp_path_factory.mktemp("run") / "run", max_steps=3))).run


def test_one_two_and_three_processes_find_the_same(run: Path, network: Path, tmp_path: Path) -> None:
    records: list[dict[str, Any]] = []
    # A data folder of its own for each: real images and reference are prepared anew, by several at once. In the last
    # one two processes find them prepared.
    for processes, folder in ((1, "a"), (2, "b"), (3, "c"), (2, "c")):
        done = start(processes, [str(run), *WORDS, "--features", str(network)], tmp_path / folder)
        assert done.returncode == 0, done.stderr
        said = done.stderr.count("computing features")
        assert said == (len(records) < 3), "only one process speaks"
        records.append(json.loads(done.stdout))
    assert records[0]["num_samples"] == 563
    assert len([name for name in records[0] if name.endswith("_interval")]) == 8
    for record in records[1:]:
        assert record.keys() == records[0].keys()
        for name, value in record.items():
            expected = records[0][name]
            assert value == (pytest.approx(expected, abs=1e-8) if isinstance(value, float | list) else expected), name


def test_a_mistake_ends_all_processes(run: Path, network: Path, tmp_path: Path) -> None:
    done = start(2, [str(run), *WORDS, "--features", str(network), "--reference", "nowhere"], tmp_path)
    assert done.returncode != 0
    assert "no such images" in done.stderr


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "2"}, "RANK, MASTER_ADDR, MASTER_PORT is not set; start it with torchrun"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE = 'two' in the environment: must be a whole number"),
    ],
)
def test_half_an_environment_is_told_so(
    variables: dict[str, str], message: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from d3gan.cli import main

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["evaluate", str(run)]) == 2
    assert message in capsys.readouterr().err
