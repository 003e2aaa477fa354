"""The published programs' own FID, so that their curves can be compared with ours. It measures little; see the docs.

They compare the means and covariances of 64 early Inception features, averaged over the image, of one batch of real
and one batch of fake images. Both batches are in [-1, 1] and go to 8 bits as ``x * 255`` does, unscaled: PyTorch
truncates towards zero and wraps, so that -1 becomes 1 and -0.5 becomes 129 (REFERENCE: defect 3).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from d3gan.errors import ConfigError
from d3gan.evaluation.extractors.base import Extractor
from d3gan.evaluation.extractors.inception import Inception
from d3gan.evaluation.extractors.inception_network import EARLY_FEATURES
from d3gan.evaluation.feature_statistics import gray_to_color
from d3gan.evaluation.metrics.fid import Moments, frechet_distance
from d3gan.evaluation.real_images import RealImages
from d3gan.images import from_uint8
from d3gan.models.base import GeneratorNetwork
from d3gan.randomness import draw_labels, draw_latents
from d3gan.sampling.generate import raw_sample


def wrapped_to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] -> uint8 as the published programs convert: times 255, truncated, modulo 256."""
    # Through int64: a negative float straight to uint8 is undefined in C++.
    return (images.float() * 255).to(torch.int64).to(torch.uint8)


def published_fid(
    generator: GeneratorNetwork,
    real: RealImages,
    extractor: Extractor,
    batch_size: int,
    seed: int,
    class_counts: Sequence[int] = (),
) -> float:
    """The Fréchet distance of 64 features between one batch of real and one of fake images.

    Args:
        generator: called in eval mode, as in all of ``d3gan.evaluation``.
        real: its first images are the real batch.
        extractor: Inception.
        batch_size: images per batch, at least 2.
        seed: decides the latents.
        class_counts: as for ``fake_images``.

    Raises:
        ConfigError: the extractor is not Inception.
    """
    early = require_inception(extractor).early_features
    real_images = from_uint8(real.source()(0, min(batch_size, len(real))))
    latents = draw_latents(batch_size, generator.nz, seed, "published protocol", device="cpu")
    labels = None
    if class_counts:
        labels = draw_labels(batch_size, class_counts, seed, "published protocol labels", device="cpu")
    fake_images = gray_to_color(raw_sample(generator, latents, labels))
    gaussians = []
    for images in (real_images, fake_images):
        moments = Moments(EARLY_FEATURES)
        moments.update(early(wrapped_to_uint8(images)))
        gaussians.append(moments.gaussian())
    return frechet_distance(*gaussians)


def require_inception(extractor: Extractor) -> Inception:
    """Returns the extractor if it gives the 64 features that define the published protocol.

    Raises:
        ConfigError: it does not.
    """
    if not isinstance(extractor, Inception):
        raise ConfigError(
            f"protocol = published: is defined by 64 features of Inception, not of {extractor.name}; "
            "give --inception-weights FILE, or --protocol standard"
        )
    return extractor
