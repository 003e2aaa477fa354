"""FID of each class: a generator's images of a class against the real ones of that class."""

import logging
from typing import Any

import numpy as np
import torch

from d3gan.distributed.group import Group
from d3gan.errors import ConfigError
from d3gan.evaluation.evaluate import fake_images
from d3gan.evaluation.extractors.base import Extractor
from d3gan.evaluation.feature_statistics import collect_statistics
from d3gan.evaluation.metric_names import metric_name
from d3gan.evaluation.metrics.fid import frechet_distance
from d3gan.evaluation.real_images import RealImages
from d3gan.models.base import GeneratorNetwork
from d3gan.progress_bar import progress_bar

logger = logging.getLogger("d3gan")


def fid_by_class(
    generator: GeneratorNetwork, real: RealImages, extractor: Extractor, group: Group, num_samples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """FID of each class; all processes of the group must call it.

    The features of the real images are computed each time: a cache would take some 30 MB for each class.

    Args:
        generator: with classes.
        real: images with labels of the same classes.
        extractor: computes the features.
        group: the processes that share the work.
        num_samples: fake images of all classes together; each class gets as many, at least 2.
        seed: decides the latents, which are the same for each class.

    Returns:
        By the class's name: ``real_images`` and ``fake_images``, how many there were, and FID by its full name, None
        for a class with fewer than two real images. Without FID on all ranks but 0.

    Raises:
        ConfigError: the generator has other classes.
        ExternalError: in all processes, if images or features of any of them cannot be used.
    """
    image_set, names = real.image_set, generator.class_names
    assert image_set.labels is not None, "images with labels"
    if image_set.class_names != names:
        theirs, ours = (", ".join(each[:3]) for each in (image_set.class_names, names))
        raise ConfigError(
            f"--per-class: {real.name} has other classes ({theirs}, …) than the generator ({ours}, …); give images "
            "of its classes as --reference"
        )
    count = max(2, num_samples // len(names))
    most = max(image_set.class_counts)
    if min(count, most) <= extractor.feature_size:
        logger.warning(
            f"--per-class: {count:,} fake and at most {most:,} real images of a class for {extractor.feature_size:,} "
            "features: FID is biased upwards; compare it only with FID of as many images"
        )
    name, found = metric_name("fid", extractor.name, real.name), dict[str, dict[str, Any]]()
    with progress_bar("features of each class", len(names), unit="classes") as advance:
        for label, class_name in enumerate(names):
            indices = torch.from_numpy(np.flatnonzero(image_set.labels == label))
            of_class: dict[str, Any] = {"real_images": len(indices), "fake_images": count, name: None}
            if len(indices) >= 2:
                alone = [int(other == label) for other in range(len(names))]
                sources = (real.source(indices), len(indices)), (fake_images(generator, seed, alone), count)
                statistics = [
                    collect_statistics(source, images, extractor, group, score=False) for source, images in sources
                ]
                with group.raise_on_all_ranks():
                    gaussians = [each.moments.gaussian() for each in statistics if each is not None]
                    if gaussians:
                        of_class[name] = frechet_distance(*gaussians)
            found[class_name] = of_class
            advance(1)
    return found
