"""How far runs are, as people read it and as JSON."""

import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from d3gan.config.shared_flags import EXTRACTORS
from d3gan.evaluation.metric_names import metric_label, metric_text, shared_word
from d3gan.formatting import duration, rough_duration
from d3gan.status.options import SortKey
from d3gan.status.read import Status

_ORDERS: dict[SortKey, Callable[[Status], Any]] = {
    "run": lambda run: str(run.path),
    "model": lambda run: run.config.model if run.config else "~",
    "data": lambda run: run.dataset or "~",
    "steps": lambda run: -run.step,
    "state": lambda run: run.state,
    "last": lambda run: (run.badness[0], run.badness[2]),
    "best": lambda run: run.badness,
    "speed": lambda run: -(run.images_per_second or 0),
    "changed": lambda run: -run.changed,
}


def info_text(run: Status) -> str:
    """What ``d3gan info`` prints of a run whose config can be read."""
    config, session = run.config, run.session or {}
    assert config is not None
    size = "points" if config.makes_points else f"{config.image_size} x {config.image_size} pixels"
    lines = [
        f"{run.path}: {config.model} on {run.dataset}, {size}, batch size {config.batch_size}, seed {config.seed}",
        f"state    {run.state}{f', at {progress_text(run)}' if run.step else ''}",
    ]
    if run.last is not None and run.best is not None:
        last, best = (metric_text({run.metric: value}, run.metric) for value in (run.last, run.best))
        label = metric_label(run.metric)
        lines.append(f"figures  {label} {last} at step {run.last_at:,}; best {best} at step {run.best_at:,}")
    if run.images_per_second:
        left = f"; about {rough_duration(run.seconds_left)} left" if run.seconds_left else ""
        lines.append(f"speed    {run.images_per_second:,.0f} images/s{left}")
    facts = [f"{session[key]}" for key in ("device", "precision") if session.get(key)]
    facts += [
        f"{name} {session[key]}" for key, name in (("d3gan", "d3gan"), ("torch", "PyTorch")) if session.get(key)
    ]
    lines.append(f"machine  {', '.join([*facts, f'last change {_time(run)}'])}")
    if run.state == "running":
        lines.append("go on    it is being trained now")
    elif run.state == "finished":
        lines.append(f"go on    d3gan sample {shlex.quote(str(run.path))}")
        by_steps = bool(config.max_steps) and run.last_step == config.max_steps
        more = "--max-steps" if by_steps else "--epochs" if "epochs" in config.free_keys else ""
        lines += [f"longer   {shlex.join(resume_words(run))} {more} N"] if more else []
    else:
        lines.append(f"go on    {shlex.join(resume_words(run))}")
    return "\n".join(lines)


def resume_words(run: Status) -> list[str]:
    """The command that resumes a run whose config can be read, with as many processes as its last session had."""
    assert run.config is not None
    words = ["d3gan", "train", "--config", str(run.path / "config.ini"), "--out", str(run.path)]
    if run.config.features not in EXTRACTORS:
        words.append("--trust-features")
    processes = (run.session or {}).get("processes")
    hosts = [process.get("host") for process in processes or [] if isinstance(process, dict)]
    if len(hosts) > 1:
        words += ["--workers-per-node", str(hosts.count(hosts[0]))]
    if len(set(hosts)) > 1:
        words += ["--nnodes", str(len(set(hosts))), "--rdzv-endpoint", "HOST:PORT"]
    return words


def progress_text(run: Status) -> str:
    """``step 1,200 of 4,680 (26 %)``."""
    if not run.last_step:
        return f"step {run.step:,}"
    return f"step {run.step:,} of {run.last_step:,} ({min(100, 100 * run.step // run.last_step)} %)"


def news_text(run: Status, *, short: bool = False) -> str:
    """What a run in progress has to say: time left, last figure, speed; empty before its first line of metrics.

    Args:
        run: how far it is.
        short: name the figure's metric by its first word alone; the rest must then stand elsewhere.
    """
    parts = []
    if run.seconds_left is not None:
        parts.append(f"{duration(run.seconds_left)} left")
    if run.last is not None:
        label = shared_word([run.metric]) if short else metric_label(run.metric)
        parts.append(f"{label} {metric_text({run.metric: run.last}, run.metric)}")
    if run.images_per_second:
        parts.append(f"{run.images_per_second:,.0f} images/s")
    return ("  " if short else ", ").join(parts)


def runs_text(runs: Sequence[Status], folder: Path) -> str:
    """The table of ``d3gan runs``: one line for each run, the unreadable ones with what is wrong with them."""
    if not runs:
        return f"{folder}: holds no runs"
    metrics = {run.metric for run in runs if run.metric}
    rows: list[tuple[str, ...]] = [("run", "model", "data", "steps", "state", "last", "best", "images/s", "changed")]
    for run in runs:
        name = str(run.path.relative_to(folder)) if run.path != folder else str(folder)
        if run.config is None or run.problem:
            rows.append((name, f"{run.state}: {run.problem}" if run.problem else run.state))
            continue
        steps = f"{run.step:,} of {run.last_step:,}" if run.last_step else f"{run.step:,}"
        rate = f"{run.images_per_second:,.0f}" if run.images_per_second else ""
        shown = [f"{_value(run, run.last, len(metrics) > 1)}", f"{_value(run, run.best, len(metrics) > 1)}"]
        rows.append((name, run.config.model, run.dataset, steps, run.state, *shown, rate, _time(run)))
    whole = [row for row in rows if len(row) == len(rows[0])]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    widths[0] = max(len(row[0]) for row in rows)
    right = {3, 5, 6, 7}
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  ".join(cells).rstrip())
    if len(metrics) == 1:
        lines.append(f"last, best: {metric_label(metrics.pop())}")
    return "\n".join(lines)


def _value(run: Status, value: float | None, with_metric: bool) -> str:
    if value is None:
        return ""
    text = metric_text({run.metric: value}, run.metric)
    return f"{metric_label(run.metric)} {text}" if with_metric else text


def _time(run: Status) -> str:
    return datetime.fromtimestamp(run.changed).astimezone().strftime("%Y-%m-%d %H:%M")


def as_json(run: Status) -> dict[str, Any]:
    """A run's status as ``--json`` prints it."""
    config = run.config
    return {
        "run": str(run.path),
        "state": run.state,
        "problem": run.problem,
        "model": config.model if config else None,
        "dataset": run.dataset or None,
        "seed": config.seed if config else None,
        "batch_size": config.batch_size if config else None,
        "step": run.step,
        "last_step": run.last_step,
        "images_per_second": run.images_per_second,
        "seconds_left": run.seconds_left,
        "metric": run.metric or None,
        "last": run.last,
        "last_at_step": run.last_at if run.last is not None else None,
        "best": run.best,
        "best_at_step": run.best_at if run.best is not None else None,
        "changed": datetime.fromtimestamp(run.changed, UTC).isoformat(timespec="seconds") if run.changed else None,
        "resume": resume_words(run) if config else None,
    }


def sorted_runs(runs: Sequence[Status], key: SortKey) -> list[Status]:
    """The runs in the order of a column."""
    return sorted(runs, key=_ORDERS[key])
