"""The tables of the runs and of the differences between their configs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from d3gan.comparison.results import Cell, Table
from d3gan.comparison.runs import Run
from d3gan.config.train_config import TrainConfig
from d3gan.evaluation.metric_names import NOT_COMPUTED, metric_label, metric_text, metrics_of
from d3gan.formatting import duration

# Where files are; the seed, which the table of runs shows; the model, which the variant's name shows.
_NO_DIFFERENCE = {"out", "data_dir", "seed", "model"}


def names_of(runs: Sequence[Run]) -> list[str]:
    """The names of the runs: their folders' names, or the whole paths where two folders have the same name."""
    names = [run.name for run in runs]
    return [str(run.path) if names.count(name) > 1 else name for name, run in zip(names, runs, strict=True)]


def runs_table(runs: Sequence[Run]) -> Table:
    """One row per run, with the metrics of its last evaluation."""
    last = [run.evaluations[-1] if run.evaluations else {} for run in runs]
    metrics = list(metrics_of({name: 0.0 for record in last for name in metrics_of(record)}))
    columns = ["run", "variant", "data set", "batch size", "seed", "steps"]
    columns += [*map(metric_label, metrics), "training time", "device"]
    rows = []
    for name, run, record in zip(names_of(runs), runs, last, strict=True):
        seconds = _largest(run, "training_seconds")
        rows.append(
            [
                Cell(name),
                Cell(run.variant),
                Cell(run.dataset),
                _count(run.config.batch_size * run.config.grad_accum_steps),
                _count(run.config.seed),
                _count(_largest(run, "step")),
                *(_metric(record, metric) for metric in metrics),
                Cell("-") if seconds is None else Cell(duration(seconds), seconds),
                Cell(device_of(run)),
            ]
        )
    caption = "Metrics of each run's last evaluation. Batch size: per process. Training time: hours:minutes:seconds."
    return Table("runs", "Runs", caption, columns, rows)


def _largest(run: Run, key: str) -> Any:
    """The largest value of a key in the run's metrics and evaluations; None where neither has it."""
    values = [line.get(key) for line in (*run.metrics, *run.evaluations)]
    return max((value for value in values if isinstance(value, int | float)), default=None)


def _count(number: Any) -> Cell:
    return Cell("-") if number is None else Cell(f"{number:,}", number)


def _metric(record: Mapping[str, Any], name: str) -> Cell:
    if name not in record:
        return Cell("not computed" if NOT_COMPUTED in record else "-")
    value_and_deviation = {key: record[key] for key in (name, f"{name}_deviation") if key in record}
    return Cell(metric_text(value_and_deviation, name), record[name])


def device_of(run: Run) -> str:
    """The device of the run's last session."""
    if not run.sessions:
        return "not known"
    session = run.sessions[-1]
    device, name = str(session.get("device", "")), str(session.get("device_name") or "")
    processes = session.get("world_size", 1)
    text = f"{name} ({device})" if name else device
    return f"{processes} x {text}" if processes != 1 else text


def differences_table(runs: Sequence[Run]) -> Table:
    """One row per config, whatever its seed, with the keys that differ between the configs."""
    configs = [_values(run.config) | {"dataset": run.dataset} for run in runs]
    keys = [key for key in configs[0] if key not in _NO_DIFFERENCE and len({each[key] for each in configs}) > 1]
    counts: dict[tuple[str, ...], int] = {}
    for run, config in zip(runs, configs, strict=True):
        row = (run.variant, *(config[key] for key in keys))
        counts[row] = counts.get(row, 0) + 1
    caption = "All other keys are the same in all runs. Keys that the model decides have the values that it decided."
    rows = [[*(_value(text) for text in row), Cell(str(count), count)] for row, count in counts.items()]
    return Table("differences", "What differs", caption, ["variant", *keys, "runs"], rows)


def shared_keys(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Key and value of what all configs share, in the order of the config."""
    configs = [_values(run.config) for run in runs]
    return [(key, value) for key, value in configs[0].items() if all(each[key] == value for each in configs)]


def _values(config: TrainConfig) -> dict[str, str]:
    return {
        key: str(value) for key, value in (dataclasses.asdict(config) | dataclasses.asdict(config.recipe)).items()
    }


def _value(text: str) -> Cell:
    try:
        return Cell(text, float(text))
    except ValueError:
        return Cell(text or "(empty)")
