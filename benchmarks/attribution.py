"""Assigns each operator of a profiled training step to a group of operators and to a phase of the step."""

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import record_function

from d3gan.models import matmul_convolution
from d3gan.models.dcgan import Generator
from d3gan.training import step

FORWARD, INPUTS, WEIGHTS = "convolutions forward", "their input gradients", "their weight gradients"
CASTS, LATENTS, REST = "casts and copies", "latents", "the rest"
# An operator's group: the first whose pattern matches its name or the name of an operator that calls it.
GROUPS = [
    ("Adam", r"^Optimizer\."),
    (WEIGHTS, WEIGHTS),
    (INPUTS, rf"{INPUTS}|ByMatmulBackward"),
    (FORWARD, r"ByMatmul"),
    (CASTS, r"aten::_to_copy"),
    (FORWARD, r"aten::conv"),
    ("BatchNorm", r"batch_norm|BatchNorm"),
    ("activations", r"(relu|mish|tanh)_?\b|(Relu|Mish|Tanh)Backward"),
    ("loss and selection", r"aten::(softplus|mean|neg|roll|sum|arg)|(Softplus|Mean|Neg|Roll|Sum)Backward"),
    (LATENTS, LATENTS),
    (CASTS, r"aten::(copy_|clone|contiguous|cat|stack)"),
]
# Phase of a step -> the function that runs it, as its owner and its name.
PHASES: dict[str, tuple[Any, str]] = {
    "fake images": (Generator, "forward"),
    "discriminators": (step, "update_discriminators"),
    "generator": (step, "update_generator"),
}

Parts = Mapping[tuple[str, str], float]


@contextmanager
def named_ranges(device: torch.device) -> Iterator[None]:
    """A block in which the profiler records the phases of a step, and which gradient a convolution computes."""

    def ranged(label: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def inside(*given: Any) -> Any:
            with record_function(label):
                return function(*given)

        return inside

    with ExitStack() as stack, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warning only once for all operators")
        for phase, (owner, name) in PHASES.items():
            stack.enter_context(patch.object(owner, name, ranged(phase, getattr(owner, name))))
        weight_gradient = ranged(WEIGHTS, matmul_convolution.weight_gradient)
        stack.enter_context(patch.object(matmul_convolution, "weight_gradient", weight_gradient))
        library = stack.enter_context(torch.library._scoped_library("aten", "IMPL"))
        library.impl("convolution_backward", one_by_one, f"Autograd{device.type.upper()}", with_keyset=True)
        yield


def one_by_one(keys: Any, *given: Any) -> tuple[Tensor | None, ...]:
    """PyTorch's gradients of a convolution, one call each, as PyTorch computes them anyway."""
    *arguments, needed = given
    keys = keys & torch._C._after_autograd_keyset
    gradients: list[Tensor | None] = [None, None, None]
    for i, label in enumerate((INPUTS, WEIGHTS)):
        if needed[i]:
            with record_function(label):
                mask = [i == j for j in range(3)]
                gradients[i] = torch.ops.aten.convolution_backward.default.redispatch(keys, *arguments, mask)[i]
    return tuple(gradients)


def parts_of(events: list[FunctionEvent], seconds: float, device: torch.device) -> Parts:
    """Seconds per step by phase and group: of kernels on a GPU, else of operators; the rest is what neither took."""
    # A GPU's kernels belong to the CPU events that start them.
    events = [event for event in events if event.device_type.name == "CPU"]
    phases = [event for event in events if event.name in PHASES]
    parts: defaultdict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        kernels = sum(kernel.duration for kernel in event.kernels)
        microseconds = kernels if device.type == "cuda" else event.self_cpu_time_total
        parts[phase_of(event, phases), group_of(event)] += microseconds / 1e6
    parts["between", REST] += seconds - sum(parts.values())
    return parts


def names_of(event: FunctionEvent) -> list[str]:
    """The names of an operator and of those that call it, outermost first, without the step's phases."""
    names: list[str] = []
    caller: FunctionEvent | None = event
    while caller is not None:
        names.append(caller.name)
        caller = caller.cpu_parent
    return [name for name in reversed(names) if name not in PHASES]


def group_of(event: FunctionEvent) -> str:
    """The group of an operator."""
    path = " > ".join(names_of(event))
    return next((group for group, pattern in GROUPS if re.search(pattern, path)), REST)


def phase_of(event: FunctionEvent, phases: list[FunctionEvent]) -> str:
    """The part of the step in which an operator starts: its time decides, since backward passes have own threads."""
    start = event.time_range.start
    inside = [p.name for p in phases if p.time_range.start <= start <= p.time_range.end]
    if not inside:
        return "between"
    outermost = (names_of(event) or [""])[0]
    part = "Adam" if outermost.startswith("Optimizer.") else "backward" if "autograd::" in outermost else "forward"
    return f"{inside[0]} {part}"
