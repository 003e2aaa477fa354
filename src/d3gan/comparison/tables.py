"""The tables of a comparison."""

import math
from collections.abc import Callable, Mapping, Sequence

from d3gan.comparison.behaviour import correlation_with, course_of, shares_of, throughput_of
from d3gan.comparison.curves import AXES, curve_of, over_seeds
from d3gan.comparison.flops import flops_an_image
from d3gan.comparison.formatting import digits, interval_text, p_text, ratio_text, scaled
from d3gan.comparison.grouping import Figures, Setting, last_step
from d3gan.comparison.paired import PairedComparison
from d3gan.comparison.results import Cell, Table
from d3gan.comparison.runs import Run
from d3gan.comparison.statistics import Interval, PairedRatio, ratio_interval
from d3gan.evaluation.metric_names import metric_label

_DASH = Cell("-")
_INTERVALS = "Means over the seeds with 95 % Student intervals; of distances, times and rates geometric means."


def tables_of(
    settings: Sequence[Setting], contests: Sequence[PairedComparison], figures: Mapping[str, Figures]
) -> list[Table]:
    """All tables that hold something.

    Args:
        settings: the runs in order.
        contests: the variants against each other.
        figures: data set -> what its runs are compared by.
    """
    tables = [_final(settings, figures), _paired(contests), _targets(contests), _behaviour(settings, figures)]
    return [table for table in tables if table.rows]


def _cells(settings: Sequence[Setting], row: Callable[[list[Run]], list[Cell]]) -> list[list[Cell]]:
    """A row for each setting and variant, with their names before it."""
    return [
        [Cell(setting.dataset), Cell(f"{setting.batch_size}", setting.batch_size), Cell(name), *row([*runs.values()])]
        for setting in settings
        for name, runs in setting.variants.items()
    ]


def _interval(interval: Interval | None) -> Cell:
    return _DASH if interval is None else Cell(interval_text(interval), interval.mean)


def _ratio(ratio: PairedRatio | None) -> Cell:
    return _DASH if ratio is None else Cell(ratio_text(ratio), ratio.interval.mean)


def _p(p: float | None) -> Cell:
    return Cell(p_text(p), p)


def last_values(runs: Sequence[Run], figure: str) -> list[float]:
    """Each run's figure at its last evaluation; runs whose last evaluation lacks it are left out."""
    found = []
    for run in runs:
        curve = curve_of(run, figure, AXES[0])
        if curve.steps and curve.steps[-1] == run.evaluations[-1]["step"]:
            found.append(curve.values[-1])
    return found


def best_values(runs: Sequence[Run], figure: str) -> list[float]:
    """Each run's smallest figure."""
    return [min(curve.values) for run in runs if (curve := curve_of(run, figure, AXES[0])).values]


def seconds_of(runs: Sequence[Run]) -> list[float]:
    """Each run's seconds of training; runs without are left out."""
    found = (run.metrics[-1].get("training_seconds") for run in runs if run.metrics)
    return [float(seconds) for seconds in found if isinstance(seconds, int | float) and seconds > 0]


def _final(settings: Sequence[Setting], figures: Mapping[str, Figures]) -> Table:
    def row(runs: list[Run]) -> list[Cell]:
        cells = [Cell(f"{len(runs)}", len(runs)), Cell(f"{(step := last_step(runs[0])):,}", step)]
        own = figures[runs[0].dataset]
        for name in own:
            values = last_values(runs, name)
            cells.append(_interval(over_seeds(name, values) if values else None))
        best = best_values(runs, own.fid)
        cells.append(_interval(over_seeds(own.fid, best) if best else None))
        for values in (seconds_of(runs), [rate for run in runs if (rate := throughput_of(run))]):
            cells.append(_interval(ratio_interval(values) if values else None))
        images = runs[0].metrics[-1].get("images_seen", 0) if runs[0].metrics else 0
        spent = flops_an_image(runs[0].config) * images
        return [*cells, Cell(f"{scaled(spent)}FLOP", spent)]

    labels = [sorted({metric_label(own[i]) for own in figures.values() if own[i]}) for i in range(2)]
    shown = [found[0] if len(found) == 1 else word for found, word in zip(labels, ("FID", "IS"), strict=True)]
    columns = ["data set", "batch size", "variant", "seeds", "iterations", *shown, "best FID"]
    columns += ["seconds of training", "images/s", "arithmetic"]
    told = "".join(f" {dataset}: {metric_label(own.fid)}." for dataset, own in figures.items() if len(labels[0]) > 1)
    caption = f"At the last evaluation.{told} {_INTERVALS}"
    return Table("final", "Final figures", caption, columns, _cells(settings, row))


def _paired(contests: Sequence[PairedComparison]) -> Table:
    rows = []
    for contest in contests:
        for axis in AXES:
            ratio = contest.equal.get(axis.name)
            if ratio is None or axis.name == "images":  # as many iterations are as many images
                continue
            rows.append([*_names(contest), Cell(axis.label), _ratio(ratio), _p(ratio.t_test), _p(ratio.sign_flip)])
    return Table(
        "paired",
        "FID at equal cost",
        "The variant's FID over its counterpart's, seed by seed, at equal iterations, seconds or arithmetic: below 1 "
        "the variant is better. p: two-sided paired t test on the log ratios, and the exact sign-flip test, which "
        "with n seeds cannot fall below 2 / 2^n (0.25 for three).",
        ["data set", "batch size", "variant", "against", "seeds", "at equal", "FID ratio", "p (t)", "p (exact)"],
        rows,
    )


def _names(contest: PairedComparison) -> list[Cell]:
    return [
        Cell(contest.setting.dataset),
        Cell(f"{contest.setting.batch_size}", contest.setting.batch_size),
        Cell(contest.variant),
        Cell(contest.counterpart),
        Cell(f"{len(contest.seeds)}", len(contest.seeds)),
    ]


def _targets(contests: Sequence[PairedComparison]) -> Table:
    rows = []
    for contest in contests:
        for target in contest.targets:
            row = [*_names(contest), Cell(digits(target.value), target.value)]
            for axis in ("iteration", "seconds"):
                for name in (contest.variant, contest.counterpart):
                    row.append(_interval(target.places.get(axis, {}).get(name)))
                row.append(_ratio(target.ratios.get(axis)))
            seconds = target.ratios.get("seconds")
            rows.append([*row, _p(seconds.t_test if seconds else None)])
    columns = ["data set", "batch size", "variant", "against", "seeds", "FID", "iterations", "against's iterations"]
    columns += ["ratio of iterations", "seconds", "against's seconds", "ratio of seconds", "p (t, seconds)"]
    return Table(
        "reach",
        "Time to a given FID",
        "Where each variant first gets to a FID, straight lines between evaluations of log FID. The smallest FID of "
        f"a pair is the best one that all of its runs reach; FIDs at which a run starts are left out. {_INTERVALS}",
        columns,
        rows,
    )


def _behaviour(settings: Sequence[Setting], figures: Mapping[str, Figures]) -> Table:
    def row(runs: list[Run]) -> list[Cell]:
        fid = figures[runs[0].dataset].fid
        cells = [_interval(correlation_with(runs, s, fid)) for s in ("generator_loss", "discriminator_loss")]
        shares = shares_of(runs)
        if not shares:
            return [*cells, _DASH, _DASH]
        largest = [max(share.mean for share in each) for _, each in shares]
        gaps = [moment.value.mean for moment in course_of(runs, "gap")]
        means = [math.fsum(values) / len(values) if values else 0.0 for values in (largest, gaps)]
        return [*cells, Cell(f"{means[0]:.2f}", means[0]), Cell(f"{means[1]:.2f}", means[1])]

    columns = ["data set", "batch size", "variant", "generator's error with FID", "discriminators' error with FID"]
    columns += ["largest share of selections", "gap of the discriminators"]
    return Table(
        "behaviour",
        "What the errors say",
        "Spearman's correlation of an error with the FID within a run, mean over the seeds: 1 means that a smaller "
        "error goes with better images, 0 that it says nothing. Share of the selections of a tick that went to the "
        "discriminator selected most; gap between the largest and the smallest paired error, over their mean.",
        columns,
        _cells(settings, row),
    )
