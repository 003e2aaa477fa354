"""What each operator of a profiled training step counts for: a group, and a phase of the step."""

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
from d3gan.training.step import train_step

FORWARD, INPUTS, WEIGHTS = "convolutions forward", "their input gradients", "their weight gradients"
CASTS, LATENTS, REST = "casts and copies", "latents", "the rest"
# The first that is found in the names of an operator and of those it is called by, from the outermost, is its group.
GROUPS = [
    ("Adam", r"^Optimizer\."),
    (WEIGHTS, WEIGHTS),
    (INPUTS, rf"{INPUTS}|ByProductsBackward"),
    (FORWARD, r"ByMatmul"),
    (CASTS, r"aten::_to_copy"),
    (FORWARD, r"aten::conv"),
    ("BatchNorm", r"batch_norm|BatchNorm"),
    ("activations", r"(relu|mish|tanh)_?\b|(Relu|Mish|Tanh)Backward"),
    ("loss and selection", r"aten::(softplus|mean|neg|roll|sum|arg)|(Softplus|Mean|Neg|Roll|Sum)Backward"),
    (LATENTS, LATENTS),
    (CASTS, r"aten::(copy_|clone|contiguous|cat|stack)"),
]
# Functions of d3gan.training.step, each with the name of what it does forward.
PHASES = {"draft": "fake images", "discriminator_phase": "discriminators", "generator_phase": "generator"}

Parts = Mapping[tuple[str, str], float]


@contextmanager
def named_ranges(device: torch.device) -> Iterator[None]:
    """A block in which the profiler sees the phases of a step, and which gradient a convolution computes."""

    def ranged(label: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def inside(*given: Any) -> Any:
            with record_function(label):
                return function(*given)

        return inside

    with ExitStack() as stack, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warning only once for all operators")
        for name in PHASES:
            stack.enter_context(patch.object(train_step, name, ranged(name, getattr(train_step, name))))
        ours = ranged(WEIGHTS, matmul_convolution.weight_gradient)
        stack.enter_context(patch.object(matmul_convolution, "weight_gradient", ours))
        library = stack.enter_context(torch.library._scoped_library("aten", "IMPL"))
        library.impl("convolution_backward", one_by_one, f"Autograd{device.type.upper()}", with_keyset=True)
        yield


def one_by_one(keys: Any, *given: Any) -> tuple[Tensor | None, ...]:
    """PyTorch's gradients of a convolution, each by a call of its own, as it computes them anyway."""
    *arguments, wanted = given
    keys = keys & torch._C._after_autograd_keyset
    found: list[Tensor | None] = [None, None, None]
    for i, label in enumerate((INPUTS, WEIGHTS)):
        if wanted[i]:
            with record_function(label):
                mask = [i == place for place in range(3)]
                found[i] = torch.ops.aten.convolution_backward.default.redispatch(keys, *arguments, mask)[i]
    return tuple(found)


def parts_of(events: list[FunctionEvent], seconds: float, device: torch.device) -> Parts:
    """Seconds of a step by phase and group: of kernels on a GPU, else of operators; what is missing is the rest."""
    events = [event for event in events if event.device_type.name == "CPU"]  # GPUs' hang on those that started them
    phases = [event for event in events if event.name in PHASES]
    found: defaultdict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        kernels = sum(kernel.duration for kernel in event.kernels)
        microseconds = kernels if device.type == "cuda" else event.self_cpu_time_total
        found[phase_of(event, phases), group_of(event)] += microseconds / 1e6
    found["between", REST] += seconds - sum(found.values())
    return found


def names_of(event: FunctionEvent) -> list[str]:
    """An operator and those it is called by, from the outermost; without the step's phases."""
    names: list[str] = []
    at: FunctionEvent | None = event
    while at is not None:
        names.append(at.name)
        at = at.cpu_parent
    return [name for name in reversed(names) if name not in PHASES]


def group_of(event: FunctionEvent) -> str:
    """The group that an operator counts for."""
    path = " > ".join(names_of(event))
    return next((group for group, pattern in GROUPS if re.search(pattern, path)), REST)


def phase_of(event: FunctionEvent, phases: list[FunctionEvent]) -> str:
    """The part of the step that an operator belongs to, by time: a GPU's backward pass has a thread of its own."""
    start = event.time_range.start
    inside = [p.name for p in phases if p.time_range.start <= start <= p.time_range.end]
    if not inside:
        return "between"
    outermost = (names_of(event) or [""])[0]
    part = "Adam" if outermost.startswith("Optimizer.") else "backward" if "autograd::" in outermost else "forward"
    return f"{PHASES[inside[0]]} {part}"
