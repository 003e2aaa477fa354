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
from d3gan.files import kind_of, replace_file, user_path
from d3gan.models.base import GeneratorNetwork
from d3gan.models.matmul_convolution import use_matmul
from d3gan.models.networks import make_generator
from d3gan.runs.directory import RunDirectory, find_run

FORMAT = 1

_UNREADABLE = (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OverflowError, MemoryError)
"""What safetensors, json and torch raise for a header or tensors that are not what was written."""


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
        run: a run directory, a folder that ``d3gan export --format hub`` wrote, or a generator.safetensors.
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
        # On the meta device a network has shapes and no memory: what the header asks for is compared with what the
        # file holds before anything of that size is made.
        with torch.device("meta"):
            generator = make_generator(_checked(header["architecture"]))
        expected = generator.state_dict()
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        unfit = [
            name
            for name in {**expected, **shapes}
            if shapes.get(name) != tuple(getattr(expected.get(name), "shape", (-1,)))
        ]
        if unfit:
            raise ValueError(f"{len(unfit)} tensors do not fit the network of its header, first {unfit[0]}")
        tensors = {name: file.get_tensor(name).to(value.dtype) for name, value in expected.items()}
        generator.load_state_dict(tensors, assign=True)
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
        facts = header["facts"]
        if not isinstance(facts, dict):
            raise ValueError("its facts are no object")
        seed = facts.get("seed", 0)
        if type(seed) is not int or not 0 <= seed < 2**63:
            raise ValueError(f"seed = {seed!r}: must be 0 to 2^63 - 1")
        for key in ("radius", "deviation"):
            value = facts.get(key, "")
            if value != "" and not (type(value) in (int, float) and 0 < value < 1e6):
                raise ValueError(f"{key} = {value!r}: must be a positive number")
        return facts


def generator_path(run: str | Path) -> Path:
    """The file of the generator that a user names by a run directory, by another folder that has one, or itself.

    Raises:
        ConfigError: the folder is no run and has none.
    """
    path = user_path(run)
    if path.suffix == ".safetensors":
        return path
    file = RunDirectory(path).generator
    return file if kind_of(file) else find_run(path).generator


def _checked(architecture: Any) -> dict[str, Any]:
    """The arguments of a network as a header may have them: whole numbers above 0, and words."""
    if not isinstance(architecture, dict):
        raise TypeError("its architecture is no object")
    for key, value in architecture.items():
        if not isinstance(value, str) and not (type(value) is int and value >= (0 if key == "classes" else 1)):
            raise ValueError(f"{key} = {value!r}: must be a whole number above 0")
    return architecture


@contextmanager
def _opened(run: str | Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The opened safetensors file and our part of its header."""
    path = generator_path(run)
    kind = kind_of(path)
    if not kind:
        raise ConfigError(f"{path}: no generator there; `d3gan train` writes it with the run's first checkpoint")
    if kind != "a file":
        raise ConfigError(f"{path}: is {kind}; give a run directory or its generator.safetensors")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("d3gan", "{}"))
            version = header.get("format") if isinstance(header, dict) else "none"
            if version != FORMAT:
                raise ExternalError(f"{path}: is no generator of d3gan (format {version!r:.20}, not {FORMAT})")
            yield file, header
    except _UNREADABLE as error:
        if isinstance(error, ExternalError):
            raise
        raise ExternalError(f"{path}: is damaged ({first_line(error)}); `d3gan train` writes it again") from error
