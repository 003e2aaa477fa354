"""A training run from its config to its last checkpoint."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from d3gan.build import build_gan, learning_rate, network_dtype, resolve_device, resolve_precision
from d3gan.checkpoint import checkpoints, latest_checkpoint, save_checkpoint
from d3gan.config import TrainConfig
from d3gan.data import ImageSet, load_images
from d3gan.data.batches import Batches
from d3gan.display import Display, silent_display
from d3gan.errors import ConfigError, TrainingDivergedError
from d3gan.events import open_events, require_tensorboard
from d3gan.generator_file import save_generator
from d3gan.images import grid, save_png
from d3gan.randomness import draw_latents
from d3gan.run_directory import (
    RunDirectory,
    keep_lines_up_to,
    open_run,
    read_environment,
    refuse_other_runs,
    write_environment,
)
from d3gan.sampling import sample
from d3gan.stopping import stop_requests
from d3gan.tracking import Tracker
from d3gan.train_step import GAN, train_step

SAMPLES = 64  # images of a sample grid


@dataclass(frozen=True)
class Outcome:
    """How a call of ``train`` ended."""

    run: Path
    """The run directory."""
    step: int
    """Steps done, this call and earlier ones."""
    last_step: int
    """Steps the config asks for."""
    interrupted_by: signal.Signals | None
    """The signal that stopped the run early."""


def train(
    config: TrainConfig,
    display: Callable[[int, int], AbstractContextManager[Display]] = silent_display,
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Trains one run, from the start or from its last checkpoint, until its last step or a signal.

    Args:
        config: what to train; everything is written to ``config.run_directory``.
        display: given the last step and the first one, opens what shows the progress.
        say: shows a line while there is no display yet.

    Raises:
        ConfigError: a value does not fit this machine, these data, or the run found in the folder.
        WorldError: data or files fail.
        TrainingDivergedError: an error or a weight became NaN or infinite.
    """
    # What to compute with.
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    if config.tensorboard:
        require_tensorboard()
    refuse_other_runs(config)  # before minutes go into fetching data

    # What to learn from.
    image_set = load_images(
        config.dataset,
        image_size=config.image_size,
        channels=config.nc,
        data_dir=config.data_dir or None,
        workers=config.workers,
        report=say,
        progress=display is not silent_display,
    )
    dtype = network_dtype(precision)
    batches = Batches(image_set.images, config.batch_size, config.nc, config.seed, device, dtype)
    steps_in_run = config.epochs * batches.steps_per_epoch
    last_step = min(steps_in_run, config.max_steps or steps_in_run)

    with open_run(config) as run:
        # Networks with their first weights, or as the last checkpoint has them.
        gan = build_gan(config, device, precision)
        K = len(gan.discriminators)
        tracker = Tracker(run.metrics, K, config.batch_size, batches.steps_per_epoch, device)
        step = _resume(run, config, gan, tracker, image_set, say)
        if step < last_step:
            keep_lines_up_to(run.metrics, tracker.logged_step)
        _note_environment(run, device, precision, image_set, step, say)
        say(f"training {config.model} on {image_set.name}: {len(image_set.images):,} images, {device}, {precision}")
        say(f"steps {step} to {last_step}, {batches.steps_per_epoch} an epoch; run directory {run.path}")

        with (
            _naming_last_checkpoint(run),
            _algorithms(config.deterministic),
            stop_requests() as stop,
            display(last_step, step) as screen,
            open_events(config.tensorboard, run, tracker.logged_step) as events,
        ):
            if step == 0:
                _save_samples(run, gan, config.seed, step)
            tracker.stopwatch.restart()
            while step < last_step:
                # One step.
                with tracker.stopwatch.data():
                    real_images = batches.at(step)
                    latents = draw_latents(config.batch_size, config.nz, config.seed, "latents", step, device=device)
                rate = learning_rate(config, step, steps_in_run)
                _set_learning_rate(gan, rate)
                tracker.record(train_step(gan, real_images, latents.to(real_images.dtype)))
                step += 1
                screen.advance(step)
                stopping = bool(stop)
                ending = stopping or step == last_step

                # What it measured.
                if ending or step % config.tick == 0:
                    line = tracker.tick(step, rate, last=step % config.tick != 0)
                    screen.show(line)
                    events.write(line)

                # What it makes, and what is kept of it.
                if step == last_step or _due(step, batches.steps_per_epoch) or _due(step, config.sample_every):
                    with tracker.stopwatch.paused():
                        _save_samples(run, gan, config.seed, step)
                if ending or _due(step, config.checkpoint):
                    with tracker.stopwatch.paused():
                        _save(run, config, gan, tracker, image_set, step)
                if stopping:
                    break
    return Outcome(run.path, step, last_step, stop.signal if step < last_step else None)


@contextmanager
def _naming_last_checkpoint(run: RunDirectory) -> Iterator[None]:
    """Adds to a divergence where the last good weights are and what to try."""
    try:
        yield
    except TrainingDivergedError as error:
        kept = checkpoints(run.checkpoints)
        last = f"the last good checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"
        raise TrainingDivergedError(
            f"{error}; {last}; try a lower --lr or --precision float32, with another --out"
        ) from error


@contextmanager
def _algorithms(deterministic: bool) -> Iterator[None]:
    """The settings of cuDNN during the run; whoever called ``train`` finds their own again."""
    # TF32 off: who asks for float32 gets it, and who wants speed gets bf16.
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=not deterministic, deterministic=deterministic, allow_tf32=False
    ):
        yield


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _set_learning_rate(gan: GAN, rate: float) -> None:
    for optimizer in (gan.generator_optimizer, gan.discriminator_optimizer):
        for group in optimizer.param_groups:
            group["lr"] = rate


def _stateful(gan: GAN) -> dict[str, Any]:
    """What of a GAN a checkpoint keeps, by the name it has there."""
    return {
        "generator": gan.generator,
        "discriminators": gan.discriminators,
        "generator_optimizer": gan.generator_optimizer,
        "discriminator_optimizer": gan.discriminator_optimizer,
    }


def _save(run: RunDirectory, config: TrainConfig, gan: GAN, tracker: Tracker, image_set: ImageSet, step: int) -> None:
    """Writes a checkpoint and the generator's weights, unless a number in them is not finite."""
    state: dict[str, Any] = {name: part.state_dict() for name, part in _stateful(gan).items()}
    for name, part in state.items():
        if not torch.stack([tensor.isfinite().all() for tensor in _float_tensors(part)]).all():
            raise TrainingDivergedError(f"step {step}: a number in the state of the {name} is not finite")
    state |= {"tracker": tracker.state(step), "data": image_set.checksum}
    save_checkpoint(run.checkpoints, step, state)
    _save_generator(run, config, gan, image_set, step)


def _save_generator(run: RunDirectory, config: TrainConfig, gan: GAN, image_set: ImageSet, step: int) -> None:
    facts = {"model": config.model, "dataset": image_set.name, "step": step, "seed": config.seed}
    save_generator(gan.generator, run.generator, facts)


def _float_tensors(state: Any) -> Iterator[torch.Tensor]:
    """The floating-point tensors at any depth of a state_dict, all on the first one's device."""
    if isinstance(state, torch.Tensor) and state.is_floating_point():
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from _float_tensors(value)


def _resume(
    run: RunDirectory,
    config: TrainConfig,
    gan: GAN,
    tracker: Tracker,
    image_set: ImageSet,
    say: Callable[[str], None],
) -> int:
    """Puts the last checkpoint into the networks and the tracker; returns the steps it has done, 0 without one."""
    found = latest_checkpoint(run.checkpoints, say)
    if found is None:
        return 0
    path, state = found
    if state["data"] != image_set.checksum:
        raise ConfigError(
            f"{path}: was trained on other images than {image_set.name} holds now; choose another --out"
        )
    for name, part in _stateful(gan).items():
        part.load_state_dict(state[name])
    tracker.load_state(state["tracker"])
    # A crash between the two files leaves weights older than the checkpoint; a finished run would keep them.
    _save_generator(run, config, gan, image_set, int(state["step"]))
    say(f"going on from {path}")
    return int(state["step"])


def _note_environment(
    run: RunDirectory,
    device: torch.device,
    precision: str,
    image_set: ImageSet,
    step: int,
    say: Callable[[str], None],
) -> None:
    """Adds this session to environment.json; warns where the last one computed elsewhere or otherwise."""
    earlier = read_environment(run)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    data = {"name": image_set.name, "split": image_set.split, "images": len(image_set.images)}
    facts = {
        "device": str(device),
        "device_name": name,
        "precision": precision,
        "from_step": step,
        "data": data | {"sha256": image_set.checksum},
    }
    now = write_environment(run, facts)
    if earlier and step > 0:
        keys = ("torch", "device", "device_name", "threads", "precision", "processor")
        changed = [f"{key} {earlier[-1].get(key)} -> {now[key]}" for key in keys if earlier[-1].get(key) != now[key]]
        if changed:
            say(f"warning: {', '.join(changed)} since the last session: the run goes on, but not bit for bit")


def _save_samples(run: RunDirectory, gan: GAN, seed: int, step: int) -> None:
    images = sample(gan.generator, SAMPLES, seed)
    save_png(grid(images.numpy()), run.sample(step), {"step": str(step)})
