"""What was run: the table of runs, what differs between their configs, their environment, the command for each."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from d3gan.comparison.results import Cell, Table
from d3gan.comparison.runs import Run
from d3gan.config.train_config import TrainConfig
from d3gan.evaluation.metric_names import NOT_COMPUTED, metric_label, metric_text, metrics_of

# Where a run was kept; what the table of runs says; what the variant says, with the keys that a model decides.
_NO_DIFFERENCE = {"out", "data_dir", "seed", "model"}


def names_of(runs: Sequence[Run]) -> list[str]:
    """What the runs are called: by their folders, and where two are called alike by the path."""
    names = [run.name for run in runs]
    return [str(run.path) if names.count(name) > 1 else name for name, run in zip(names, runs, strict=True)]


def runs_table(runs: Sequence[Run]) -> Table:
    """A row a run, with the figures of its last evaluation."""
    last = [run.evaluations[-1] if run.evaluations else {} for run in runs]
    order = {name: None for record in last for name in metrics_of(record)}
    figures = list(metrics_of(dict.fromkeys(order, 0.0)))
    columns = ["run", "variant", "data set", "batch size", "seed", "steps"]
    columns += [*map(metric_label, figures), "training time", "device"]
    rows = [
        [
            Cell(name),
            Cell(run.variant),
            Cell(run.dataset),
            _count(run.config.batch_size * run.config.grad_accum_steps),
            _count(run.config.seed),
            _count(_last(run, "step")),
            *(_figure(record, figure) for figure in figures),
            _duration(_last(run, "training_seconds")),
            Cell(device_of(run)),
        ]
        for name, run, record in zip(names_of(runs), runs, last, strict=True)
    ]
    caption = "Figures of each run's last evaluation. Batch size: of each process."
    return Table("runs", "Runs", caption, columns, rows)


def _last(run: Run, key: str) -> Any:
    """A run's highest value of something that only grows."""
    values = [line.get(key) for line in (*run.metrics, *run.evaluations)]
    return max((value for value in values if isinstance(value, int | float)), default=None)


def _count(number: Any) -> Cell:
    return Cell("-") if number is None else Cell(f"{number:,}", number)


def _duration(seconds: float | None) -> Cell:
    if seconds is None:
        return Cell("-")
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"
    return Cell(text, seconds)


def _figure(record: Mapping[str, Any], name: str) -> Cell:
    if name not in record:
        return Cell("not computed" if NOT_COMPUTED in record else "-")
    kept = {key: record[key] for key in (name, f"{name}_deviation") if key in record}
    return Cell(metric_text(kept, name), record[name])


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
    """A row each config that was run, whatever its seed, with the keys that are not the same in all."""
    settings = [_settings(run.config) | {"dataset": run.dataset} for run in runs]
    keys = [key for key in settings[0] if key not in _NO_DIFFERENCE and len({each[key] for each in settings}) > 1]
    rows: dict[tuple[str, ...], int] = {}
    for run, each in zip(runs, settings, strict=True):
        row = (run.variant, *(each[key] for key in keys))
        rows[row] = rows.get(row, 0) + 1
    caption = "All other keys are the same in all runs; those a model decides are given as it decided them."
    cells = [[*(_setting(text) for text in row), Cell(str(number), number)] for row, number in rows.items()]
    return Table("differences", "What differs", caption, ["variant", *keys, "runs"], cells)


def shared_settings(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Key and value of what is the same in all configs, in the order of the config."""
    settings = [_settings(run.config) for run in runs]
    return [(key, value) for key, value in settings[0].items() if all(each[key] == value for each in settings)]


def _settings(config: TrainConfig) -> dict[str, str]:
    return {
        key: str(value) for key, value in (dataclasses.asdict(config) | dataclasses.asdict(config.recipe)).items()
    }


def _setting(text: str) -> Cell:
    try:
        return Cell(text, float(text))
    except ValueError:
        return Cell(text or "(empty)")
