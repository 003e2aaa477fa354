"""What the page says of the runs: the table of them, how they differ, the command that repeats each."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest

from d3gan.comparison.results import Cell, Comparison
from d3gan.comparison.runs import Run
from d3gan.comparison.variants import VARIANT_KEYS, variant_of
from d3gan.config.command_line import parse_flags
from d3gan.config.train_config import TrainConfig
from d3gan.report.reproduce import repeat_of, words_of
from d3gan.report.run_tables import differences_table, runs_table
from d3gan.sweep.options import Compare
from d3gan.sweep.plan import sweep_configs
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


def as_sweep(flags: list[str], folder: Path) -> tuple[Compare, list[Run]]:
    """What `d3gan compare` would train with some flags, as runs."""
    options = parse_flags(Compare, [*flags, f"--out={folder}"], "d3gan compare")
    configs = sweep_configs(options)
    session = {"data": {"name": "images"}}
    runs = [Run(Path(each.out), each, "", each.dataset_name, [session], [], [], []) for each in configs]
    usual = options.shared
    names = [[key for key in VARIANT_KEYS if getattr(each, key) != getattr(usual, key)] for each in configs]
    named = [variant_of(each, keys) for each, keys in zip(configs, names, strict=True)]
    return options, [dataclasses.replace(run, variant=name) for run, name in zip(runs, named, strict=True)]


SWEEPS = [
    "--models dcgan d3gan d3gan-controlled dcgan-controlled --seeds 0 --preset mnist-demo",
    "--models dcgan dcgan+activation=mish+lr=1e-3 --against dcgan --max-steps 500 --ema 0.9 --batch-sizes 32 64",
    "--model gman --dataset ring8 --max-steps 100 --nz 2 --radius 2 --seeds 3 1",
    "--ablation --datasets mnist svhn --max-steps 1000 --no-deterministic",
    "--models d3gan+penalty=r1:0.05,r2:0.05+discriminator_norm=none dcgan --max-steps 100 --sample-every 7",
]


@pytest.mark.parametrize("flags", SWEEPS)
def test_one_command_repeats_the_whole_comparison(flags: str, tmp_path: Path) -> None:
    options, runs = as_sweep(flags.split(), tmp_path)
    comparison = Comparison(runs[::-1], "", [], [], {}, against=options.baseline)
    (words,) = repeat_of(comparison)
    program, command, *again = shlex.split(" ".join(words))
    assert (program, command) == ("d3gan", "compare")
    options_again, runs_again = as_sweep([word for word in again if word != "--out=again"], tmp_path)
    assert sorted((run.variant, run.config.out) for run in runs_again) == sorted(
        (run.variant, run.config.out) for run in runs
    )
    assert all(run.config in [other.config for other in runs] for run in runs_again)
    assert options_again.baseline == options.baseline


@pytest.mark.parametrize("change", [{"max_steps": 70}, {"seed": 9}, {"evaluate_every": 0}, {"dataset": "a,b"}])
def test_runs_that_are_no_sweep_are_repeated_one_by_one(change: dict[str, Any], tmp_path: Path) -> None:
    _, runs = as_sweep(["--max-steps", "500", "--seeds", "0", "1"], tmp_path)
    runs[1:] = [dataclasses.replace(run, config=dataclasses.replace(run.config, **change)) for run in runs[1:]]
    lines = repeat_of(Comparison(runs, "", [], [], {}, against="dcgan"))
    assert lines == [*map(words_of, runs), ["d3gan", "report", "again", "--against=dcgan"]]
    assert repeat_of(Comparison(runs[:1], "", [], [], {})) == []
    _, runs = as_sweep(["--max-steps", "500", "--seeds", "0", "1"], tmp_path)
    runs = [dataclasses.replace(run, sessions=[{"world_size": 2}]) for run in runs]
    assert len(repeat_of(Comparison(runs, "", [], [], {}))) == 5, "`d3gan compare` starts one process for each run"


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
