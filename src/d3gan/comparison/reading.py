"""From run directories to records that can be compared."""

import dataclasses
import json
from collections import Counter
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
    which it differs from most runs on its data set: ``dcgan+activation=mish``, ``d3gan+lr=0.0001``.

    Args:
        paths: run directories.

    Returns:
        The runs, in the order of the paths.

    Raises:
        ConfigError: a path holds no run.
        WorldError: a run cannot be read.
    """
    runs = [_read_run(path) for path in paths]
    usual = {
        name: _usual([run.config for run in runs if run.dataset == name]) for name in {run.dataset for run in runs}
    }
    found = []
    for run in runs:
        own = {key for key, value in usual[run.dataset].items() if getattr(run.config, key) != value}
        found.append(dataclasses.replace(run, variant=variant_of(run.config, own)))
    return found


def _usual(configs: Sequence[TrainConfig]) -> dict[str, Any]:
    """The value of each key that most configs have; of several the default, else the one that comes first."""
    usual = {}
    for field in (field for field in dataclasses.fields(TrainConfig) if field.name in _keys()):
        counts = Counter(getattr(config, field.name) for config in configs)
        usual[field.name] = max(counts, key=lambda value: (counts[value], value == field.default))
    return usual


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
