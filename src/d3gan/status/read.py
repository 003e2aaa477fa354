"""What a run's files say about how far it is. Imports no torch, so that it costs little to ask often."""

import math
import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

from d3gan.config.ini import load_config
from d3gan.config.train_config import TrainConfig
from d3gan.errors import ConfigError
from d3gan.evaluation.metric_names import PUBLISHED_FID, metrics_of
from d3gan.files import user_path
from d3gan.runs.directory import RunDirectory, checkpoint_path
from d3gan.runs.environment import read_environment
from d3gan.runs.jsonl import last_lines
from d3gan.runs.opening import is_taken
from d3gan.runs.progress import progress_of, seconds_left

State = Literal["finished", "running", "stopped", "new", "empty", "damaged", "foreign"]
# What tells a folder that some training wrote from any other.
_FILES_OF_RUNS = {"metrics.jsonl", "evaluations.jsonl", "generator.safetensors", "checkpoints"}
_LARGER_IS_BETTER = ("is", "precision", "recall", "density", "coverage", "authenticity", "modes", "quality")


@dataclass(frozen=True)
class Status:
    """How far a run is."""

    path: Path
    state: State
    """new: it has no step yet; empty: the folder holds nothing; damaged: its files cannot be read; foreign: another
    program's."""
    problem: str = ""
    """Why it is damaged or foreign."""
    config: TrainConfig | None = None
    """None where there is none to read."""
    dataset: str = ""
    """The images' name, never a path."""
    step: int = 0
    last_step: int | None = None
    """None while it is unknown how many steps an epoch has."""
    images_per_second: float | None = None
    """The median of the last lines of metrics.jsonl."""
    seconds_left: float | None = None
    """Of training and evaluations, at that rate."""
    metric: str = ""
    """Name of the metric that decides which generator is best: FID, or of points the modes found."""
    last: float | None = None
    last_at: int = 0
    """The step of that evaluation."""
    best: float | None = None
    best_at: int = 0
    changed: float = 0.0
    """When its files were last written: seconds since 1970."""
    session: Mapping[str, Any] | None = None
    """The last entry of environment.json."""

    @property
    def badness(self) -> tuple[str, float, float]:
        """Orders runs from the best to the worst, by metric, by the best and by the last evaluation."""
        sign = -1.0 if _larger_is_better(self.metric) else 1.0
        best, last = (math.inf if value is None else sign * value for value in (self.best, self.last))
        return self.metric or "~", best, last


def read_status(path: Path) -> Status:
    """Reads how far the run in a folder is; what is wrong with it becomes its state, never an error."""
    run = RunDirectory(path)
    if not run.is_ours():
        names = {file.name for file in path.iterdir()} if path.is_dir() else set()
        if names <= {".lock"}:
            return Status(path, "empty")
        return Status(path, "foreign", "its config.ini is missing or was not written by d3gan")
    changed = max(_written(file) for file in (run.config, run.metrics, run.evaluations))
    try:
        config = load_config(run.config)
    except ConfigError as error:
        return Status(path, "damaged", str(error).removeprefix("--config "), changed=changed)
    lines = last_lines(run.metrics)
    if not lines and run.metrics.exists() and _size(run.metrics):
        return Status(path, "damaged", f"{run.metrics} holds no whole line", config, changed=changed)
    evaluations = last_lines(run.evaluations, whole_file=True)
    sessions = read_environment(run)
    step, last_step = progress_of(config, lines[-1] if lines else {})
    rates = [line["images_per_second"] for line in lines if _is_number(line.get("images_per_second"))]
    rate = statistics.median(rates) if rates else None
    data = sessions[-1].get("data") if sessions else None
    state = _state(run, config, step, last_step, evaluations)
    left = _seconds_left(config, lines, evaluations, last_step, rate) if state != "finished" else 0.0
    return Status(
        path,
        state,
        config=config,
        dataset=str(data.get("name") or "") if isinstance(data, dict) else config.dataset_name,
        step=step,
        last_step=last_step,
        images_per_second=rate,
        seconds_left=left,
        **_figures(evaluations),
        changed=changed,
        session=sessions[-1] if sessions else None,
    )


def find_runs(folder: str) -> list[Path]:
    """The folders below a folder, or itself, that hold a run, what looks like one, or nothing; in order.

    Raises:
        ConfigError: there is no such folder.
    """
    top = user_path(folder)
    if not top.is_dir():
        raise ConfigError(f"{folder}: no such folder; give one that holds runs, such as runs")
    paths = []
    for name, folders, files in os.walk(top):
        path, names = Path(name), {*folders, *files}
        if RunDirectory(path).is_ours() or names & _FILES_OF_RUNS or (names <= {".lock"} and path != top):
            paths.append(path)
            folders.clear()
        folders[:] = sorted(each for each in folders if not each.startswith("."))
    return paths


def _state(
    run: RunDirectory,
    config: TrainConfig,
    step: int,
    last_step: int | None,
    evaluations: list[dict[str, Any]],
) -> State:
    if is_taken(run):
        return "running"
    if not step:
        return "new"
    evaluated = not config.evaluate_every or (evaluations and evaluations[-1].get("step") == step)
    done = last_step is not None and step >= last_step and checkpoint_path(run.checkpoints, step).exists()
    return "finished" if done and evaluated else "stopped"


def _seconds_left(
    config: TrainConfig,
    lines: list[dict[str, Any]],
    evaluations: list[dict[str, Any]],
    last_step: int | None,
    rate: float | None,
) -> float | None:
    """Seconds until the last step: the images at this rate, and the evaluations as long as the last one took."""
    if not rate or last_step is None:
        return None
    seconds = seconds_left(lines[-1] | {"images_per_second": rate}, last_step)
    if seconds is None:
        return None
    each = evaluations[-1].get("evaluation_seconds") if evaluations else None
    if config.evaluate_every and _is_number(each):
        due = math.ceil(last_step / config.evaluate_every)
        seconds += max(0, due - int(lines[-1]["step"]) // config.evaluate_every) * each
    return seconds


def _figures(evaluations: list[dict[str, Any]]) -> dict[str, Any]:
    """The metric that the last evaluation is judged by, its last value, and the best of the same kind."""
    values = metrics_of(evaluations[-1]) if evaluations else {}
    names = [name for name, value in values.items() if name != PUBLISHED_FID and _is_number(value)]
    name = next((name for name in names if name.startswith(("fid_", "modes_"))), names[0] if names else "")
    if not name:
        return {}
    kind = ("num_samples", "reference", "generator")
    alike = [line for line in evaluations if all(line.get(key) == evaluations[-1].get(key) for key in kind)]
    alike = [line for line in alike if _is_number(line.get(name)) and isinstance(line.get("step"), int)]
    if not alike:
        return {}
    best = (max if _larger_is_better(name) else min)(alike, key=lambda line: float(line[name]))
    return dict(metric=name, last=alike[-1][name], last_at=alike[-1]["step"], best=best[name], best_at=best["step"])


def _larger_is_better(metric: str) -> bool:
    return metric.partition("_")[0] in _LARGER_IS_BETTER


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
