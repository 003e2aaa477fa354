"""The generator's weights as a file to share: safetensors, with the architecture in its header."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from d3gan.build import resolve_device
from d3gan.errors import ConfigError, WorldError
from d3gan.files import replace_file
from d3gan.images import to_uint8
from d3gan.models.dcgan import Generator
from d3gan.randomness import draw_latents
from d3gan.run_directory import find_run

FORMAT = "d3gan-generator-1"


def save_generator(generator: Generator, path: Path, facts: dict[str, Any]) -> None:
    """Writes the weights, float32, with architecture and facts (model, dataset, step, …) as text in the header.

    Raises:
        WorldError: the file cannot be written.
    """
    tensors = {
        name: value.detach().to("cpu", torch.float32 if value.is_floating_point() else value.dtype).contiguous()
        for name, value in generator.state_dict().items()
    }
    header = {"format": FORMAT, "architecture": json.dumps(generator.architecture), "facts": json.dumps(facts)}
    with replace_file(path) as file:
        file.write(save(tensors, header))


def load_generator(run: str | Path, device: str = "cpu") -> Generator:
    """Reads a run's generator, in eval mode: BatchNorm uses its running statistics.

    Args:
        run: a run directory, or a generator.safetensors.
        device: auto, cpu, cuda, cuda:N or mps.

    Returns:
        A module that maps latents (N, nz) to images (N, nc, S, S) in [-1, 1]; its ``nz`` says how long a latent is.

    Raises:
        ConfigError: no run there, or no generator in it yet.
        WorldError: the file is damaged.
    """
    target = resolve_device(device)
    with _opened(run) as file:
        generator = Generator(**json.loads(file.metadata()["architecture"]))
        generator.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    return generator.to(target).eval()


def read_header(run: str | Path) -> dict[str, str]:
    """The header of a run's generator: ``format``, and ``architecture`` and ``facts`` as JSON.

    Raises:
        ConfigError, WorldError: as ``load_generator``.
    """
    with _opened(run) as file:
        return dict(file.metadata())


@contextmanager
def _opened(run: str | Path) -> Iterator[Any]:
    path = Path(run)
    if path.suffix != ".safetensors":
        path = find_run(run).generator
    if not path.is_file():
        raise ConfigError(f"{path}: no generator there; `d3gan train` writes it with the run's first checkpoint")
    try:
        with safe_open(path, "pt") as file:
            found = (file.metadata() or {}).get("format")
            if found != FORMAT:
                raise WorldError(f"{path}: is no generator of d3gan (format {found!r}, not {FORMAT!r})")
            yield file
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, WorldError):
            raise
        raise WorldError(
            f"{path}: is damaged ({str(error).splitlines()[0]}); `d3gan train` writes it again"
        ) from error


def sample(generator: Generator, num: int = 64, seed: int = 0, latents: Tensor | None = None) -> Tensor:
    """Images from a generator, a chunk at a time.

    Args:
        generator: put in eval mode for the call.
        num: how many; ignored where latents are given.
        seed: decides the latents, the same ones on every device.
        latents: (N, nz) to use instead.

    Returns:
        (N, nc, S, S) uint8, on the CPU.
    """
    parameter = next(generator.parameters())
    if latents is None:
        latents = draw_latents(num, generator.nz, seed, "samples", device="cpu")
    was_training = generator.training
    generator.eval()
    try:
        with torch.inference_mode():
            images = [to_uint8(generator(part.to(parameter))).cpu() for part in latents.split(256)]
    finally:
        generator.train(was_training)
    return torch.cat(images)
