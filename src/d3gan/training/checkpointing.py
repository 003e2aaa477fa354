"""What a run saves and resumes from: checkpoints, generators to share, sample grids."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from d3gan.errors import ConfigError, TrainingDivergedError, first_line
from d3gan.images import image_grid, save_png
from d3gan.models.base import GeneratorNetwork
from d3gan.runs.checkpoint import (
    DamagedCheckpointError,
    latest_checkpoint,
    remove_old,
    save_checkpoint,
    write_checkpoint,
)
from d3gan.runs.generator_file import save_generator
from d3gan.sampling.generate import GRID_CLASSES, GRID_COLUMNS, sample
from d3gan.sampling.point_picture import POINTS, half_side, plane, point_picture
from d3gan.training.md_gan_state import gather_states, own_states
from d3gan.training.state import Training

logger = logging.getLogger("d3gan")

SAMPLES = 64  # images of a sample grid


def save(training: Training, step: int, *, best: bool = False) -> None:
    """Writes a checkpoint and the generator's weights; all processes must call it.

    Args:
        training: as it is after ``step`` steps.
        step: steps done.
        best: the evaluated generator is the best one so far. Checkpoint and generator are then written a second time,
            as files that only a better one replaces.

    Raises:
        TrainingDivergedError: a number in the state is not finite; nothing is written.
        ExternalError: the disk is full or read-only.
    """
    state: dict[str, Any] = {name: part.state_dict() for name, part in training.parts().items()}
    bad = next((name for name, part in state.items() if not _is_finite(part)), None)
    if training.gan.workers is not None:
        # What is one process's own is all processes' to know, so that all stop.
        bad = next((name for name in training.group.all_gather(bad) if name is not None), None)
    if bad is not None:
        raise TrainingDivergedError(f"step {step}: a number in the state of the {bad} is not finite")
    if training.gan.workers is not None:
        state |= gather_states(training.gan)
    state |= {
        "metrics_log": training.metrics_log.state(step),
        "data": training.image_set.identity,
        "config": training.config.bound_values,
        "batches_per_step": training.batches_per_step,
        "global_batch_size": training.global_batch_size,
    }
    if not training.group.is_main:
        return
    training.run.refuse_removed()
    save_checkpoint(training.run.checkpoints, step, state)
    _save_generators(training, step)
    if best:
        write_checkpoint(training.run.best_checkpoint, step, state)
        _save_generator(training, *training.evaluated_generator(), training.run.best_generator, step)


def _save_generators(training: Training, step: int) -> None:
    _save_generator(training, "raw", training.gan.generator, training.run.generator, step)
    if training.average is not None:
        _save_generator(training, "ema", training.average.generator, training.run.averaged_generator, step)


def _save_generator(training: Training, weights: str, generator: GeneratorNetwork, path: Path, step: int) -> None:
    config, name = training.config, training.image_set.name
    facts = {"model": config.model, "dataset": name, "step": step, "seed": config.seed, "weights": weights}
    if mixture := training.image_set.mixture:
        facts |= {"radius": mixture.radius, "deviation": mixture.deviation}
    if generator.classes:
        facts |= {"class_names": training.image_set.class_names, "class_counts": training.image_set.class_counts}
    save_generator(generator, path, facts)


def _is_finite(state: Any) -> bool:
    finite = [tensor.isfinite().all() for tensor in _float_tensors(state)]
    return not finite or bool(torch.stack(finite).all())


def _float_tensors(state: Any) -> Iterator[torch.Tensor]:
    """The floating-point tensors at any depth of a state_dict, all on the first one's device."""
    if isinstance(state, torch.Tensor) and state.is_floating_point():
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from _float_tensors(value)


def resume(training: Training) -> int:
    """Loads the last checkpoint into the networks and the metrics log; returns its number of steps, 0 without one.

    Rank 0 reads it and sends it to the others: only rank 0 needs to see the run's folder.

    Raises:
        ConfigError: the checkpoint is another run's: of another config, other images, or another number of batches
            per step.
        ExternalError: there are checkpoints and none can be used.
    """

    def use(path: Path, state: dict[str, Any]) -> None:
        _refuse_other_training(training, path, state)
        try:
            _load(training, state)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise DamagedCheckpointError(f"{path}: does not fit this run ({first_line(error)})") from error

    latest = None
    with training.group.raise_on_all_ranks():
        if training.group.is_main:
            latest = latest_checkpoint(training.run.checkpoints, use)
    state = training.group.broadcast(latest[1] if latest is not None else None)
    if state is None:
        return 0
    if not training.group.is_main:
        _load(training, state)
    if latest is not None:
        # A crash between writing the two leaves generators older than the checkpoint; a finished run would keep them.
        _save_generators(training, int(state["step"]))
        remove_old(training.run.checkpoints, latest[0])  # which a kill after the last save may have left
        logger.info(f"resuming from {latest[0]}")
    return int(state["step"])


def _load(training: Training, state: dict[str, Any]) -> None:
    """Loads a checkpoint's content.

    Raises:
        KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError: it is not this run's; what was
            loaded is of no use.
    """
    if training.gan.workers is not None:
        state = state | own_states(training.gan, state)
    for name, part in training.parts().items():
        part.load_state_dict(state[name])
    for optimizer in training.gan.optimizers().values():
        for parameter, moments in optimizer.state.items():  # PyTorch compares no shapes here
            if any(value.ndim and value.shape != parameter.shape for value in moments.values()):
                raise ValueError("an optimizer's moments have other shapes than its parameters")
    training.metrics_log.load_state(state["metrics_log"])


def _refuse_other_training(training: Training, path: Path, state: dict[str, Any]) -> None:
    before, now = state.get("config", {}), training.config.bound_values
    keys = [key for key in now if before.get(key, now[key]) != now[key]]
    differing = [f"{key} = {before[key]} there, {now[key]} here" for key in keys]
    if differing:
        raise ConfigError(f"{path}: is of another run ({'; '.join(differing)}); remove it, or choose another --out")
    if state["data"] != training.image_set.identity:
        raise ConfigError(
            f"{path}: was trained on other images than {training.image_set.name} holds now; choose another --out"
        )
    batches = state.get("batches_per_step", 1)
    if batches != training.batches_per_step:
        raise ConfigError(
            f"{path}: was trained with {batches} batches per step, here are {training.batches_per_step} "
            f"({training.group.world_size} processes, grad_accum_steps = {training.config.grad_accum_steps}); start "
            f"as many processes as before, choose --grad-accum-steps so that the product of the two is {batches}, or "
            "choose another --out"
        )
    if training.gan.workers is not None and state["global_batch_size"] != training.global_batch_size:
        raise ConfigError(
            f"{path}: was trained with {state['global_batch_size']} images per update, here are "
            f"{training.global_batch_size} ({training.group.world_size} processes, batch_size = "
            f"{training.config.batch_size}); choose --batch-size so that the product of the two is "
            f"{state['global_batch_size']}, or choose another --out"
        )


def save_samples(training: Training, step: int) -> Image.Image | None:
    """Writes the sample grid of a step, or the picture of its points, always from the same latents.

    With classes every row is one of them; of many the first ones are shown. Rank 0 writes; all processes must call
    it, since each of an MD-GAN knows its own discriminators alone.

    Returns:
        The picture, on rank 0.
    """
    gan, mixture = training.gan, training.image_set.mixture
    half = half_side(mixture.centers) if mixture is not None else 0.0
    logits = _logits_in_the_plane(training, half) if mixture is not None else None
    if not training.group.is_main:
        return None
    training.run.refuse_removed()
    if gan.generator.classes:
        labels = torch.arange(min(gan.generator.classes, GRID_CLASSES)).repeat_interleave(GRID_COLUMNS)
        images = sample(gan.generator, seed=training.config.seed, labels=labels)
        picture = image_grid(images.numpy(), GRID_COLUMNS)
    elif mixture is None:
        picture = image_grid(sample(gan.generator, SAMPLES, training.config.seed).numpy())
    else:
        points = sample(gan.generator, POINTS, training.config.seed)
        picture = point_picture(points.numpy(), half, mixture.centers, logits)
    save_png(picture, training.run.sample(step), {"step": str(step)})
    return picture


def _logits_in_the_plane(training: Training, half: float) -> npt.NDArray[np.float32] | None:
    """What every discriminator says of the points of a picture, on rank 0.

    None with BatchNorm, whose answers depend on the points, and on other ranks of discriminators that all have.
    """
    gan = training.gan
    if training.config.resolved_norm == "batch" or (gan.workers is None and not gan.group.is_main):
        return None
    parameter = next(gan.discriminators.parameters())
    with torch.no_grad(), gan.autocast():
        logits = gan.discriminators.frozen_logits(torch.from_numpy(plane(half)).to(parameter))
    all_logits = [logits] if gan.workers is None else gan.group.gather(logits)
    return torch.cat(all_logits).float().cpu().numpy() if all_logits else None
