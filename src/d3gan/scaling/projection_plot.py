"""The plot of a projection, with its assumptions printed below it."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from d3gan.plotting import GREY, MARKERS, figure_of, log2_x_axis, model_color, plain_number
from d3gan.scaling import plot_frame
from d3gan.scaling.plot_frame import caption
from d3gan.scaling.series import lines_by_workers


def draw_projection(document: dict[str, Any]) -> Figure:
    """Draws images per second and efficiency, measured and projected, over log2 of the workers."""
    projection = document["projection"]
    measured = lines_by_workers(document, "images_per_second")
    largest = max(x for line in measured.values() for x in line.x)
    title = f"Scaling to {projection['upto']:,} workers: projected, not measured, beyond {largest}"
    heading = caption(document, title, projection["batch_size"], *projection["assumptions"])
    with plot_frame.plot(heading, panels=2) as (left, right):
        for i, (model, record) in enumerate(projection["models"].items()):
            color = model_color(model, document["models"])
            alone = record["ring"]["images_per_second"][0]
            rates = measured[model]
            shares = rates.scaled(lambda x, alone=alone: 1 / (x * alone))  # type: ignore[misc]
            for axes, quantity, line in ((left, "images_per_second", rates), (right, "efficiency", shares)):
                for algorithm, style in (("ring", "-"), ("tree", "--")):
                    label = f"{model}, {algorithm}{' (bound)' * (algorithm == 'tree')}, projected"
                    values = record[algorithm][quantity]
                    axes.plot(record["workers"], values, color=color, ls=style, lw=1.3, label=label)
                line.draw(axes, f"{model}, measured", color=color, ls="none", marker=MARKERS[i % 8])
        for axes in (left, right):
            _mark_workers(axes, projection["upto"], largest)
        left.set_yscale("log")
        left.yaxis.set_major_formatter(plain_number)
        left.set_title("images per second, all workers")
        right.set_ylim(0, 1.1)
        right.set_title("efficiency (relative to 1 worker)")
    return figure_of(left)


def _mark_workers(axes: Axes, upto: int, measured: int) -> None:
    """Sets up the axis of workers, and shades what lies beyond the largest number measured."""
    powers = [2**power for power in range(upto.bit_length())]
    # Eleven numbers of up to four digits are too many for half a figure.
    log2_x_axis(axes, powers[:: 2 if len(powers) > 7 else 1])
    right = upto * 1.18
    axes.set_xlim(0.85, right)
    axes.axvspan(measured, right, color="#f2f2f2", lw=0, zorder=0)
    middle = (measured * right) ** 0.5
    axes.text(middle, 0.02, "not measured", transform=axes.get_xaxis_transform(), ha="center", color=GREY, size=8)
    axes.set_xlabel("workers (processes)")
