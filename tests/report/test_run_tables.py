"""What the page says of the runs: the table of them, how they differ, the command that repeats each."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest

from d3gan.comparison.results import Cell
from d3gan.comparison.runs import Run
from d3gan.config.command_line import parse_flags
from d3gan.config.train_config import TrainConfig
from d3gan.report.reproduce import words_of
from d3gan.report.run_tables import differences_table, runs_table
from d3gan.training.options import Train
from tests.report.synthetic import FID, read_run, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    place = tmp_path_factory.mktemp("runs")
    models: tuple[Any, ...] = ("dcgan", "d3gan")
    pairs = [(model, seed) for model in models for seed in (0, 1)]
    return [read_run(write_run(place / f"{model}-s{seed}", model=model, seed=seed, grids=1)) for model, seed in pairs]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": "dcgan", "discriminators": 3, "lr": 1e-4, "seed": 7, "tensorboard": True, "deterministic": False},
        {"dataset": "a b/$HOME's; rm", "ema": 0.999, "metrics": "fid,kid", "num_samples": 50},
    ],
)
def test_the_command_trains_the_same_run(changes: dict[str, Any], tmp_path: Path) -> None:
    config = TrainConfig(out=str(tmp_path / "run"), **changes)
    run = Run(tmp_path / "run", config, config.model, "images", [], [], [], [])
    program, command, *flags = shlex.split(" ".join(words_of(run)))
    assert (program, command) == ("d3gan", "train")
    again = parse_flags(Train, flags, "d3gan train")
    for field in dataclasses.fields(TrainConfig):
        if field.name != "out":
            assert getattr(again, field.name) == getattr(config, field.name), field.name


def test_the_command_starts_as_many_processes(runs: list[Run]) -> None:
    session = {"world_size": 4, "processes": [{"host": host} for host in "aabb"]}
    run = dataclasses.replace(runs[0], sessions=[session])
    flags = parse_flags(Train, shlex.split(" ".join(words_of(run)))[2:], "d3gan train")
    assert (flags.workers_per_node, flags.nnodes) == (2, 2)


def test_tables_say_what_the_runs_are_and_how_they_differ(runs: list[Run]) -> None:
    table = runs_table(runs)
    assert len({len(row) for row in [table.columns, *table.rows]}) == 1
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert row["steps"] == Cell("1,200", 1200)
    assert row["training time"].text == "0:01:00"
    assert row["FID (efficientnet-lite0, train)"].value == runs[0].evaluations[-1][FID]
    assert row["IS (efficientnet-lite0)"].text.endswith(" ± 0.100")
    differences = differences_table(runs)
    assert differences.columns == ["variant", "discriminators", "activation", "schedule", "runs"]
    assert [[cell.text for cell in row] for row in differences.rows] == [
        ["dcgan", "1", "relu", "linear", "2"],
        ["d3gan", "2", "mish", "constant", "2"],
    ]
