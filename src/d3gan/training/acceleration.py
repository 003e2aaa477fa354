"""How the training step is called: as it is written, with compiled networks, or as one CUDA graph."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from d3gan.config.train_config import TrainConfig
from d3gan.errors import ConfigError
from d3gan.models.spectral_norm import SpectralNorm
from d3gan.training.accumulation import step_in_parts
from d3gan.training.step import GAN, StepContext, StepResult

Step = Callable[[Tensor, Tensor, StepContext], StepResult]
"""A training step of given networks, as a function of real images, latents and context."""

# What of a context a recorded step reads: all its tensors.
_READ = tuple(each.name for each in dataclasses.fields(StepContext) if each.type == Tensor | None)

# Steps before a graph is recorded: cuDNN chooses algorithms and Adam makes its state.
WARM_UP = 3


def resolve_acceleration(config: TrainConfig, device: torch.device, world_size: int) -> dict[str, bool]:
    """Whether the networks are compiled and whether the step is a CUDA graph.

    ``auto`` is off for both. torch.compile made the step slower on a CPU (docs/performance.md); neither has been
    measured on a GPU.

    Raises:
        ConfigError: a CUDA graph is asked for where there can be none.
    """
    if config.cuda_graph == "on" and device.type != "cuda":
        raise ConfigError(f"cuda_graph = on: needs a CUDA device, this is {device}; use auto or off")
    if config.cuda_graph == "on" and world_size > 1:
        raise ConfigError(f"cuda_graph = on: serves a single process, here are {world_size}; use auto or off")
    return {"compile": config.compile == "on", "cuda_graph": config.cuda_graph == "on"}


def accelerate(gan: GAN, grad_accum_steps: int, *, compile: bool, cuda_graph: bool) -> Step:
    """The training step of these networks.

    Call this after a checkpoint has been loaded.

    Args:
        gan: its networks are compiled in place with ``compile``.
        grad_accum_steps: batches per step.
        compile: whether to compile the networks; the first steps then take minutes.
        cuda_graph: whether to record the step at its first call and replay it from then on.
    """
    for optimizer in gan.optimizers().values():
        make_capturable(optimizer, cuda_graph)
    if compile:
        # A compiled graph would keep the vectors of spectral norm themselves for its backward pass, and the next
        # forward changes them.
        for module in gan.discriminators.modules():
            if isinstance(module, SpectralNorm):
                module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign]
        for network in (gan.generator, *gan.discriminators.members):
            network.compile()
    step = functools.partial(step_in_parts(grad_accum_steps, gan.workers is not None), gan)
    return GraphedStep(gan, step, record_cuda_graph) if cuda_graph else step


class GraphedStep:
    """A training step whose work on the device is recorded once and then replayed as a whole.

    What the host does in a step, some hundred calls that start a piece of work each, is done once. Images, latents
    and the learning rate are copied to where the recorded step reads them. The result's tensors are overwritten by
    the next call.

    Args:
        gan: updated in place.
        step: the step of ``gan`` to record.
        record: given a step without arguments, returns a function that repeats it.
    """

    def __init__(
        self,
        gan: GAN,
        step: Step,
        record: Callable[[Callable[[], StepResult]], Callable[[], StepResult]],
    ):
        self._gan, self._train_step, self._record = gan, step, record
        self._replay: Callable[[], StepResult] | None = None
        self._inputs: list[Tensor | None] = []

    def __call__(self, real_images: Tensor, latents: Tensor, context: StepContext) -> StepResult:
        """One step; arguments as ``train_step``, of one shape in all calls. The number of the step is not used."""
        given = [real_images, latents, *(getattr(context, name) for name in _READ)]
        if self._replay is None:
            self._inputs = [tensor.clone() if tensor is not None else None for tensor in given]
            self._warm_up(real_images.device)
            self._replay = self._record(self._step)
        for kept, tensor in zip(self._inputs, given, strict=True):
            if kept is not None and tensor is not None:
                kept.copy_(tensor)
        return self._replay()

    def _step(self) -> StepResult:
        real_images, latents, *of_context = self._inputs
        read: dict[str, Any] = dict(zip(_READ, of_context, strict=True))
        context = StepContext(**read)
        return self._train_step(real_images, latents, context)  # type: ignore[arg-type]

    def _warm_up(self, device: torch.device) -> None:
        """Runs warm-up steps, then restores weights and optimizer state in place."""
        with _as_before(self._gan), _side_stream(device):
            for _ in range(WARM_UP):
                self._step()


def record_cuda_graph(step: Callable[[], StepResult]) -> Callable[[], StepResult]:
    """Records a step as a CUDA graph, without doing it; returns what does it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()

    def replay() -> StepResult:
        graph.replay()
        return result

    return replay


@contextmanager
def _side_stream(device: torch.device) -> Iterator[None]:
    """A block on a stream of its own, as CUDA wants it before a graph is recorded."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)


@contextmanager
def _as_before(gan: GAN) -> Iterator[None]:
    """A block after which networks and optimisers hold the numbers they held before it."""
    modules, optimizers = gan.modules().values(), gan.optimizers().values()
    tensors = [t.detach() for module in modules for t in (*module.parameters(), *module.buffers())]
    copies = [t.clone() for t in tensors]
    states = [{p: {k: v.clone() for k, v in s.items()} for p, s in o.state.items()} for o in optimizers]
    yield
    for tensor, before in zip(tensors, copies, strict=True):
        tensor.copy_(before)
    for optimizer, state in zip(optimizers, states, strict=True):
        for parameter, own in optimizer.state.items():
            for name, tensor in own.items():
                # Adam begins with zeros.
                tensor.copy_(state[parameter][name]) if parameter in state else tensor.zero_()
        optimizer.zero_grad()


def make_capturable(optimizer: Optimizer, capturable: bool) -> None:
    """Has Adam keep on the device what a graph must find there: its learning rate and its count of steps; or not.

    A checkpoint may come from a run that had it otherwise.
    """
    for group in optimizer.param_groups:
        first = group["params"][0]
        device = first.device
        group["capturable"] = capturable and device.type == "cuda"  # PyTorch refuses it on a CPU
        rate = float(group["lr"])
        group["lr"] = torch.tensor(rate, dtype=first.dtype, device=device) if capturable else rate
        for parameter in group["params"]:
            if "step" in (state := optimizer.state.get(parameter, {})):
                state["step"] = state["step"].to(device if capturable else "cpu")


def set_learning_rates(gan: GAN, generator: float, discriminators: float) -> None:
    """Sets Adam's learning rates; where a graph reads them from the device, there."""
    for optimizer, rate in ((gan.generator_optimizer, generator), (gan.discriminator_optimizer, discriminators)):
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
