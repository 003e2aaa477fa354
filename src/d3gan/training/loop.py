"""A training run from its config to its last checkpoint."""

import dataclasses
import logging
import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from d3gan.config.train_config import PER_PROCESS_KEYS, TrainConfig
from d3gan.devices import network_dtype, resolve_precision
from d3gan.distributed.group import Group, hostname
from d3gan.distributed.setup import naming_lost_contact, start
from d3gan.errors import PeerLostError, TrainingDivergedError, first_line
from d3gan.evaluation.metric_names import metrics_of, one_line
from d3gan.memory import keep_memory
from d3gan.runs.checkpoint import checkpoints
from d3gan.runs.directory import RunDirectory
from d3gan.runs.environment import read_environment, write_environment
from d3gan.runs.jsonl import keep_lines_up_to
from d3gan.runs.opening import open_run, refuse_other_runs
from d3gan.training.acceleration import accelerate, resolve_acceleration, set_learning_rates
from d3gan.training.checkpointing import resume, save, save_samples
from d3gan.training.diagnostics import Alarms, diagnose
from d3gan.training.ema import MovingAverage, decay_of
from d3gan.training.evaluation import PeriodicEvaluator
from d3gan.training.inputs import StepInputs
from d3gan.training.metrics import MetricsLog
from d3gan.training.progress import Display, showing_messages, silent_display, terminal_display
from d3gan.training.setup import build_gan, images_of, learning_rates
from d3gan.training.signals import StopRequest, stop_requests
from d3gan.training.state import Training
from d3gan.training.step import StepContext
from d3gan.training.trackers import Tracking, open_trackers, require_packages
from d3gan.version import __version__

logger = logging.getLogger("d3gan")


@dataclass(frozen=True)
class TrainResult:
    """How a call of ``train`` ended."""

    run: Path
    """The run directory."""
    step: int
    """Steps done, this call and earlier ones."""
    last_step: int
    """Steps the config asks for."""
    interrupted_by: signal.Signals | None
    """The signal that stopped the run early."""
    first_step: int = 0
    """Steps that earlier calls had done."""


OnTick = Callable[[dict[str, Any]], object]
"""Called with each line of metrics.jsonl."""


def train(
    config: TrainConfig,
    display: Callable[[int, int], AbstractContextManager[Display]] | None = terminal_display,
    *,
    on_tick: OnTick | None = None,
    raise_interrupt: bool = True,
) -> TrainResult:
    """Trains one run, from the start or from its last checkpoint, until its last step or a signal.

    Started by torchrun, each process calls it and they train together; rank 0 alone shows, writes and calls
    ``on_tick``. Outside the main thread Python gives no signals: there ``on_tick`` can stop a run.

    Args:
        config: what to train; everything is written to ``config.run_directory``.
        display: given the last step and the first one, opens what shows the progress; None shows nothing, and prints
            no messages.
        on_tick: called every ``log_every`` steps, and at the end, with the line that metrics.jsonl gets, as a dict of
            its own. If it raises, the run is saved, at this step or with several processes at the next one, and the
            error is raised: that is how it stops a run. The line of a session's last step may come again, in the
            session that resumes the run.
        raise_interrupt: after a signal has stopped the run and it is saved, raise KeyboardInterrupt. False: return,
            with the signal in the result.

    Raises:
        ConfigError: a value does not fit this machine, these data, the other processes, or the run in the folder.
        ExternalError: data or files fail, or another process does.
        TrainingDivergedError: a loss or a weight became NaN or infinite.
        KeyboardInterrupt: Ctrl-C or another signal stopped the run; the same call resumes it.
    """
    with start(config.device, config.timeout) as (group, device), naming_lost_contact(group):
        if not group.is_main:
            display, on_tick = None, None
        with showing_messages() if display is not None else nullcontext():
            result = _train(config, group, device, display or silent_display, on_tick)
    if raise_interrupt and result.interrupted_by is not None:
        raise KeyboardInterrupt(
            f"stopped by {result.interrupted_by.name} at step {result.step}; saved in {result.run}; the same call "
            "resumes the run"
        )
    return result


def _train(
    config: TrainConfig,
    group: Group,
    device: torch.device,
    display: Callable[[int, int], AbstractContextManager[Display]],
    on_tick: OnTick | None,
) -> TrainResult:
    # What to compute with.
    with group.raise_on_all_ranks():
        precision = resolve_precision(config.resolved_precision, device)
        acceleration = resolve_acceleration(config, device, group.world_size)
        if device.type == "cpu":
            keep_memory()
        if group.is_main:
            require_packages(config.trackers)
            refuse_other_runs(config)  # before minutes go into fetching data
    group.require_equal(_versions(device) | _shared_facts(config) | {"precision": precision})

    # What to learn from.
    with group.raise_on_all_ranks():
        image_set = images_of(config)
        inputs = StepInputs(config, image_set.images, group, device, network_dtype(precision), image_set.labels)
    group.require_equal({"checksum of the images": image_set.identity})
    steps_in_run = config.epochs * inputs.steps_per_epoch
    last_step = min(steps_in_run, config.max_steps or steps_in_run)

    # What to measure the generator with.
    evaluator = PeriodicEvaluator(config, image_set, device, group) if config.evaluate_every else None

    with _open_run(config, group) as run:
        # Networks with their first weights, or as the last checkpoint has them.
        gan = build_gan(config, device, precision, group, len(image_set.class_names))
        step_size = config.images_per_step * group.world_size
        average = MovingAverage(gan.generator, decay_of(config, step_size)) if config.averages else None
        metrics_log = MetricsLog(
            run.metrics, gan, step_size, step_size // config.d_steps, inputs.steps_per_epoch, device, group
        )
        training = Training(run, config, gan, average, metrics_log, image_set)
        step = resume(training)
        do_step = accelerate(gan, config.grad_accum_steps, **acceleration)
        processes = group.all_gather({"host": hostname(), "device": str(device)})
        if group.is_main:
            # A finished run keeps its last line, which one that goes on writes anew.
            keep_lines_up_to(run.metrics, metrics_log.logged_step if step < last_step else step)
            keep_lines_up_to(run.evaluations, step)
            _record_environment(training, device, {"precision": precision, **acceleration}, processes, step)
        for text in _start_lines(training, device, precision, processes):
            logger.info(text)
        where = f"{inputs.steps_per_epoch} per epoch; run directory {run.path}"
        if step < last_step:
            logger.info(f"steps {step} to {last_step}, {where}")
            if steps_in_run < config.max_steps:
                epochs = math.ceil(config.max_steps / inputs.steps_per_epoch)
                logger.warning(
                    f"epochs = {config.epochs} ends the run at step {last_step}, before max_steps = "
                    f"{config.max_steps}; give --epochs {epochs} for all of them"
                )
            first_line = min((step // config.log_every + 1) * config.log_every, last_step)
            if first_line < last_step:
                logger.info(f"progress and time left: from step {first_line} on")
        else:
            logger.info(f"all {last_step} steps are done, {where}")

        with (
            _naming_last_checkpoint(run),
            _algorithms(config.deterministic),
            stop_requests(group) as stop,
            display(last_step, step) as screen,
            open_trackers(
                config.trackers if group.is_main else (), run, _settings(training), metrics_log.logged_step
            ) as tracking,
        ):
            first_step, alarms = step, Alarms()
            tick_error: BaseException | None = None
            real_images = latents = torch.empty(0)
            context = StepContext()
            metrics_log.stopwatch.restart()
            while True:
                # What is due after this many steps. In the first turn an earlier session has done it, except for an
                # evaluation during which that session was stopped, and the best files, before which it was killed.
                is_new = step > first_step
                is_last = step >= last_step
                stopping = is_new and group.to_stop()
                if is_new and (stopping or is_last or step % config.log_every == 0):
                    rates = learning_rates(config, step - 1, steps_in_run, training.batches_per_step)
                    diagnostics, logits = {}, dict[str, torch.Tensor]() if tracking else None
                    if config.diagnostics:
                        diagnostics = diagnose(gan, real_images, latents, config.batch_size, context, logits)
                        alarms.look_at(step, diagnostics)
                    line = metrics_log.log(step, *rates, diagnostics, last=step % config.log_every != 0)
                    screen.show(line)
                    if tracking:
                        with metrics_log.stopwatch.paused():
                            tracking.metrics(line)
                            tracking.logits(step, logits or {})
                    if on_tick is not None and tick_error is None:
                        with metrics_log.stopwatch.paused():
                            try:
                                on_tick(line)
                            except BaseException as error:
                                # The other processes hear of it in the next step, after which all of them save.
                                tick_error, group.wants_stop = error, True
                                stopping = stopping or group.world_size == 1
                if step == 0 or (is_new and (is_last or _due(step, config.sample_every or inputs.steps_per_epoch))):
                    with metrics_log.stopwatch.paused():
                        picture = save_samples(training, step)
                        if tracking and picture is not None:
                            tracking.samples(step, np.asarray(picture.convert("RGB")))
                is_best = evaluator is not None and not is_new and evaluator.best_is_unsaved(run, step)
                put_off = False
                if evaluator is not None and step > 0 and evaluator.is_due(run.evaluations, step, last_step):
                    with metrics_log.stopwatch.paused():
                        is_best, put_off = (
                            (False, True)
                            if stopping
                            else _evaluate(evaluator, training, step, screen, tracking, stop)
                        )
                    stopping = stopping or group.any_rank(bool(stop))
                if is_best or (is_new and (stopping or is_last or _due(step, config.checkpoint))):
                    group.heartbeat(f"saving step {step}")
                    with metrics_log.stopwatch.paused():
                        save(training, step, best=is_best)
                if stopping or is_last:
                    break

                # One step.
                group.heartbeat(f"the data of step {step + 1}")
                with metrics_log.stopwatch.data():
                    real_images, latents, context = inputs.at(step)
                rates = learning_rates(config, step, steps_in_run, training.batches_per_step)
                set_learning_rates(gan, *rates)
                group.heartbeat(f"step {step + 1}")
                metrics_log.record(do_step(real_images, latents, context))
                step += 1
                if average is not None:
                    average.update(gan.generator, step)
                screen.advance(step)

            unfinished = put_off or step < last_step
            if not unfinished:
                tracking.finish()
            reasons = group.all_gather((stop.signal, _short(tick_error))) if stopping and unfinished else []
            interrupted_by = next((number for number, _ in reasons if number is not None), None)
            if interrupted_by is not None:
                stop.tell_launcher(interrupted_by)
    if tick_error is not None:
        raise tick_error
    if error_of_main := next((text for _, text in reasons if text), None):
        raise PeerLostError(f"rank 0: on_tick raised {error_of_main}; step {step} is saved")
    return TrainResult(run.path, step, last_step, interrupted_by, first_step)


def _short(error: BaseException | None) -> str | None:
    return f"{type(error).__name__} ({first_line(error)})" if error is not None else None


def _settings(training: Training) -> dict[str, object]:
    """The run's hyper-parameters for trackers; of paths of this machine only the last name."""
    config = training.config
    values = dataclasses.asdict(config) | dataclasses.asdict(config.recipe)
    left_out = PER_PROCESS_KEYS | {"out", "track", "tensorboard"}
    facts = {"dataset": training.image_set.name, "world_size": training.group.world_size}
    values = {key: value for key, value in values.items() if key not in left_out}
    return {key: Path(v).name if isinstance(v, str) and os.sep in v else v for key, v in values.items()} | facts


def _versions(device: torch.device) -> dict[str, object]:
    """What the processes of a run must have in common besides the config."""
    return {"version of d3gan": __version__, "version of PyTorch": torch.__version__, "kind of device": device.type}


def _shared_facts(config: TrainConfig) -> dict[str, object]:
    """The keys that must be equal in all processes of a run."""
    return {key: value for key, value in dataclasses.asdict(config).items() if key not in PER_PROCESS_KEYS}


@contextmanager
def _open_run(config: TrainConfig, group: Group) -> Iterator[RunDirectory]:
    """The run's folder, which rank 0 takes for all; the others only have its name."""
    with ExitStack() as stack:
        with group.raise_on_all_ranks():
            if group.is_main:
                stack.enter_context(open_run(config))
        yield RunDirectory(config.run_directory)


def _start_lines(
    training: Training, device: torch.device, precision: str, processes: list[dict[str, str]]
) -> list[str]:
    """What a session says before its first step: one line each for the run, its data, its batches, its networks."""
    config, image_set, gan = training.config, training.image_set, training.gan
    data = f"{len(image_set.images):,} {image_set.unit}"
    data += f" of {len(image_set.class_names)} classes" if image_set.class_names else ""
    if not config.makes_points:
        data += (
            f", {config.image_size} x {config.image_size} pixels, {config.nc} channel{'s' if config.nc > 1 else ''}"
        )
    generator, *sizes = (
        sum(parameter.numel() for parameter in network.parameters())
        for network in (gan.generator, *gan.discriminators.members)
    )
    # A process of an MD-GAN holds some of the discriminators alone; all are alike.
    same = f"{config.recipe.discriminators} x {sizes[0]:,}" if len(set(sizes)) == 1 else ""
    discriminators = same or ", ".join(f"D{k} {size:,}" for k, size in enumerate(sizes))
    return [
        f"training {config.model} on {image_set.name}: {device}, {precision}, seed {config.seed}",
        f"data: {data}",
        _batch_description(config, training.group, processes),
        f"networks: {config.resolved_network}; parameters: generator {generator:,}, discriminators {discriminators}",
    ]


def _batch_description(config: TrainConfig, group: Group, processes: list[dict[str, str]]) -> str:
    hosts = len({process["host"] for process in processes})
    parts = [f"batch size {config.batch_size}"]
    if config.grad_accum_steps > 1:
        parts.append(f"{config.grad_accum_steps} accumulated")
    if group.world_size > 1:
        parts.append(f"{group.world_size} processes" + (f" on {hosts} hosts" if hosts > 1 else ""))
    if config.d_steps > 1:
        parts.append(f"{config.d_steps} discriminator steps")
    total = config.images_per_step * group.world_size
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    again = f"; restart {attempt} of {os.environ.get('TORCHELASTIC_MAX_RESTARTS')}" if attempt != "0" else ""
    return " x ".join(parts) + f": {total} images per step{again}"


@contextmanager
def _naming_last_checkpoint(run: RunDirectory) -> Iterator[None]:
    """Adds to a divergence where the last good weights are and what to try."""
    try:
        yield
    except TrainingDivergedError as error:
        paths = checkpoints(run.checkpoints)
        last = f"the last good checkpoint is {paths[-1]}" if paths else "there is no checkpoint yet"
        raise TrainingDivergedError(
            f"{error}; {last}; try a lower --lr or --precision float32, with another --out"
        ) from error


@contextmanager
def _algorithms(deterministic: bool) -> Iterator[None]:
    """Sets the cuDNN flags for the run and restores the caller's afterwards."""
    # TF32 is off: float32 means float32, and bf16 is there for speed.
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=not deterministic, deterministic=deterministic, allow_tf32=False
    ):
        yield


def _due(step: int, *intervals: int) -> bool:
    """Whether a step is the end of one of the intervals; an interval of 0 has no end."""
    return any(every > 0 and step % every == 0 for every in intervals)


def _evaluate(
    evaluator: PeriodicEvaluator,
    training: Training,
    step: int,
    screen: Display,
    tracking: Tracking,
    stop: StopRequest,
) -> tuple[bool, bool]:
    """Evaluates the generator, and writes and shows the metrics.

    If a signal arrives meanwhile, nothing is written: the session that resumes the run evaluates first.

    Returns:
        Whether the generator is the best one so far, and whether the evaluation was put off.
    """
    group, (weights, generator) = training.group, training.evaluated_generator()
    screen.note(f"evaluating step {step} with {training.config.num_samples:,} images")
    line = evaluator.evaluate(generator, step, training.metrics_log.training_seconds(), weights, lambda: bool(stop))
    if line is None:
        screen.note(f"evaluation of step {step} put off")
        return False, True
    is_best = group.is_main and evaluator.write(training.run.evaluations, line)
    if group.is_main:
        screen.note(f"step {step}: {one_line(line)}{', best so far' if is_best else ''}")
        tracking.evaluation(step, metrics_of(line))
    return bool(group.broadcast(is_best)), False


def _record_environment(
    training: Training,
    device: torch.device,
    arithmetic: dict[str, object],
    processes: list[dict[str, str]],
    step: int,
) -> None:
    """Adds this session to environment.json; warns if the last one ran on another machine or in another way."""
    run, image_set = training.run, training.image_set
    earlier = read_environment(run)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    data = {"name": image_set.name, "split": image_set.split, "images": len(image_set.images)}
    data |= {"damaged_left_out": image_set.left_out} if image_set.left_out else {}
    facts = {
        "device": str(device),
        "device_name": name,
        **arithmetic,
        "from_step": step,
        "world_size": training.group.world_size,
        "grad_accum_steps": training.config.grad_accum_steps,
        "processes": processes,
        "data": data | {"sha256": image_set.identity},
    }
    now = write_environment(run, facts)
    if earlier and step > 0:
        keys = ("torch", "device", "device_name", "threads", "processor", "world_size", *arithmetic)
        changed = [
            f"{key} {earlier[-1][key]} -> {now[key]}" for key in keys if earlier[-1].get(key, now[key]) != now[key]
        ]
        if changed:
            logger.warning(f"{', '.join(changed)} since the last session: the run resumes, but not bit for bit")
