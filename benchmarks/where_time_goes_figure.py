"""The tables and the figure of benchmarks/where_time_goes.py, made from its results."""

import statistics
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from spread import spread

from d3gan import plotting
from d3gan.scaling import plot_frame

COLORS = {
    "convolutions forward": plotting.BLUE,
    "their input gradients": plotting.SKY,
    "their weight gradients": plotting.GREEN,
    "BatchNorm": plotting.ORANGE,
    "activations": plotting.YELLOW,
    "Adam": plotting.VERMILLION,
    "casts and copies": plotting.PURPLE,
    "loss and selection": plotting.BLACK,
    "latents": "#7f5539",
    "the rest": "#c4c4c4",
}
ON_LIGHT = {"their input gradients", "BatchNorm", "activations", "the rest", "casts and copies"}
# In the order of a step.
PHASES = [
    "fake images forward",
    "discriminators forward",
    "discriminators backward",
    "discriminators Adam",
    "generator forward",
    "generator backward",
    "generator Adam",
    "between",
]
# The phases that the figure shows, summed over forward, backward and Adam, with their labels.
DRAWN_PHASES = {"fake images": "fakes", "discriminators": "discriminators", "generator": "generator"}
NARROWEST = 0.032  # of the longest bar: narrower parts have no numbers
LETTER = 0.0095  # width of a letter, of the longest bar


def tables(results: dict[str, Any]) -> str:
    """Groups and phases as Markdown tables, and how much the profiler slows the step down."""
    bars = results["bars"]
    lines = [conditions(results), ""]
    for kind, names in (("groups", list(COLORS)), ("phases", PHASES)):
        lines += ["| ms per step | " + " | ".join(f"{bar['precision']}, {bar['name']}" for bar in bars) + " |"]
        lines += ["|---" * (1 + len(bars)) + "|"]
        lines += [f"| {name} | " + " | ".join(cell(bar, kind, name) for bar in bars) + " |" for name in names]
        totals = " | ".join(f"{1e3 * sum(bar[kind].values()):.1f}" for bar in bars)
        lines += [f"| the profiled step | {totals} |", ""]
    for bar in bars:
        slower = statistics.median(bar["profiled"]) / statistics.median(bar["seconds"])
        plain, profiled = (spread([1e3 * s for s in bar[kind]], ".0f") for kind in ("seconds", "profiled"))
        lines.append(
            f"- {bar['precision']}, {bar['name']}: {plain} ms per step, profiled {profiled}, {slower:.3f} times"
        )
    return "\n".join(lines)


def cell(bar: dict[str, Any], kind: str, name: str) -> str:
    """Milliseconds and share."""
    seconds = bar[kind].get(name, 0.0)
    return f"{1e3 * seconds:.1f} ({seconds / sum(bar[kind].values()):.1%})"


def conditions(results: dict[str, Any]) -> str:
    """What was measured on what."""
    threads = f", {results['threads']} thread{'s' * (results['threads'] != 1)}" if results["threads"] else ""
    return (
        f"{results['model']} on random images {results['image_size']}x{results['image_size']}, batch size "
        f"{results['batch_size']}; {results['device_name']}{threads}, torch {results['torch'].partition('+')[0]}"
    )


def draw(results: dict[str, Any], path: Path) -> None:
    """Draws one bar per way to compute the step, divided into groups; below it a thin bar of the step's phases."""
    bars = results["bars"]
    slower = [statistics.median(bar["profiled"]) / statistics.median(bar["seconds"]) for bar in bars]
    steps = f"{results['steps']} step{'s' * (results['steps'] != 1)}"
    caption = plot_frame.Caption(
        "Where a training step's time goes",
        conditions(results),
        notes=[
            "Upper bars: ms and share of the step. Lower bars: the generator makes the fakes, the discriminators "
            "train, then the generator trains against one of them."
        ],
        footer=[
            f"Means of the middle third of {steps} under PyTorch's profiler, which makes them {min(slower):.2f} to "
            f"{max(slower):.2f} times as long"
        ],
    )
    longest = max(sum(bar["groups"].values()) for bar in bars)
    with plot_frame.plot(caption) as (axes,):
        for row, bar in enumerate(bars):
            groups(axes, row, bar, longest)
            phases(axes, row, bar, longest)
        axes.set_yticks(range(len(bars)), [label(bar, bars) for bar in bars])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(bars) - 0.4, -0.4)
        axes.set_xlim(0, 1e3 * longest * 1.1)
        axes.set_xlabel("ms per step")
        axes.grid(False, axis="y")
    path.parent.mkdir(parents=True, exist_ok=True)
    plotting.save(plotting.figure_of(axes), path)


def label(bar: dict[str, Any], bars: list[dict[str, Any]]) -> str:
    """The label of a bar."""
    if len({other["name"] for other in bars}) == 1:
        return str(bar["precision"])
    whose = "our" if bar["name"] == "ours" else "PyTorch's"
    return f"{bar['precision']}, {whose}\nconvolutions"


def groups(axes: Axes, row: int, bar: dict[str, Any], longest: float) -> None:
    """Draws the bar of the groups, with numbers where there is room, and the sum at its end."""
    left, total = 0.0, sum(bar["groups"].values())
    for name, color in COLORS.items():
        seconds = bar["groups"].get(name, 0.0)
        axes.barh(row, 1e3 * seconds, 0.56, 1e3 * left, color=color, label=name)
        if seconds > NARROWEST * longest:
            text = f"{1e3 * seconds:.0f}\n{seconds / total:.0%}"
            ink = plotting.BLACK if name in ON_LIGHT else "white"
            axes.text(1e3 * (left + seconds / 2), row, text, color=ink, ha="center", va="center", fontsize=7)
        left += seconds
    axes.text(1e3 * total, row, f" {1e3 * total:.0f} ms", va="center", fontsize=8.5, weight="bold")


def phases(axes: Axes, row: int, bar: dict[str, Any], longest: float) -> None:
    """Draws the bar of the phases, with names where there is room."""
    left = 0.0
    for i, (name, text) in enumerate(DRAWN_PHASES.items()):
        seconds = sum(s for phase, s in bar["phases"].items() if phase.startswith(name))
        axes.barh(row + 0.39, 1e3 * seconds, 0.18, 1e3 * left, color=("#dcdcdc", "#ececec")[i % 2])
        if seconds > LETTER * len(text) * longest:
            axes.text(1e3 * (left + seconds / 2), row + 0.395, text, ha="center", va="center", fontsize=6.5)
        left += seconds
