"""The generator's weights as a file to share: safetensors, with the architecture in its header."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from d3gan.devices import resolve_device
from d3gan.errors import ConfigError, ExternalError, first_line
from d3gan.files import replace_file
from d3gan.models.base import GeneratorNetwork
from d3gan.models.matmul_convolution import use_matmul
from d3gan.models.networks import make_generator
from d3gan.runs.directory import find_run

FORMAT = 1


def save_generator(generator: GeneratorNetwork, path: Path, facts: dict[str, Any]) -> None:
    """Writes the weights, float32, with architecture and facts (model, dataset, step, …) as text in the header.

    Raises:
        ExternalError: the file cannot be written.
    """
    tensors = {
        name: value.detach().to("cpu", torch.float32 if value.is_floating_point() else value.dtype).contiguous()
        for name, value in generator.state_dict().items()
    }
    # One entry: safetensors writes several in no fixed order, and equal generators would differ as files.
    header = {"format": FORMAT, "architecture": generator.architecture, "facts": facts}
    with replace_file(path) as file:
        file.write(save(tensors, {"d3gan": json.dumps(header)}))


def load_generator(run: str | Path, device: str = "cpu") -> GeneratorNetwork:
    """Reads a run's generator, in eval mode: BatchNorm uses its running statistics.

    Args:
        run: a run directory, or a generator.safetensors.
        device: auto, cpu, cuda, cuda:N or mps.

    Returns:
        A module that maps latents (N, nz) to images (N, nc, S, S) in [-1, 1], or to points (N, 2); its ``nz`` says
        how long a latent is, its ``sample_shape`` what it makes. One that was trained with classes also takes labels
        (N,) int64; ``classes`` is their number, and ``class_names`` are their names.

    Raises:
        ConfigError: no run there, or no generator in it yet.
        ExternalError: the file is damaged.
    """
    target = resolve_device(device)
    with _opened(run) as (file, header):
        generator = make_generator(header["architecture"])
        generator.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        numbers = map(str, range(generator.classes))
        generator.class_names = tuple(header["facts"].get("class_names", numbers))
    # As it was trained: then it makes the same images to the last bit.
    if target.type == "cpu":
        use_matmul(generator)
    return generator.to(target).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def read_facts(run: str | Path) -> dict[str, Any]:
    """The facts that ``save_generator`` wrote about the run's generator.

    Raises:
        ConfigError, ExternalError: as ``load_generator``.
    """
    with _opened(run) as (_, header):
        return dict(header["facts"])


@contextmanager
def _opened(run: str | Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The opened safetensors file and our part of its header."""
    path = Path(run)
    if path.suffix != ".safetensors":
        path = find_run(run).generator
    if not path.is_file():
        raise ConfigError(f"{path}: no generator there; `d3gan train` writes it with the run's first checkpoint")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("d3gan", "{}"))
            if header.get("format") != FORMAT:
                raise ExternalError(f"{path}: is no generator of d3gan (format {header.get('format')}, not {FORMAT})")
            yield file, header
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, ExternalError):
            raise
        raise ExternalError(f"{path}: is damaged ({first_line(error)}); `d3gan train` writes it again") from error
