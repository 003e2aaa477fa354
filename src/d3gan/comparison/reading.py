"""From run directories to records that can be compared."""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from d3gan.comparison.records import Run
from d3gan.config import MODELS, Recipe, TrainConfig, load_config
from d3gan.errors import ConfigError, WorldError
from d3gan.run_directory import FREE_KEYS, find_run, read_environment

# What makes no variant: where a run stands in the grid, and how long it is.
_NO_VARIANT = FREE_KEYS | {"model", "batch_size", "seed", "epochs"}
_RECIPE = tuple(field.name for field in dataclasses.fields(Recipe))


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Reads run directories, and names the variant that each is.

    A variant is called by its model, with the recipe's keys that the run overrides behind it, and those other keys in
    which runs on one data set differ: ``dcgan+activation=mish``, ``d3gan+lr=0.0001``.

    Args:
        paths: run directories.

    Returns:
        The runs, in the order of the paths.

    Raises:
        ConfigError: a path holds no run.
        WorldError: a run cannot be read.
    """
    runs = [_read_run(path) for path in paths]
    differing: dict[str, set[str]] = defaultdict(set)
    first: dict[str, TrainConfig] = {}
    for run in runs:
        config = first.setdefault(run.dataset, run.config)
        differing[run.dataset] |= {key for key in _keys() if getattr(config, key) != getattr(run.config, key)}
    return [dataclasses.replace(run, variant=variant_of(run.config, differing[run.dataset])) for run in runs]


def variant_of(config: TrainConfig, differing: Collection[str] = ()) -> str:
    """What a run is called in a comparison.

    Args:
        config: of the run.
        differing: keys beside the recipe's to name.
    """
    own = MODELS[config.model]
    overridden = [key for key in _RECIPE if getattr(config.recipe, key) != getattr(own, key)]
    others = [key for key in _keys() if key in differing and key not in _RECIPE]
    words = [f"{key}={getattr(config.recipe, key)}" for key in overridden]
    return "+".join([config.model, *words, *(f"{key}={getattr(config, key)}" for key in others)])


def _keys() -> list[str]:
    """The keys that can make a variant."""
    return [field.name for field in dataclasses.fields(TrainConfig) if field.name not in _NO_VARIANT]


def _read_run(path: Path) -> Run:
    directory = find_run(path)
    try:
        config = load_config(directory.config)
    except ConfigError as error:
        raise WorldError(f"{directory.config}: is damaged ({error}); leave this run out") from error
    sessions = read_environment(directory)
    metrics, evaluations = (_lines(place) for place in (directory.metrics, directory.evaluations))
    dataset = _dataset_of(config, sessions)
    return Run(path, config, config.model, dataset, sessions, metrics, evaluations, directory.sample_grids())


def _dataset_of(config: TrainConfig, sessions: Sequence[Any]) -> str:
    """The data set's name as the last session has it, else as the config has it, never a path."""
    for session in reversed(sessions):
        data = session.get("data") if isinstance(session, dict) else None
        if isinstance(data, dict) and data.get("name"):
            return str(data["name"])
    return config.dataset_name


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a .jsonl file, in order of their step; the last one of a step; none of a missing file.

    Raises:
        WorldError: the file is there and cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise WorldError(f"{path}: cannot be read: {error.strerror}") from error
    found: dict[int, dict[str, Any]] = {}
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # cut short by a crash
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            found[record["step"]] = record
    return [found[step] for step in sorted(found)]
