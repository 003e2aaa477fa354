"""Images from a generator."""

import torch
from torch import Tensor

from d3gan.images import to_uint8
from d3gan.models.base import GeneratorNetwork
from d3gan.randomness import draw_latents

# Images per call of the generator: few enough for any device, enough to keep it busy.
CHUNK = 256


def sample(generator: GeneratorNetwork, num: int = 64, seed: int = 0, latents: Tensor | None = None) -> Tensor:
    """Makes images with a generator, a chunk at a time.

    Args:
        generator: called in eval mode; its mode is restored afterwards.
        num: number of images; ignored if latents are given.
        seed: decides the latents, the same ones on every device.
        latents: (N, nz) to use instead.

    Returns:
        (N, nc, S, S) uint8, or points (N, 2) float32, on the CPU.
    """
    if latents is None:
        latents = draw_latents(num, generator.nz, seed, "samples", device="cpu")
    dtype = torch.float32 if generator.makes_points else torch.uint8
    samples = torch.empty((len(latents), *generator.sample_shape), dtype=dtype)
    for i in range(0, len(latents), CHUNK):
        raw = raw_sample(generator, latents[i : i + CHUNK])
        samples[i : i + CHUNK] = raw if generator.makes_points else to_uint8(raw)
    return samples


def raw_sample(generator: GeneratorNetwork, latents: Tensor) -> Tensor:
    """Makes images in one call of the generator, without converting them.

    Args:
        generator: called in eval mode; its mode is restored afterwards.
        latents: (N, nz), on any device.

    Returns:
        (N, nc, S, S) in [-1, 1], on the generator's device.
    """
    was_training = generator.training
    generator.eval()
    try:
        with torch.inference_mode():
            images: Tensor = generator(latents.to(next(generator.parameters())))
    finally:
        generator.train(was_training)
    return images
