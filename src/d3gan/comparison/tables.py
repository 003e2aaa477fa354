"""The tables of a comparison."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from d3gan.comparison.curves import AXES, band_of, bands_by_discriminator, curve_of, losses_at_evaluations, over_seeds
from d3gan.comparison.formatting import digits, interval_text, p_text, ratio_text, with_prefix
from d3gan.comparison.grouping import Condition, MetricNames
from d3gan.comparison.paired import PairedComparison
from d3gan.comparison.results import Cell, Table
from d3gan.comparison.runs import Run
from d3gan.comparison.statistics import Interval, PairedRatio, correlation_interval, rank_correlation, ratio_interval
from d3gan.evaluation.metric_names import metric_label, shared_word

_INTERVALS = "Means over the seeds with 95 % Student intervals; geometric means for distances, times and rates."
_NO_INTERVALS = "One seed, which has no interval."


def tables_of(
    conditions: Sequence[Condition], paired: Sequence[PairedComparison], metrics: Mapping[str, MetricNames]
) -> list[Table]:
    """All tables that hold something.

    Args:
        conditions: the runs in order.
        paired: the variants compared with their baselines.
        metrics: data set -> what its runs are compared by.
    """
    tables = [_final(conditions, metrics), _equal_cost(paired), _targets(paired), _losses(conditions, metrics)]
    return [table for table in tables if table.rows]


def _table(name: str, title: str, caption: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of rows that each map a column to its value."""
    columns = list(rows[0]) if rows else []
    return Table(name, title, caption, columns, [[_cell(value) for value in row.values()] for row in rows])


def _cell(value: Any) -> Cell:
    match value:
        case Cell():
            return value
        case Interval():
            return Cell(interval_text(value), value.mean)
        case PairedRatio():
            return Cell(ratio_text(value), value.interval.mean)
        case int():
            return Cell(f"{value}", value)
    return Cell("-" if value is None else value)


def _variants(conditions: Sequence[Condition]) -> list[tuple[dict[str, Any], list[Run]]]:
    """Each variant under each condition: how its row starts, and its runs."""
    return [
        ({"data set": each.dataset, "batch size": each.batch_size, "variant": name}, list(runs.values()))
        for each in conditions
        for name, runs in each.variants.items()
    ]


def _pair(each: PairedComparison) -> dict[str, Any]:
    """How the rows of a paired comparison start."""
    names = {"data set": each.condition.dataset, "batch size": each.condition.batch_size, "variant": each.variant}
    return names | {"baseline": each.baseline, "seeds": len(each.seeds)}


def _final(conditions: Sequence[Condition], metrics: Mapping[str, MetricNames]) -> Table:
    # A column for each metric, whose heading names extractor and reference where all data sets share them.
    by_word: dict[str, set[str]] = {}
    for names in metrics.values():
        for name in names.all:
            by_word.setdefault(shared_word([name]), set()).add(metric_label(name))
    headers = {word: next(iter(labels)) if len(labels) == 1 else word for word, labels in by_word.items()}
    distance = shared_word(names.distance for names in metrics.values())
    rows = []
    for row, runs in _variants(conditions):
        names, steps = metrics[runs[0].dataset], runs[0].last_step
        row |= {"seeds": len(runs), "iterations": Cell(f"{steps:,}", steps)}
        of_word = {shared_word([name]): name for name in names.all}
        for word, header in headers.items():
            name = of_word.get(word, "")
            curves = [(run, curve_of(run.evaluation, name)) for run in runs]
            # A run whose last evaluation lacks the metric has no final value.
            last = [c.values[-1] for run, c in curves if c.steps and c.steps[-1] == run.evaluations[-1]["step"]]
            row[header] = over_seeds(name, last) if last else None
        best = [min(values) for run in runs if (values := curve_of(run.evaluation, names.distance).values)]
        seconds = [each for run in runs if run.metrics and (each := float(run.training["seconds"][-1])) > 0]
        rates = [rate for run in runs if (rate := run.images_per_second)]
        flops = float(np.nan_to_num(runs[0].training["flops"][-1])) if runs[0].metrics else 0.0
        rows.append(
            row
            | {
                f"best {distance}": over_seeds(names.distance, best) if best else None,
                "seconds of training": ratio_interval(seconds) if seconds else None,
                "images/s": ratio_interval(rates) if rates else None,
                "arithmetic": Cell(f"{with_prefix(flops)}FLOP", flops),
            }
        )
    by_dataset = [f" {dataset}: {', '.join(map(metric_label, names.all))}." for dataset, names in metrics.items()]
    several = any(len(labels) > 1 for labels in by_word.values())
    seeds = max(len(runs) for each in conditions for runs in each.variants.values())
    intervals = _INTERVALS if seeds > 1 else _NO_INTERVALS
    caption = f"At the last evaluation.{''.join(by_dataset) if several else ''} {intervals}"
    return _table("final", "Final metrics", caption, rows)


def _equal_cost(paired: Sequence[PairedComparison]) -> Table:
    rows, word = [], shared_word(each.metric for each in paired)
    for each in paired:
        for axis in AXES:
            ratio = each.equal.get(axis.name)
            if ratio is not None and axis.name != "images":  # as many iterations are as many images
                row = _pair(each) | {"at equal": axis.label, f"{word} ratio": ratio}
                ps = {"p (t)": ratio.t_test, "p (exact)": ratio.sign_flip}
                rows.append(row | {name: Cell(p_text(p), p) for name, p in ps.items()})
    caption = (
        f"The variant's {word} over its baseline's, seed by seed, at equal iterations, seconds or arithmetic: below "
        "1 the variant is better. p: two-sided paired t test on the log ratios, and the exact sign-flip test, which "
        "with n seeds cannot fall below 2 / 2^n (0.25 for three)."
    )
    return _table("paired", f"{word} at equal cost", caption, rows)


def _targets(paired: Sequence[PairedComparison]) -> Table:
    rows, word = [], shared_word(each.metric for each in paired)
    for each in paired:
        for target in each.targets:
            row = _pair(each) | {word: Cell(digits(target.value), target.value)}
            for axis, unit in (("iteration", "iterations"), ("seconds", "seconds")):
                reached = target.reached.get(axis, {})
                row |= {unit: reached.get(each.variant), f"baseline's {unit}": reached.get(each.baseline)}
                row[f"ratio of {unit}"] = target.ratios.get(axis)
            p = target.ratios["seconds"].t_test if "seconds" in target.ratios else None
            rows.append(row | {"p (t, seconds)": Cell(p_text(p), p)})
    caption = (
        f"Where each variant first reaches a {word}; between evaluations its logarithm is a straight line. The "
        f"smallest {word} of a pair is the best one that all of its runs reach; values at which a run starts are "
        f"left out. {_INTERVALS if any(len(each.seeds) > 1 for each in paired) else _NO_INTERVALS}"
    )
    return _table("reach", f"Time to a given {word}", caption, rows)


def _losses(conditions: Sequence[Condition], metrics: Mapping[str, MetricNames]) -> Table:
    rows, word = [], shared_word(names.distance for names in metrics.values())
    for row, runs in _variants(conditions):
        distance, ticks = metrics[runs[0].dataset].distance, [run.ticks for run in runs]
        for whose, loss in (("generator's", "generator_loss"), ("discriminators'", "discriminator_loss")):
            points = [losses_at_evaluations(run.training, run.evaluation, loss, distance) for run in runs]
            correlations = [c for x, y in points if (c := rank_correlation(x, y)) is not None]
            row[f"{whose} loss with {word}"] = correlation_interval(correlations) if correlations else None
        weights = [band.values for band in bands_by_discriminator(ticks, "weight")]
        largest = [max(weight.mean for weight in each) for each in zip(*weights, strict=True)]
        gaps = [gap.mean for gap in band_of(ticks, "gap").values]
        for column, values in (("largest weight", largest), ("gap of the discriminators", gaps)):
            mean = math.fsum(values) / len(values) if values else 0.0
            row[column] = Cell(f"{mean:.2f}", mean) if weights else None
        rows.append(row)
    caption = (
        f"Spearman's correlation of a loss with the {word} within a run, mean over the seeds: 1 means that a smaller "
        "loss comes with better samples, 0 that it says nothing about them. Largest weight: of the "
        "discriminators' mean weights in the generator's loss between two logged lines, the largest. Gap: between "
        "the largest and the smallest paired loss, over their mean."
    )
    return _table("behaviour", "What the losses say", caption, rows)
