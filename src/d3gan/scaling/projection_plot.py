"""The plot of a projection, with what it rests on printed below it."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from d3gan.plotting import GREY, MARKERS, colour, figure_of, plain_number
from d3gan.scaling import plot_frame
from d3gan.scaling.plot_frame import caption, powers_of_two
from d3gan.scaling.series import lines_by_workers


def draw_projection(document: dict[str, Any]) -> Figure:
    """Draws images a second and efficiency, measured and projected, over log2 of the workers."""
    projection = document["projection"]
    measured = lines_by_workers(document, "images_per_second")
    most = max(at for line in measured.values() for at in line.at)
    title = f"Scaling to {projection['upto']:,} workers: projected, not measured, beyond {most}"
    heading = caption(document, title, projection["batch_size"], *projection["assumptions"])
    with plot_frame.plot(heading, panels=2) as (left, right):
        for i, (model, found) in enumerate(projection["models"].items()):
            shade, marker = colour(model, document["models"]), MARKERS[i % 8]
            alone = found["ring"]["images_per_second"][0]
            rates = measured[model]
            shares = rates.scaled(lambda at, alone=alone: 1 / (at * alone))  # type: ignore[misc]
            for axes, quantity, line in ((left, "images_per_second", rates), (right, "efficiency", shares)):
                for algorithm, style in (("ring", "-"), ("tree", "--")):
                    label = f"{model}, {algorithm}{' (bound)' * (algorithm == 'tree')}, projected"
                    axes.plot(
                        found["workers"], found[algorithm][quantity], color=shade, ls=style, lw=1.3, label=label
                    )
                line.draw(axes, f"{model}, measured", color=shade, ls="none", marker=marker)
        _mark(left, projection["upto"], most)
        left.set_yscale("log")
        left.yaxis.set_major_formatter(plain_number)
        left.set_title("images a second, all workers")
        _mark(right, projection["upto"], most)
        right.set_ylim(0, 1.1)
        right.set_title("efficiency (relative to 1 worker)")
    return figure_of(left)


def _mark(axes: Axes, upto: int, most: int) -> None:
    """The axis of workers, with what lies beyond the measurements shaded."""
    powers = [2**power for power in range(upto.bit_length())]
    # Eleven numbers of up to four digits are too many for half a figure.
    powers_of_two(axes, powers[:: 2 if len(powers) > 7 else 1])
    axes.set_xlim(0.85, upto * 1.18)
    axes.axvspan(most, upto * 1.18, color="#f2f2f2", lw=0, zorder=0)
    place = (most * upto * 1.18) ** 0.5
    axes.text(place, 0.02, "not measured", transform=axes.get_xaxis_transform(), ha="center", color=GREY, size=8)
    axes.set_xlabel("workers (processes)")
