"""The plots of a scaling document."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from d3gan.plotting import BLACK, GREEN, GREY, MARKERS, ORANGE, SKY, figure_of, log2_x_axis, model_color, save
from d3gan.scaling import plot_frame
from d3gan.scaling.plot_frame import caption, mark_values, mark_workers
from d3gan.scaling.projection import rows_of
from d3gan.scaling.projection_plot import draw_projection
from d3gan.scaling.published import GPU, PublishedRun
from d3gan.scaling.series import Line, line_of, lines_by_workers, published_lines, shown_batch_size

_PUBLISHED_STYLES = {"d3gan": (":", "o"), "dcgan": ((0, (1, 2.5)), "s")}


def write_plots(document: dict[str, Any], folder: Path, published: bool = False) -> list[Path]:
    """Draws what the document holds, as PNG files of 150 dots per inch.

    ``throughput.png``, ``epoch_time.png``, ``speedup.png`` and ``time_split.png`` always; ``utilization.png`` where
    it was measured, ``batch_size.png`` where there are several, ``projection.png`` where the document has one. Where
    there are several batch sizes, all but ``batch_size.png`` show the first that was measured.

    Args:
        document: as in ``scaling.json``, with at least one row.
        folder: created where it is missing.
        published: also show the published programs' measurements, in grey.

    Returns:
        The files written.

    Raises:
        ExternalError: a file cannot be written.
    """
    paths = []
    for name, figure in figures_of(document, published).items():
        paths.append(folder / f"{name}.png")
        save(figure, paths[-1])
    return paths


def figures_of(document: dict[str, Any], published: bool = False) -> dict[str, Figure]:
    """The figures of a document by the names of their files, as ``write_plots`` writes them."""
    figures = {
        "throughput": _throughput(document, published),
        "epoch_time": _epoch_time(document, published),
        "speedup": _speedup(document, published),
    }
    if any(row["utilization"] for row in document["rows"]):
        figures["utilization"] = _utilization(document, published)
    figures["time_split"] = _time_split(document)
    if len(document["batch_sizes"]) > 1:
        figures["batch_size"] = _batch_size(document)
    if document.get("projection"):
        figures["projection"] = draw_projection(document)
    return figures


Lines = dict[str, Line]


def _lines(
    document: dict[str, Any], quantity: str, published: bool, value: Callable[[PublishedRun], float]
) -> tuple[Lines, Lines]:
    """A quantity by number of workers for each model: as measured, and as published where that is asked for."""
    return lines_by_workers(document, quantity), published_lines(document, value) if published else {}


def _draw_lines(axes: Axes, document: dict[str, Any], measured: Lines, published: Lines) -> list[float]:
    """Draws measured lines in color and published ones in grey; returns every value, for the vertical axis."""
    for i, (model, line) in enumerate(measured.items()):
        line.draw(axes, model, color=model_color(model, document["models"]), marker=MARKERS[i % 8])
    for model, line in published.items():
        (style, marker), label = _PUBLISHED_STYLES[model], f"published {model.upper()}, {GPU}"
        axes.plot(line.x, line.median, color=GREY, ls=style, marker=marker, ms=4, label=label, zorder=1.5)
    lines = [*measured.values(), *published.values()]
    mark_workers(axes, [x for line in lines for x in line.x])
    return [value for line in lines for value in (*line.low, *line.high)]


def _draw_ideal(axes: Axes, document: dict[str, Any], lines: Lines, power: int) -> list[float]:
    """Draws, dashed, how each model's first value would change in proportion to workers ** power; returns values."""
    values: list[float] = []
    for model, line in lines.items():
        # The measured numbers of workers alone would make a polygon of the hyperbola.
        x = np.geomspace(line.x[0], line.x[-1], 60)
        ideal = line.median[0] * (x / line.x[0]) ** power
        axes.plot(x, ideal, color=model_color(model, document["models"]), ls="--", lw=1.0, alpha=0.75)
        values += ideal.tolist()
    axes.plot([], [], color=BLACK, ls="--", lw=1.0, label="ideal")
    return values


def _throughput(document: dict[str, Any], published: bool) -> Figure:
    lines, published_ones = _lines(document, "images_per_second", published, lambda run: run.images_per_second)
    heading = caption(document, "Throughput by workers", shown_batch_size(document), published=published)
    with plot_frame.plot(heading) as (axes,):
        values = _draw_lines(axes, document, lines, published_ones) + _draw_ideal(axes, document, lines, 1)
        mark_values(axes, values, "images/s, all workers")
    return figure_of(axes)


def _epoch_time(document: dict[str, Any], published: bool) -> Figure:
    lines, published_ones = _lines(document, "epoch_seconds", published, lambda run: run.seconds_per_epoch)
    title = f"Time per epoch ({document['dataset_images']:,} images) by workers"
    heading = caption(document, title, shown_batch_size(document), published=published)
    with plot_frame.plot(heading) as (axes,):
        values = _draw_lines(axes, document, lines, published_ones) + _draw_ideal(axes, document, lines, -1)
        mark_values(axes, values, "seconds per epoch")
    return figure_of(axes)


def _utilization(document: dict[str, Any], published: bool) -> Figure:
    gpu = document["device"] == "cuda"
    label = "GPU utilisation, %" if gpu else "CPU utilisation, %\n(busy share of the process's threads)"
    shares, published_ones = _lines(document, "utilization", published, lambda run: 100 * run.utilization)
    title = f"{'GPU' if gpu else 'CPU'} utilisation by workers"
    heading = caption(document, title, shown_batch_size(document), published=published)
    with plot_frame.plot(heading) as (axes,):
        percentages = {model: line.scaled(lambda _: 100.0) for model, line in shares.items()}
        values = _draw_lines(axes, document, percentages, published_ones)
        axes.set_ylim(0, max(105.0, *values))
        axes.set_ylabel(label)
    return figure_of(axes)


def _speedup(document: dict[str, Any], published: bool) -> Figure:
    throughputs = _lines(document, "images_per_second", published, lambda run: run.images_per_second)
    # Where one worker was not measured, its throughput is taken to be an equal share of the fewest measured.
    first = min(line.x[0] for line in throughputs[0].values())
    label = "times 1 worker's throughput" if first == 1 else f"times 1/{first} of {first} workers' throughput"
    heading = caption(document, "Speed-up and efficiency by workers", shown_batch_size(document), published=published)
    with plot_frame.plot(heading, panels=2) as (left, right):
        speedups = [{model: _relative(line) for model, line in lines.items()} for lines in throughputs]
        values = _draw_lines(left, document, *speedups)
        ends = np.array([1, max(x for line in speedups[0].values() for x in line.x)])
        left.plot(ends, ends, color=BLACK, ls="--", lw=1.0, label="ideal")
        mark_values(left, [*values, *ends.tolist()], label)
        left.set_title("speed-up")
        efficiencies = [{model: line.scaled(lambda x: 1 / x) for model, line in lines.items()} for lines in speedups]
        values = _draw_lines(right, document, *efficiencies)
        right.axhline(1.0, color=BLACK, ls="--", lw=1.0)
        right.set_ylim(0, max(1.1, *(1.05 * value for value in values)))
        right.set_ylabel("speed-up / workers")
        right.set_title("efficiency")
    return figure_of(left)


def _relative(line: Line) -> Line:
    """A throughput as a multiple of one worker's, taken to be its share of the smallest number measured."""
    alone = line.median[0] / line.x[0]
    return line.scaled(lambda _: 1 / alone)


def _time_split(document: dict[str, Any]) -> Figure:
    """Stacked bars of what a step's time is spent on, the models of one number of workers side by side."""
    models, batch_size = document["models"], shown_batch_size(document)
    rows = {(row["workers"], model): row for model in models for row in rows_of(document, model, batch_size)}
    counts = sorted({count for count, _ in rows})
    xs = {(c, m): counts.index(c) * (len(models) + 0.6) + models.index(m) for c, m in rows}
    parts = (("data", SKY), ("compute", GREEN), ("communication", ORANGE))
    with plot_frame.plot(caption(document, "What a step spends its time on", batch_size)) as (axes,):
        bottom = np.zeros(len(rows))
        for part, color in parts:
            heights = np.array([1000 * row[f"{part}_seconds"]["median"] for row in rows.values()])
            axes.bar(list(xs.values()), heights, 0.8, bottom, color=color, label=part, edgecolor="white", lw=0.5)
            bottom += heights
        steps = line_of([{**row, "x": xs[key]} for key, row in rows.items()], "x", "step_seconds")
        milliseconds = steps.scaled(lambda _: 1000.0)
        milliseconds.draw(axes, "whole step", color=BLACK, ls="none", marker="_")
        mark_values(axes, [*milliseconds.high, *bottom.tolist()], "milliseconds per step")
        _name_bars(axes, xs, counts, models)
    return figure_of(axes)


def _name_bars(axes: Axes, xs: dict[tuple[int, str], float], counts: list[int], models: list[str]) -> None:
    """Writes the model's name below each bar, and the number of workers below the bars that share it."""
    turned = len(xs) > 10
    axes.set_xticks(list(xs.values()), [m for _, m in xs], minor=True)
    middle = (len(models) - 1) / 2
    middles = [i * (len(models) + 0.6) + middle for i in range(len(counts))]
    axes.set_xticks(middles, [f"{count} worker{'s' * (count != 1)}" for count in counts])
    axes.tick_params(axis="x", which="major", length=0, pad=42 if turned else 18)
    axes.tick_params(axis="x", which="minor", length=0, labelsize=8, labelrotation=90 * turned)
    axes.grid(visible=False, axis="x")
    axes.xaxis.remove_overlapping_locs = False  # the middle of several bars may be the middle of one
    # One bar alone would fill the whole width.
    spare = max(0.0, 2 - middles[-1] - middle)
    axes.set_xlim(-0.8 - spare, middles[-1] + middle + 0.8 + spare)


def _batch_size(document: dict[str, Any]) -> Figure:
    """Throughput by batch size, a line for each model and number of workers."""
    models, key = document["models"], "batch_size" if document["mode"] == "weak" else "global_batch_size"
    values = []
    with plot_frame.plot(caption(document, "Throughput by batch size", None)) as (axes,):
        for model in models:
            for i, count in enumerate(document["workers"]):
                rows = [row for row in document["rows"] if row["model"] == model and row["workers"] == count]
                if not rows:
                    continue
                line = line_of(sorted(rows, key=lambda row: int(row[key])), key, "images_per_second")
                style = {"marker": MARKERS[i % 8], "ls": ("-", "--", "-.", ":")[i % 4]}
                label = f"{model}, {count} worker{'s' * (count != 1)}"
                line.draw(axes, label, color=model_color(model, models), **style)
                values += [*line.low, *line.high]
        log2_x_axis(axes, sorted(document["batch_sizes"]))
        axes.set_xlabel("batch size per process" if document["mode"] == "weak" else "global batch size")
        mark_values(axes, values, "images per second")
    return figure_of(axes)
