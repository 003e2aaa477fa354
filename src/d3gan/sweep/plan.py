"""The runs of a sweep: which there are, in which folders, and how far they are. Imports no torch."""

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path

from d3gan.comparison.flops import flops_per_image
from d3gan.comparison.variants import variant_config
from d3gan.config.train_config import TrainConfig
from d3gan.errors import ConfigError, ExternalError
from d3gan.runs.directory import RunDirectory, checkpoint_path
from d3gan.runs.jsonl import last_line
from d3gan.runs.opening import refuse_other_runs
from d3gan.runs.progress import progress_of
from d3gan.sweep.options import Compare

_LONGEST_NAME = 240  # bytes; file systems take 255, and the logs and configs of runs add endings


def sweep_configs(options: Compare) -> list[TrainConfig]:
    """Every run that the options ask for, ordered by seed, so that the first pair is soon complete.

    Raises:
        ConfigError: a value does not fit, or two runs would have the same folder.
    """
    shared, words, baseline = options.train_config, options.variants, options.baseline
    configs = []
    for dataset in dict.fromkeys(options.datasets or (shared.dataset,)):
        for batch_size in dict.fromkeys(options.batch_sizes or (shared.batch_size,)):
            for seed in options.sweep_seeds:
                base = dataclasses.replace(shared, dataset=dataset, batch_size=batch_size, seed=seed)
                variants = {name: variant_config(base, word) for name, word in words.items()}
                if options.equal == "flops":
                    variants = _at_equal_flops(variants, baseline)
                for name, config in variants.items():
                    folder = _folder_name(f"{config.dataset_name}-{name}-b{batch_size}-s{seed}")
                    configs.append(dataclasses.replace(config, out=str(Path(options.out) / "runs" / folder)))
    folders = [config.out.casefold() for config in configs]  # some file systems take A for a
    if twice := [config.out for config in configs if folders.count(config.out.casefold()) > 1]:
        raise ConfigError(f"{twice[0]}: two runs of the sweep would have this folder; rename one of the data sets")
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


def _at_equal_flops(variants: dict[str, TrainConfig], baseline: str) -> dict[str, TrainConfig]:
    """The variants, made longer or shorter so that each spends as much arithmetic as the baseline, or the first one.

    Epochs are scaled with the images seen, so that a learning rate that falls to 0 does so at the run's end.
    """
    reference = variants.get(baseline) or next(iter(variants.values()))
    scaled = {}
    for name, config in variants.items():
        times = flops_per_image(reference) / flops_per_image(config)
        images = config.images_per_step / reference.images_per_step
        steps, epochs = round(config.max_steps * times / images), max(1, round(config.epochs * times))
        if config.max_steps:
            epochs = max(epochs, math.ceil(steps * images * config.epochs / config.max_steps))
        scaled[name] = dataclasses.replace(config, max_steps=steps, epochs=epochs)
    return scaled


def is_finished(config: TrainConfig) -> bool:
    """Whether a run has its last step's checkpoint and evaluation, so that nothing is left to do.

    Raises:
        ConfigError: the folder holds something else.
        ExternalError: the config of the run there cannot be read.
    """
    refuse_other_runs(config)
    run = RunDirectory(Path(config.out))
    step, last = progress_of(config, last_line(run.metrics))
    if not last or step < last or not checkpoint_path(run.checkpoints, last).exists():
        return False
    return last_line(run.evaluations).get("step") == last


def plan_lines(configs: Sequence[TrainConfig]) -> list[str]:
    """A line for each run: its name and how far it is."""
    lines = []
    for config in configs:
        step, last = progress_of(config, last_line(RunDirectory(Path(config.out)).metrics))
        total = f" of {last:,}" if last else ""
        try:
            state = "finished" if is_finished(config) else f"at step {step:,}{total}" if step else "to be trained"
        except (ConfigError, ExternalError) as error:
            state = f"blocked: {error}"
        lines.append(f"{Path(config.out).name}: {state}")
    return lines
