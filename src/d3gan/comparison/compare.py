"""Compares runs: reads them, and makes the verdict, the figures, the tables and comparison.json."""

import dataclasses
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from d3gan.comparison.curves import AXES, band_of
from d3gan.comparison.grouping import Condition, check_against, conditions_of, in_order, metrics_by_dataset
from d3gan.comparison.paired import compare_pair
from d3gan.comparison.plots_paired import paired_drawings
from d3gan.comparison.plots_quality import quality_drawings
from d3gan.comparison.plots_training import scaling_drawings, throughput_drawings, training_drawings
from d3gan.comparison.remarks import remarks_on, remarks_on_left_out
from d3gan.comparison.results import Cell, Comparison
from d3gan.comparison.runs import Run, read_runs
from d3gan.comparison.tables import tables_of
from d3gan.comparison.verdict import verdict_lines, verdict_of
from d3gan.config.train_config import TrainConfig
from d3gan.files import disk_errors, write_text
from d3gan.plotting import save


def compare_runs(
    paths: Sequence[Path], *, against: str = "", scaling: str = "", base: TrainConfig | None = None
) -> Comparison:
    """Compares runs of any number of variants, data sets, batch sizes and seeds.

    Args:
        paths: run directories.
        against: the baseline of all other variants. Empty: see ``Condition.pairs``.
        scaling: folder that ``d3gan scale`` wrote, whose figures are included; empty: none.
        base: what the variants share, see ``read_runs``; None: what most runs have.

    Returns:
        The comparison; its figures are drawn when they are needed.

    Raises:
        ConfigError: a path holds no run, ``against`` is none of the variants, or ``scaling`` holds no scaling.json.
        ExternalError: a run cannot be read.
    """
    runs = in_order(read_runs(paths, base))
    conditions, metrics = conditions_of(runs), metrics_by_dataset(runs)
    against = check_against(conditions, against)
    paired = [
        comparison
        for condition in conditions
        for pair in condition.pairs(against)
        if (distance := metrics[condition.dataset].distance)
        and (comparison := compare_pair(condition, *pair, distance)) is not None
    ]
    drawings = [
        *quality_drawings(conditions, metrics),
        *paired_drawings(paired),
        *training_drawings(conditions, metrics),
        *throughput_drawings(conditions),
        *(scaling_drawings(scaling) if scaling else ()),
    ]
    tables, verdict = tables_of(conditions, paired, metrics), verdict_of(paired)
    remarks = [remark for each in conditions for remark in remarks_on(each, metrics[each.dataset].distance)]
    remarks += remarks_on_left_out(runs, conditions)
    document = {
        "verdict": verdict,
        "remarks": remarks,
        "metrics": _plain(metrics),
        "conditions": [
            {
                "dataset": condition.dataset,
                "batch_size": condition.batch_size,
                "variants": {
                    name: _variant(by_seed, metrics[condition.dataset].all)
                    for name, by_seed in condition.variants.items()
                },
            }
            for condition in conditions
        ],
        "paired": _plain(paired),
        "tables": {
            table.name: [dict(zip(table.columns, map(_plain, row), strict=True)) for row in table.rows]
            for table in tables
        },
    }
    return Comparison(runs, verdict, drawings, tables, document, remarks, verdict_lines(paired), against)


def _variant(runs: Mapping[int, Run], metrics: Sequence[str]) -> dict[str, Any]:
    """A variant in comparison.json: its runs, and its bands by metric and axis, as a list of points each."""
    columns = [run.evaluation for run in runs.values()]
    bands: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        for axis in AXES:
            band = zip(*band_of(columns, metric, axis.name), strict=True)
            points = [{"step": step, "x": x, **value._asdict()} for step, x, value in band]
            bands.setdefault(metric, {})[axis.name] = points
    return {"runs": {str(seed): str(run.path) for seed, run in runs.items()}, "bands": bands}


def _plain(value: Any) -> Any:
    """A value as JSON has it: dataclasses and named tuples as objects; a condition as its name, a word as itself."""
    if isinstance(value, Condition):
        return value.name
    if isinstance(value, Cell) and value.value is None:
        return value.text
    if dataclasses.is_dataclass(value):
        value = vars(value)
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Writes comparison.json, and every figure as .png and .svg into the folder figures.

    Args:
        comparison: as ``compare_runs`` makes it.
        folder: made where it is missing.

    Returns:
        The files written.

    Raises:
        ExternalError: a file cannot be written.
    """
    figures = folder / "figures"
    with disk_errors(figures, "choose another folder with --out"):
        figures.mkdir(parents=True, exist_ok=True)
    paths = [folder / "comparison.json"]
    write_text(paths[0], json.dumps(comparison.document, indent=1) + "\n")
    for drawing in comparison.drawings:
        figure = drawing.draw()
        if not figure.texts:  # those of `d3gan scale` have a title
            figure.suptitle(textwrap.fill(drawing.title, 50), fontsize=11, parse_math=False)
        for ending in (".svg", ".png"):
            paths.append(figures / f"{drawing.name}{ending}")
            save(figure, paths[-1])
    return paths
