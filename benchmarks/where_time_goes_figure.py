"""The tables and the picture of benchmarks/where_time_goes.py, from what it measured."""

import statistics
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from step_table import spread

from d3gan import plotting
from d3gan.scaling import plot_frame

COLOURS = {
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
# What the picture has of them: the steps' halves, and the images that both judge.
THIRDS = {"fake images": "fakes", "discriminators": "discriminators", "generator": "generator"}
NARROWEST = 0.032  # of the longest bar: a part with numbers in it
LETTER = 0.0095  # of the longest bar, in a part with its name in it


def tables(found: dict[str, Any]) -> str:
    """Groups and phases as Markdown tables, and how far the profiler disturbs what it measures."""
    bars = found["bars"]
    lines = [conditions(found), ""]
    for kind, names in (("groups", list(COLOURS)), ("phases", PHASES)):
        lines += ["| ms of a step | " + " | ".join(f"{bar['precision']}, {bar['name']}" for bar in bars) + " |"]
        lines += ["|---" * (1 + len(bars)) + "|"]
        lines += [f"| {name} | " + " | ".join(cell(bar, kind, name) for bar in bars) + " |" for name in names]
        totals = " | ".join(f"{1e3 * sum(bar[kind].values()):.1f}" for bar in bars)
        lines += [f"| the profiled step | {totals} |", ""]
    for bar in bars:
        slower = statistics.median(bar["profiled"]) / statistics.median(bar["seconds"])
        plain, profiled = (spread([1e3 * s for s in bar[kind]], ".0f") for kind in ("seconds", "profiled"))
        lines.append(
            f"- {bar['precision']}, {bar['name']}: {plain} ms a step, profiled {profiled}, {slower:.3f} times as long"
        )
    return "\n".join(lines)


def cell(bar: dict[str, Any], kind: str, name: str) -> str:
    """Milliseconds and share."""
    seconds = bar[kind].get(name, 0.0)
    return f"{1e3 * seconds:.1f} ({seconds / sum(bar[kind].values()):.1%})"


def conditions(found: dict[str, Any]) -> str:
    """What was measured on what."""
    threads = f", {found['threads']} thread{'s' * (found['threads'] != 1)}" if found["threads"] else ""
    return (
        f"{found['model']} on random images {found['image_size']}x{found['image_size']}, batch size "
        f"{found['batch_size']}; {found['device_name']}{threads}, torch {found['torch'].partition('+')[0]}"
    )


def draw(found: dict[str, Any], path: Path) -> None:
    """A bar for each way to do the step, its groups one after the other; below it, thin, the step's phases."""
    bars = found["bars"]
    slower = [statistics.median(bar["profiled"]) / statistics.median(bar["seconds"]) for bar in bars]
    steps = f"{found['steps']} step{'s' * (found['steps'] != 1)}"
    caption = plot_frame.Caption(
        "Where a training step's time goes",
        conditions(found),
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
        axes.set_xlabel("ms of a step")
        axes.grid(False, axis="y")
    path.parent.mkdir(parents=True, exist_ok=True)
    plotting.save(plotting.figure_of(axes), path)


def label(bar: dict[str, Any], bars: list[dict[str, Any]]) -> str:
    """What stands beside a bar."""
    if len({other["name"] for other in bars}) == 1:
        return str(bar["precision"])
    whose = "our" if bar["name"] == "ours" else "PyTorch's"
    return f"{bar['precision']}, {whose}\nconvolutions"


def groups(axes: Axes, row: int, bar: dict[str, Any], longest: float) -> None:
    """The bar of the groups, with numbers where there is room, and the sum at its end."""
    left, total = 0.0, sum(bar["groups"].values())
    for name, colour in COLOURS.items():
        seconds = bar["groups"].get(name, 0.0)
        axes.barh(row, 1e3 * seconds, 0.56, 1e3 * left, color=colour, label=name)
        if seconds > NARROWEST * longest:
            text = f"{1e3 * seconds:.0f}\n{seconds / total:.0%}"
            shade = plotting.BLACK if name in ON_LIGHT else "white"
            axes.text(1e3 * (left + seconds / 2), row, text, color=shade, ha="center", va="center", fontsize=7)
        left += seconds
    axes.text(1e3 * total, row, f" {1e3 * total:.0f} ms", va="center", fontsize=8.5, weight="bold")


def phases(axes: Axes, row: int, bar: dict[str, Any], longest: float) -> None:
    """The bar of the phases, with names where there is room."""
    left = 0.0
    for place, (name, text) in enumerate(THIRDS.items()):
        seconds = sum(s for phase, s in bar["phases"].items() if phase.startswith(name))
        axes.barh(row + 0.39, 1e3 * seconds, 0.18, 1e3 * left, color=("#dcdcdc", "#ececec")[place % 2])
        if seconds > LETTER * len(text) * longest:
            axes.text(1e3 * (left + seconds / 2), row + 0.395, text, ha="center", va="center", fontsize=6.5)
        left += seconds
