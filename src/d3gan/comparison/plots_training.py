"""Figures of the training itself: losses, weights, throughput, and what ``d3gan scale`` measured."""

import functools
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from d3gan.comparison.curves import Band, band_of, bands_by_discriminator, losses_at_evaluations
from d3gan.comparison.grouping import Condition, MetricNames
from d3gan.comparison.plot_axes import DASHES, draw_bands, drawing, scale_x, seeds_caption, style_of
from d3gan.comparison.results import Drawing
from d3gan.comparison.statistics import Interval, ratio_interval
from d3gan.errors import ConfigError, first_line
from d3gan.evaluation.metric_names import metric_label, shared_word
from d3gan.files import read_file
from d3gan.plotting import BLACK, log2_x_axis, plain_number
from d3gan.scaling.plots import figures_of

# Column of metrics.jsonl -> file name, title, label of the axis.
_LOSSES = {
    "generator_loss": ("loss-generator", "Generator loss", "generator loss"),
    "discriminator_loss": ("loss-discriminators", "Discriminator loss", "mean paired loss"),
    "gap": (
        "gap-of-discriminators",
        "How unequal the discriminators are",
        "gap / mean paired loss",
    ),
    "agreement": ("agreement", "Agreement of the discriminators", "mean correlation of logits"),
    "ada_p": ("augmentation-probability", "Probability of ADA's operations", "p"),
    "ada_r": ("augmentation-signs", "What ADA's probability follows", "r, mean sign of D(augmented x)"),
}
# Column by discriminator -> file name, title, caption, label of the axis.
_BY_DISCRIMINATOR = {
    "weight": (
        "weights",
        "Weights of the discriminators",
        "Each discriminator's weight in the generator's loss, mean over the steps between two logged lines and over "
        "the seeds; D0 is the first one. Where one discriminator is chosen per step, it is the share of the steps.",
        "mean weight",
    ),
    "separation": (
        "separation",
        "What the discriminators distinguish",
        "Share of the pairs of a real and a fake image of which a discriminator gives the real one the larger logit, "
        "mean over the seeds: 1/2 if it cannot distinguish them, 1 if it always can (0 for D2GAN's second "
        "discriminator, which prefers fake images).",
        "separation",
    ),
    "gradient_norm": (
        "gradients-of-discriminators",
        "What the generator can learn from each discriminator",
        "Mean norm of the gradient of a fake image's loss with respect to the image, mean over the seeds.",
        "gradient norm",
    ),
}


def training_drawings(conditions: Sequence[Condition], metrics: Mapping[str, MetricNames]) -> Iterator[Drawing]:
    """Losses by iteration, their relation to the quality, the weights, and how unequal the discriminators are."""
    for condition in conditions:
        runs = {name: [run.ticks for run in by_seed.values()] for name, by_seed in condition.variants.items()}
        for metric, (slug, title, label) in _LOSSES.items():
            bands = {name: band_of(columns, metric) for name, columns in runs.items()}
            if bands := {name: band for name, band in bands.items() if len(band.steps) > 1}:
                yield drawing(
                    f"{slug}-{condition.slug}",
                    f"{title} by iteration, {condition.name}",
                    f"At each logged step the mean since the one before. {seeds_caption(bands.values())}",
                    ("iterations", label),
                    functools.partial(_paint_losses, bands, list(runs)),
                )
        distance = metrics[condition.dataset].distance
        points = {
            name: [
                losses_at_evaluations(run.training, run.evaluation, "generator_loss", distance)
                for run in seeds.values()
            ]
            for name, seeds in condition.variants.items()
        }
        if max(len(x) for curves in points.values() for x, _ in curves) > 2:  # two points always lie on a line
            word = shared_word([distance])
            yield drawing(
                f"correlation-of-loss-and-{word.lower().replace(' ', '-')}-{condition.slug}",
                f"Generator loss and {word}, {condition.name}",
                f"{metric_label(distance)} of each evaluation over the mean generator loss since the one before, of "
                "every seed. If the loss told how good the samples are, the points would lie on a rising line.",
                ("generator loss", metric_label(distance)),
                functools.partial(_paint_correlation, points),
            )
        for column, (slug, title, caption, label) in _BY_DISCRIMINATOR.items():
            found = {name: bands_by_discriminator(columns, column) for name, columns in runs.items()}
            found = {name: bands for name, bands in found.items() if bands and len(bands[0].steps) > 1}
            if found and not (column == "weight" and all(map(_are_equal, found.values()))):
                yield drawing(
                    f"{slug}-{condition.slug}",
                    f"{title}, {condition.name}",
                    caption,
                    ("iterations", label),
                    functools.partial(_paint_discriminators, found, list(runs), column),
                )


def _are_equal(bands: Sequence[Band]) -> bool:
    """Whether all discriminators have the same weight all the time, as under the rule ``mean``."""
    return all(math.isclose(value.mean, 1 / len(bands)) for band in bands for value in band.values)


def _paint_losses(bands: Mapping[str, Band], names: Sequence[str], axes: Axes) -> None:
    draw_bands(axes, bands, names, most_markers=0)
    scale_x(axes)
    means = [value.mean for band in bands.values() for value in band.values]
    axes.set_ylim(min(0.0, 1.15 * min(means)), max(0.0, 1.15 * max(means)) or None)


def _paint_correlation(points: Mapping[str, Sequence[tuple[list[float], list[float]]]], axes: Axes) -> None:
    for name, curves in points.items():
        x, y = (list(itertools.chain(*side)) for side in zip(*curves, strict=True))
        style = style_of(name, list(points)) | {"ls": ""}
        axes.plot(x, y, ms=4, alpha=0.7, label=name, **style)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(plain_number)
    axes.yaxis.set_minor_formatter(plain_number)


def _paint_discriminators(found: Mapping[str, list[Band]], names: Sequence[str], column: str, axes: Axes) -> None:
    for name, bands in found.items():
        for k, band in enumerate(bands):
            style = style_of(name, names) | {"marker": "", "ls": DASHES[k % len(DASHES)]}
            label = f"{name}, D{k}" if len(bands) > 1 else name
            axes.plot(band.x, [value.mean for value in band.values], label=label, **style)
        if column == "weight":
            axes.axhline(1 / len(bands), color=BLACK, ls=":", lw=1.0)
    largest = max(value.mean for bands in found.values() for band in bands for value in band.values)
    axes.set_ylim(0, 1.05 * largest if column == "gradient_norm" else max(1.0, 1.05 * largest))
    scale_x(axes)


def throughput_drawings(conditions: Sequence[Condition]) -> Iterator[Drawing]:
    """Images per second by batch size, a figure for each data set of which a variant has several."""
    by_dataset: dict[str, dict[str, list[tuple[int, Interval]]]] = {}
    for condition in conditions:
        for name, runs in condition.variants.items():
            if rates := [rate for run in runs.values() if (rate := run.images_per_second)]:
                points = by_dataset.setdefault(condition.dataset, {}).setdefault(name, [])
                points.append((condition.batch_size, ratio_interval(rates)))
    slugs = {condition.dataset: condition.dataset_slug for condition in conditions}
    for dataset, variants in by_dataset.items():
        if all(len(points) == 1 for points in variants.values()):
            continue  # the final table has the rates
        several = any(value.n > 1 for points in variants.values() for _, value in points)
        over = "over the seeds, with 95 % Student intervals" if several else "of one seed"
        yield drawing(
            f"throughput-by-batch-size-{slugs[dataset]}",
            f"Throughput by batch size, {dataset}",
            f"Real images per second while training: median over a run's logged lines, geometric mean {over}. Runs "
            "that shared the machine slowed each other down.",
            ("batch size", "images per second"),
            functools.partial(_paint_throughput, variants),
        )


def _paint_throughput(variants: Mapping[str, list[tuple[int, Interval]]], axes: Axes) -> None:
    sizes = sorted({size for points in variants.values() for size, _ in points})
    for name, points in variants.items():
        values = [value for _, value in points]
        means = [value.mean for value in values]
        below = [v.mean - (v.mean if v.low is None else v.low) for v in values]
        above = [(v.mean if v.high is None else v.high) - v.mean for v in values]
        style = style_of(name, list(variants))
        axes.errorbar([size for size, _ in points], means, [below, above], label=name, **style)
    log2_x_axis(axes, sizes)
    axes.set_xlim(sizes[0] / 1.6, sizes[-1] * 1.6)
    axes.set_ylim(0, 1.2 * max(value.mean for points in variants.values() for _, value in points))
    axes.yaxis.set_major_formatter(plain_number)


def scaling_drawings(folder: str) -> list[Drawing]:
    """The figures that ``d3gan scale`` drew in a folder.

    Raises:
        ConfigError: the folder holds no scaling.json that can be read.
    """
    path = Path(folder) / "scaling.json"
    try:
        figures = figures_of(json.loads(read_file(path, 1 << 24)))
    except Exception as error:  # JSON of any shape makes the drawing raise nearly anything
        raise ConfigError(
            f"--scaling {folder}: {path} is no document of `d3gan scale` ({first_line(error)})"
        ) from error
    caption = "As `d3gan scale` measured it."
    return [
        Drawing(f"scaling-{name}", f"Scaling: {name.replace('_', ' ')}", caption, lambda figure=figure: figure)  # type: ignore[misc]
        for name, figure in figures.items()
    ]
