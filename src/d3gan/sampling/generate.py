"""Images from a generator."""

from contextlib import nullcontext

import torch
from torch import Tensor

from d3gan.images import to_uint8
from d3gan.models.base import GeneratorNetwork
from d3gan.progress_bar import progress_bar
from d3gan.randomness import draw_latents

# Images per call of the generator: few enough for any device, enough to keep it busy.
CHUNK = 256
# The sample grids of a run with classes: images of each, and how many of the classes, from the first one.
GRID_COLUMNS, GRID_CLASSES = 8, 16


def sample(
    generator: GeneratorNetwork,
    num: int = 64,
    seed: int = 0,
    latents: Tensor | None = None,
    labels: Tensor | None = None,
) -> Tensor:
    """Makes images with a generator, a chunk at a time.

    Args:
        generator: called in eval mode; its mode is restored afterwards.
        num: number of images; ignored if latents or labels are given.
        seed: decides the latents, the same ones on every device.
        latents: (N, nz) to use instead.
        labels: (N,) int64, the class of each image, of a generator with classes; None: the classes in turn.

    Returns:
        (N, nc, S, S) uint8, or points (N, 2) float32, on the CPU.
    """
    if latents is None:
        count = num if labels is None else len(labels)
        latents = draw_latents(count, generator.nz, seed, "samples", device="cpu")
    if labels is None and generator.classes:
        labels = torch.arange(len(latents)) % generator.classes
    dtype = torch.float32 if generator.makes_points else torch.uint8
    samples = torch.empty((len(latents), *generator.sample_shape), dtype=dtype)
    with progress_bar("samples", len(latents), unit="images") if len(latents) > CHUNK else nullcontext() as advance:
        for i in range(0, len(latents), CHUNK):
            of_chunk = labels[i : i + CHUNK] if labels is not None else None
            raw = raw_sample(generator, latents[i : i + CHUNK], of_chunk)
            samples[i : i + CHUNK] = raw if generator.makes_points else to_uint8(raw)
            if advance is not None:
                advance(len(raw))
    return samples


def raw_sample(generator: GeneratorNetwork, latents: Tensor, labels: Tensor | None = None) -> Tensor:
    """Makes images in one call of the generator, without converting them.

    Args:
        generator: called in eval mode; its mode is restored afterwards.
        latents: (N, nz), on any device.
        labels: (N,) int64, on any device, of a generator with classes.

    Returns:
        (N, nc, S, S) in [-1, 1], on the generator's device.
    """
    was_training = generator.training
    generator.eval()
    try:
        with torch.inference_mode():
            own = latents.to(next(generator.parameters()))
            images: Tensor = generator(own) if labels is None else generator(own, labels.to(own.device))
    finally:
        generator.train(was_training)
    return images
