"""The plots of a scaling document."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from d3gan.plotting import BLACK, GREEN, GREY, MARKERS, ORANGE, SKY, colour, figure_of, save
from d3gan.scaling import plot_frame
from d3gan.scaling.plot_frame import caption, mark_values, mark_workers
from d3gan.scaling.projection import rows_of
from d3gan.scaling.projection_plot import draw_projection
from d3gan.scaling.published import GPU
from d3gan.scaling.series import Line, line_of, lines_by_workers, published_lines, shown_batch_size

_PUBLISHED_STYLES = {"d3gan": (":", "o"), "dcgan": ((0, (1, 2.5)), "s")}


def write_plots(document: dict[str, Any], folder: Path, published: bool = False) -> list[Path]:
    """Draws what the document holds, as PNG files of 150 dots an inch.

    ``throughput.png``, ``epoch_time.png``, ``speedup.png`` and ``time_split.png`` always; ``utilization.png`` where
    it was measured, ``batch_size.png`` where there are several, ``projection.png`` where the document has one. Where
    there are several batch sizes, all but ``batch_size.png`` show the first that was measured.

    Args:
        document: as in ``scaling.json``, with at least one row.
        folder: made where it is missing.
        published: also show the published programs' figures, in grey.

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
    found = {
        "throughput": _throughput(document, published),
        "epoch_time": _epoch_time(document, published),
        "speedup": _speedup(document, published),
    }
    if any(row["utilization"] for row in document["rows"]):
        found["utilization"] = _utilization(document, published)
    found["time_split"] = _time_split(document)
    if len(document["batch_sizes"]) > 1:
        found["batch_size"] = _batch_size(document)
    if document.get("projection"):
        found["projection"] = draw_projection(document)
    return found


def _draw_lines(axes: Axes, document: dict[str, Any], ours: dict[str, Line], theirs: dict[str, Line]) -> list[float]:
    """Our lines in colour and the published ones in grey; returns every value, for the vertical axis."""
    for i, (model, line) in enumerate(ours.items()):
        line.draw(axes, model, color=colour(model, document["models"]), marker=MARKERS[i % 8])
    for model, line in theirs.items():
        (style, marker), label = _PUBLISHED_STYLES[model], f"published {model.upper()}, {GPU}"
        axes.plot(line.at, line.median, color=GREY, ls=style, marker=marker, ms=4, label=label, zorder=1.5)
    both = [*ours.values(), *theirs.values()]
    mark_workers(axes, [at for line in both for at in line.at])
    return [value for line in both for value in (*line.low, *line.high)]


def _draw_ideal(axes: Axes, document: dict[str, Any], lines: dict[str, Line], power: int) -> list[float]:
    """For each model, dashed, what its smallest number of workers promises if workers to the ``power`` scale it."""
    values: list[float] = []
    for model, line in lines.items():
        # The measured places alone would make a polygon of the hyperbola.
        at = np.geomspace(line.at[0], line.at[-1], 60)
        ideal = line.median[0] * (at / line.at[0]) ** power
        axes.plot(at, ideal, color=colour(model, document["models"]), ls="--", lw=1.0, alpha=0.75)
        values += ideal.tolist()
    axes.plot([], [], color=BLACK, ls="--", lw=1.0, label="ideal")
    return values


def _throughput(document: dict[str, Any], published: bool) -> Figure:
    lines = lines_by_workers(document, "images_per_second")
    theirs = published_lines(document, lambda run: run.images_per_second) if published else {}
    heading = caption(document, "Throughput by workers", shown_batch_size(document), published=published)
    with plot_frame.plot(heading) as (axes,):
        values = _draw_lines(axes, document, lines, theirs) + _draw_ideal(axes, document, lines, 1)
        mark_values(axes, values, "images a second, all workers")
    return figure_of(axes)


def _epoch_time(document: dict[str, Any], published: bool) -> Figure:
    lines = lines_by_workers(document, "epoch_seconds")
    theirs = published_lines(document, lambda run: run.seconds_per_epoch) if published else {}
    title = f"Time of an epoch ({document['dataset_images']:,} images) by workers"
    heading = caption(document, title, shown_batch_size(document), published=published)
    with plot_frame.plot(heading) as (axes,):
        values = _draw_lines(axes, document, lines, theirs) + _draw_ideal(axes, document, lines, -1)
        mark_values(axes, values, "seconds an epoch")
    return figure_of(axes)


def _utilization(document: dict[str, Any], published: bool) -> Figure:
    gpu = document["device"] == "cuda"
    label = "GPU utilisation, %" if gpu else "CPU utilisation, %\n(busy share of the process's threads)"
    lines = {model: line.scaled(lambda _: 100.0) for model, line in lines_by_workers(document, "utilization").items()}
    theirs = published_lines(document, lambda run: 100 * run.utilization) if published else {}
    title = f"{'GPU' if gpu else 'CPU'} utilisation by workers"
    heading = caption(document, title, shown_batch_size(document), published=published)
    with plot_frame.plot(heading) as (axes,):
        values = _draw_lines(axes, document, lines, theirs)
        axes.set_ylim(0, max(105.0, *values))
        axes.set_ylabel(label)
    return figure_of(axes)


def _speedup(document: dict[str, Any], published: bool) -> Figure:
    lines = lines_by_workers(document, "images_per_second")
    theirs = published_lines(document, lambda run: run.images_per_second) if published else {}
    # Where one worker was not measured, one is taken to be an equal share of the fewest that were.
    first = min(line.at[0] for line in lines.values())
    against = "times 1 worker's throughput" if first == 1 else f"times 1/{first} of {first} workers' throughput"
    heading = caption(document, "Speed-up and efficiency by workers", shown_batch_size(document), published=published)
    with plot_frame.plot(heading, panels=2) as (left, right):
        ours, published_ratios = ({m: _relative(line) for m, line in some.items()} for some in (lines, theirs))
        values = _draw_lines(left, document, ours, published_ratios)
        ends = np.array([1, max(at for line in ours.values() for at in line.at)])
        left.plot(ends, ends, color=BLACK, ls="--", lw=1.0, label="ideal")
        mark_values(left, [*values, *ends.tolist()], against)
        left.set_title("speed-up")
        ours, shares = (
            {m: line.scaled(lambda at: 1 / at) for m, line in x.items()} for x in (ours, published_ratios)
        )
        values = _draw_lines(right, document, ours, shares)
        right.axhline(1.0, color=BLACK, ls="--", lw=1.0)
        right.set_ylim(0, max(1.1, *(1.05 * value for value in values)))
        right.set_ylabel("speed-up / workers")
        right.set_title("efficiency")
    return figure_of(left)


def _relative(line: Line) -> Line:
    """A throughput as a multiple of one worker's, taken to be its share of the smallest number measured."""
    alone = line.median[0] / line.at[0]
    return line.scaled(lambda _: 1 / alone)


def _time_split(document: dict[str, Any]) -> Figure:
    """Stacked bars of what a step's time goes into, the models of one number of workers side by side."""
    models, batch_size = document["models"], shown_batch_size(document)
    rows = {(row["workers"], model): row for model in models for row in rows_of(document, model, batch_size)}
    counts = sorted({count for count, _ in rows})
    places = {(c, m): counts.index(c) * (len(models) + 0.6) + models.index(m) for c, m in rows}
    parts = (("data", SKY), ("compute", GREEN), ("communication", ORANGE))
    with plot_frame.plot(caption(document, "What a step's time goes into", batch_size)) as (axes,):
        foot = np.zeros(len(rows))
        for part, shade in parts:
            heights = np.array([1000 * row[f"{part}_seconds"]["median"] for row in rows.values()])
            axes.bar(list(places.values()), heights, 0.8, foot, color=shade, label=part, edgecolor="white", lw=0.5)
            foot += heights
        steps = line_of([{**row, "place": places[key]} for key, row in rows.items()], "place", "step_seconds")
        in_ms = steps.scaled(lambda _: 1000.0)
        in_ms.draw(axes, "whole step", color=BLACK, ls="none", marker="_")
        mark_values(axes, [*in_ms.high, *foot.tolist()], "milliseconds a step")
        _name_bars(axes, places, counts, models)
    return figure_of(axes)


def _name_bars(axes: Axes, places: dict[tuple[int, str], float], counts: list[int], models: list[str]) -> None:
    """The model's name below each bar, and below each group its number of workers."""
    turned = len(places) > 10
    axes.set_xticks(list(places.values()), [m for _, m in places], minor=True)
    middle = (len(models) - 1) / 2
    groups = [i * (len(models) + 0.6) + middle for i in range(len(counts))]
    axes.set_xticks(groups, [f"{count} worker{'s' * (count != 1)}" for count in counts])
    axes.tick_params(axis="x", which="major", length=0, pad=42 if turned else 18)
    axes.tick_params(axis="x", which="minor", length=0, labelsize=8, labelrotation=90 * turned)
    axes.grid(visible=False, axis="x")
    axes.xaxis.remove_overlapping_locs = False  # a group's middle may be a bar's
    # One bar alone would fill the whole width.
    spare = max(0.0, 2 - groups[-1] - middle)
    axes.set_xlim(-0.8 - spare, groups[-1] + middle + 0.8 + spare)


def _batch_size(document: dict[str, Any]) -> Figure:
    """Throughput by batch size, a line for each model and number of workers."""
    models, place = document["models"], "batch_size" if document["mode"] == "weak" else "global_batch_size"
    values = []
    with plot_frame.plot(caption(document, "Throughput by batch size", None)) as (axes,):
        for model in models:
            for i, count in enumerate(document["workers"]):
                rows = [row for row in document["rows"] if row["model"] == model and row["workers"] == count]
                if not rows:
                    continue
                line = line_of(sorted(rows, key=lambda row: int(row[place])), place, "images_per_second")
                style = {
                    "color": colour(model, models),
                    "marker": MARKERS[i % 8],
                    "ls": ("-", "--", "-.", ":")[i % 4],
                }
                line.draw(axes, f"{model}, {count} worker{'s' * (count != 1)}", **style)
                values += [*line.low, *line.high]
        plot_frame.powers_of_two(axes, sorted(document["batch_sizes"]))
        axes.set_xlabel("batch size per process" if document["mode"] == "weak" else "global batch size")
        mark_values(axes, values, "images a second")
    return figure_of(axes)
