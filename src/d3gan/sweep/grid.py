"""The runs of a comparison: which there are, where they are kept, and how far they are. Imports no torch."""

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from d3gan.comparison.flops import flops_per_image
from d3gan.comparison.variants import variant_config
from d3gan.config.train_config import TrainConfig
from d3gan.errors import ConfigError, ExternalError
from d3gan.runs.directory import RunDirectory, checkpoint_path
from d3gan.runs.opening import refuse_other_runs
from d3gan.sweep.options import Compare

_LONGEST_LINES = 64 << 10  # bytes that hold the last lines of a file
_LONGEST_NAME = 240  # bytes; file systems take 255, and the logs and configs of runs add endings


def grid_of(options: Compare) -> list[TrainConfig]:
    """Every run that the options ask for; those of one seed next to each other, so that the first pair is soon there.

    Raises:
        ConfigError: a value does not fit, or two runs would be kept in the same place.
    """
    shared = options.train_config
    configs = []
    for dataset in dict.fromkeys(options.datasets or (shared.dataset,)):
        for batch_size in dict.fromkeys(options.batch_sizes or (shared.batch_size,)):
            for seed in options.grid_seeds:
                base = dataclasses.replace(shared, dataset=dataset, batch_size=batch_size, seed=seed)
                variants = {name: variant_config(base, word) for name, word in options.variants.items()}
                if options.equal == "flops":
                    variants = _at_equal_flops(variants, options.counterpart)
                for name, config in variants.items():
                    folder = _folder_name(f"{config.dataset_name}-{name}-b{batch_size}-s{seed}")
                    configs.append(dataclasses.replace(config, out=str(Path(options.out) / "runs" / folder)))
    places = [config.out.casefold() for config in configs]  # some file systems take A for a
    if twice := [config.out for config in configs if places.count(config.out.casefold()) > 1]:
        raise ConfigError(f"{twice[0]}: two runs of the grid would be kept there; rename one of the data sets")
    return configs


def _folder_name(name: str) -> str:
    """A run's name with a hyphen for each character that some file system refuses, such as the colon of cuda:1.

    Raises:
        ConfigError: it is too long.
    """
    if (length := len(name.encode())) > _LONGEST_NAME:
        raise ConfigError(
            f"{name}: is too long for a folder's name ({length} bytes, at most {_LONGEST_NAME}); give keys that all "
            "variants share as flags, such as --lr, or rename the data set"
        )
    return re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]', "-", name)


def _at_equal_flops(variants: dict[str, TrainConfig], against: str) -> dict[str, TrainConfig]:
    """The same variants, longer or shorter, so that each spends as much arithmetic as the one compared with.

    Epochs go along with the images seen, so that a learning rate that falls to 0 does so at the run's end.
    """
    costs = {word: flops_per_image(config) for word, config in variants.items()}
    own = against if against in costs else next(iter(costs))
    found = {}
    for word, config in variants.items():
        times, images = (
            costs[own] / costs[word],
            config.grad_accum_steps / variants[own].grad_accum_steps,
        )  # of a step
        steps, epochs = round(config.max_steps * times / images), max(1, round(config.epochs * times))
        if config.max_steps:
            epochs = max(epochs, math.ceil(steps * images * config.epochs / config.max_steps))
        found[word] = dataclasses.replace(config, max_steps=steps, epochs=epochs)
    return found


def steps_of(config: TrainConfig) -> tuple[int, int | None]:
    """Steps that a run has done, and steps it is to do; None while it does not know how many an epoch has."""
    last = _last_line(RunDirectory(Path(config.out)).metrics)
    try:
        step, epoch = int(last["step"]), float(last["epoch"])
    except (ValueError, KeyError, TypeError):
        return 0, config.max_steps or None
    in_run = round(step / epoch) * config.epochs if epoch > 0 else 0
    return step, min(in_run, config.max_steps or in_run)


def is_finished(config: TrainConfig) -> bool:
    """Whether a run has its last step's checkpoint and evaluation, so that nothing is left to do.

    Raises:
        ConfigError: the folder holds something else.
        ExternalError: the config of the run there is damaged.
    """
    refuse_other_runs(config)
    run, (step, last) = RunDirectory(Path(config.out)), steps_of(config)
    if not last or step < last or not checkpoint_path(run.checkpoints, last).exists():
        return False
    return _last_line(run.evaluations).get("step") == last


def _last_line(path: Path) -> dict[str, Any]:
    """The last whole line of a .jsonl file; empty where there is none. Files of long runs are not read whole."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LONGEST_LINES))
            lines = file.read().splitlines()
        found = next((line for line in map(_parsed, reversed(lines)) if line), {})
    except OSError:
        return {}
    return found


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def plan_of(configs: Sequence[TrainConfig]) -> list[str]:
    """A line for each run: its name and how far it is."""
    lines = []
    for config in configs:
        step, last = steps_of(config)
        total = f" of {last:,}" if last else ""
        try:
            state = "finished" if is_finished(config) else f"at step {step:,}{total}" if step else "to be trained"
        except (ConfigError, ExternalError) as error:
            state = f"in the way: {error}"
        lines.append(f"{Path(config.out).name}: {state}")
    return lines
