"""The tables of a comparison."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from d3gan.comparison.curves import AXES, band_of, curve_of, losses_at_evaluations, over_seeds, share_bands
from d3gan.comparison.formatting import digits, interval_text, p_text, ratio_text, with_prefix
from d3gan.comparison.grouping import Condition, MetricNames
from d3gan.comparison.paired import PairedComparison
from d3gan.comparison.results import Cell, Table
from d3gan.comparison.runs import Run
from d3gan.comparison.statistics import Interval, PairedRatio, correlation_interval, rank_correlation, ratio_interval
from d3gan.evaluation.metric_names import figure_label

_DASH = Cell("-")
_INTERVALS = "Means over the seeds with 95 % Student intervals; geometric means for distances, times and rates."


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


def _rows(conditions: Sequence[Condition], cells: Callable[[list[Run]], list[Cell]]) -> list[list[Cell]]:
    """A row for each condition and variant, which starts with their names."""
    return [
        [Cell(condition.dataset), _count(condition.batch_size), Cell(name), *cells([*runs.values()])]
        for condition in conditions
        for name, runs in condition.variants.items()
    ]


def _paired_row(each: PairedComparison) -> list[Cell]:
    """How the rows of a paired comparison start."""
    condition = each.condition
    names = [Cell(condition.dataset), _count(condition.batch_size), Cell(each.variant), Cell(each.baseline)]
    return [*names, _count(len(each.seeds))]


def _count(number: int) -> Cell:
    return Cell(f"{number}", number)


def _interval(interval: Interval | None) -> Cell:
    return _DASH if interval is None else Cell(interval_text(interval), interval.mean)


def _ratio(ratio: PairedRatio | None) -> Cell:
    return _DASH if ratio is None else Cell(ratio_text(ratio), ratio.interval.mean)


def _final(conditions: Sequence[Condition], metrics: Mapping[str, MetricNames]) -> Table:
    def cells(runs: list[Run]) -> list[Cell]:
        names = metrics[runs[0].dataset]
        intervals = []
        for name in names:
            curves = [(run, curve_of(run.evaluation, name)) for run in runs]
            # A run whose last evaluation lacks the metric has no final value.
            last = [c.values[-1] for run, c in curves if c.steps and c.steps[-1] == run.evaluations[-1]["step"]]
            intervals.append(over_seeds(name, last) if last else None)
        best = [min(values) for run in runs if (values := curve_of(run.evaluation, names.fid).values)]
        intervals.append(over_seeds(names.fid, best) if best else None)
        seconds = [float(run.training["seconds"][-1]) for run in runs if run.metrics]
        for values in ([each for each in seconds if each > 0], [r for run in runs if (r := run.images_per_second)]):
            intervals.append(ratio_interval(values) if values else None)
        flops = float(np.nan_to_num(runs[0].training["flops"][-1])) if runs[0].metrics else 0.0
        steps = Cell(f"{runs[0].last_step:,}", runs[0].last_step)
        return [_count(len(runs)), steps, *map(_interval, intervals), Cell(f"{with_prefix(flops)}FLOP", flops)]

    labels = [sorted({figure_label(names[i]) for names in metrics.values() if names[i]}) for i in range(2)]
    headers = [each[0] if len(each) == 1 else word for each, word in zip(labels, ("FID", "IS"), strict=True)]
    columns = ["data set", "batch size", "variant", "seeds", "iterations", *headers, "best FID"]
    columns += ["seconds of training", "images/s", "arithmetic"]
    by_dataset = [f" {dataset}: {figure_label(names.fid)}." for dataset, names in metrics.items()]
    caption = f"At the last evaluation.{''.join(by_dataset) if len(labels[0]) > 1 else ''} {_INTERVALS}"
    return Table("final", "Final metrics", caption, columns, _rows(conditions, cells))


def _equal_cost(paired: Sequence[PairedComparison]) -> Table:
    rows = []
    for each in paired:
        for axis in AXES:
            ratio = each.equal.get(axis.name)
            if ratio is not None and axis.name != "images":  # as many iterations are as many images
                ps = [Cell(p_text(p), p) for p in (ratio.t_test, ratio.sign_flip)]
                rows.append([*_paired_row(each), Cell(axis.label), _ratio(ratio), *ps])
    return Table(
        "paired",
        "FID at equal cost",
        "The variant's FID over its baseline's, seed by seed, at equal iterations, seconds or arithmetic: below 1 "
        "the variant is better. p: two-sided paired t test on the log ratios, and the exact sign-flip test, which "
        "with n seeds cannot fall below 2 / 2^n (0.25 for three).",
        ["data set", "batch size", "variant", "baseline", "seeds", "at equal", "FID ratio", "p (t)", "p (exact)"],
        rows,
    )


def _targets(paired: Sequence[PairedComparison]) -> Table:
    rows = []
    for each in paired:
        for target in each.targets:
            row = [*_paired_row(each), Cell(digits(target.value), target.value)]
            for axis in ("iteration", "seconds"):
                reached = target.reached.get(axis, {})
                row += [_interval(reached.get(name)) for name in (each.variant, each.baseline)]
                row.append(_ratio(target.ratios.get(axis)))
            seconds = target.ratios.get("seconds")
            p = seconds.t_test if seconds else None
            rows.append([*row, Cell(p_text(p), p)])
    columns = ["data set", "batch size", "variant", "baseline", "seeds", "FID", "iterations", "baseline's iterations"]
    columns += ["ratio of iterations", "seconds", "baseline's seconds", "ratio of seconds", "p (t, seconds)"]
    return Table(
        "reach",
        "Time to a given FID",
        "Where each variant first reaches a FID; between evaluations log FID is a straight line. The smallest FID of "
        f"a pair is the best one that all of its runs reach; FIDs at which a run starts are left out. {_INTERVALS}",
        columns,
        rows,
    )


def _losses(conditions: Sequence[Condition], metrics: Mapping[str, MetricNames]) -> Table:
    def cells(runs: list[Run]) -> list[Cell]:
        fid, row = metrics[runs[0].dataset].fid, []
        for loss in ("generator_loss", "discriminator_loss"):
            points = [losses_at_evaluations(run.training, run.evaluation, loss, fid) for run in runs]
            found = [rank_correlation([x for x, _ in each], [y for _, y in each]) for each in points]
            correlations = [each for each in found if each is not None]
            row.append(_interval(correlation_interval(correlations) if correlations else None))
        training = [run.training for run in runs]
        shares = [band.values for band in share_bands(training)]
        if not shares:
            return [*row, _DASH, _DASH]
        largest = [max(share.mean for share in each) for each in zip(*shares, strict=True)]
        gaps = [gap.mean for gap in band_of(training, "gap").values]
        means = [math.fsum(values) / len(values) if values else 0.0 for values in (largest, gaps)]
        return [*row, *(Cell(f"{mean:.2f}", mean) for mean in means)]

    columns = ["data set", "batch size", "variant", "generator's loss with FID", "discriminators' loss with FID"]
    columns += ["largest share of selections", "gap of the discriminators"]
    return Table(
        "behaviour",
        "What the losses say",
        "Spearman's correlation of a loss with the FID within a run, mean over the seeds: 1 means that a smaller "
        "loss comes with better images, 0 that it says nothing about them. Largest share: the part of the selections "
        "between two logged lines that went to the discriminator selected most. Gap: between the largest and the "
        "smallest paired loss, over their mean.",
        columns,
        _rows(conditions, cells),
    )
