"""``d3gan evaluate``: a run's generator, or a folder of images, measured against real images."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from d3gan.config.ini import load_config
from d3gan.config.train_config import check_metrics
from d3gan.distributed.group import Group
from d3gan.distributed.setup import naming_lost_contact, start
from d3gan.errors import ConfigError
from d3gan.evaluation.evaluate import EvaluationSpec, evaluate, fakes_of, refuse_impossible, warning_of_few
from d3gan.evaluation.extractors.base import Extractor
from d3gan.evaluation.extractors.choose import choose
from d3gan.evaluation.feature_statistics import Source, order_of
from d3gan.evaluation.metric_names import PUBLISHED_FID, metric_label, metric_text, metrics_of, reasons_of
from d3gan.evaluation.options import Evaluate
from d3gan.evaluation.published_fid import published_fid, require_inception
from d3gan.evaluation.real_images import ImageFinder, native_size
from d3gan.evaluation.reference import Reference, find_reference, write_reference
from d3gan.models.dcgan import Generator
from d3gan.runs.directory import RunDirectory, find_run, home_of
from d3gan.runs.generator_file import load_generator, read_facts

logger = logging.getLogger("d3gan")

FAKES = 50_000
"""Images of a generator, where nothing else is asked for: as many as published tables of FID use."""


# Seconds: rank 0 computes statistics alone, for minutes, with many replicates for hours.
EVALUATION_TIMEOUT = 6 * 3600


@dataclass(frozen=True)
class Fakes:
    """The images to measure."""

    source: Source
    count: int
    described: dict[str, Any]
    """For the record: whose images, which weights, which latents."""
    image_size: int
    channels: int
    data_dir: str | None
    """Where data files are: what the user says, else what the run was told."""
    dataset: str = ""
    """The run's own data set; empty where there is no run."""
    batch_size: int = 0
    """The run's own; 0 where it is not known."""
    generator: Generator | None = None
    """What makes them; None where they are files."""
    seed: int = 0
    """Decides the generator's latents."""


def measure(options: Evaluate) -> dict[str, Any] | None:
    """Does what ``d3gan evaluate`` was told, in one process or in one of many.

    Args:
        options: what the user asked for.

    Returns:
        The record on rank 0, None elsewhere.

    Raises:
        ConfigError: what was asked for does not fit together.
        ExternalError: weights, images or files cannot be had.
    """
    with start(options.device, timeout=EVALUATION_TIMEOUT) as (group, device), naming_lost_contact(group):
        return _measure(options, device, group)


def _measure(options: Evaluate, device: torch.device, group: Group) -> dict[str, Any] | None:
    with group.raise_on_all_ranks():
        fakes = _fakes_of_run(options, device) if options.run else _fakes_of_images(options)
        extractor = choose(
            options.features,
            inception_weights=options.inception_weights,
            data_dir=fakes.data_dir,
            device=device,
            image_size=fakes.image_size,
        )
        wanted = EvaluationSpec(check_metrics(options.metrics), fakes.count, options.bootstrap)
        refuse_impossible(wanted, None, extractor)
        finder = ImageFinder(fakes.dataset, fakes.image_size, fakes.channels, fakes.data_dir)
        published = _published(fakes, extractor, finder) if options.protocol == "published" and group.is_main else {}
    reference = find_reference(options.reference, extractor, group, finder)
    with group.raise_on_all_ranks():
        if reference is not None:
            _prepare(options, reference, wanted, extractor)
    record = evaluate(fakes.source, wanted, reference, extractor, group)
    return fakes.described | record | published if record is not None else None


def _published(fakes: Fakes, extractor: Extractor, finder: ImageFinder) -> dict[str, float]:
    """The published programs' own figure of a run."""
    require_inception(extractor)
    assert fakes.generator is not None  # the options go with a run alone
    if not fakes.batch_size:
        raise ConfigError("--protocol published: needs the run's config.ini, which says the batch size; give the run")
    real = finder.open("train", "reference")
    return {PUBLISHED_FID: published_fid(fakes.generator, real, extractor, fakes.batch_size, fakes.seed)}


def _prepare(options: Evaluate, reference: Reference, wanted: EvaluationSpec, extractor: Extractor) -> None:
    """What rank 0 does with the reference before the fakes are made."""
    if options.save_reference:
        write_reference(reference, Path(options.save_reference))
        logger.info(f"wrote {options.save_reference}")
    fewest = min(wanted.num_samples, reference.count or wanted.num_samples)
    if warning := warning_of_few(fewest, wanted, extractor):
        logger.info(warning)


def _fakes_of_run(options: Evaluate, device: torch.device) -> Fakes:
    """The images of a run's generator."""
    path = _generator_file(options)
    generator, facts = load_generator(path, str(device)), read_facts(path)
    weights = facts.get("weights", "raw")
    if options.generator not in ("auto", weights):
        raise ConfigError(f"--generator {options.generator}: {path} holds {weights} weights")
    file = RunDirectory(home_of(options.run)).config
    config = load_config(file) if file.is_file() else None
    seed = int(facts.get("seed", 0)) if options.seed == "run" else options.seed
    described = {
        "run": options.run,
        "step": facts.get("step"),
        "generator": weights,
        "generator_mode": "eval mode (BatchNorm running statistics)",
        "seed": seed,
    }
    return Fakes(
        fakes_of(generator, seed),
        options.num_samples or FAKES,
        described,
        image_size=generator.image_size,
        channels=generator.nc,
        data_dir=options.data_dir or (config.data_dir if config else "") or None,
        dataset=config.dataset if config else str(facts.get("dataset", "")),
        batch_size=config.batch_size if config else 0,
        generator=generator,
        seed=seed,
    )


def _generator_file(options: Evaluate) -> Path:
    if options.run.endswith(".safetensors"):
        return Path(options.run)
    run = find_run(options.run)
    averaged = run.averaged_generator
    if options.generator == "ema" and not averaged.exists():
        raise ConfigError(f"--generator ema: {run.path} keeps no moving average (it was trained with ema = 0)")
    return averaged if options.generator != "raw" and averaged.exists() else run.generator


def _fakes_of_images(options: Evaluate) -> Fakes:
    """The images that --images names: all of them, or as many as asked for, chosen at random."""
    size = options.image_size or native_size(options.images, "--images")
    other = options.reference
    if not other.lower().endswith(".npz") and not options.image_size and native_size(other, "--reference") != size:
        logger.info(
            f"{other}: its images have another size; brought to {size} x {size} like those of {options.images}"
        )
    images = ImageFinder("", size, 3, options.data_dir or None).open(options.images, "--images")
    count = options.num_samples or len(images)
    if count > len(images):
        raise ConfigError(f"--num-samples {count}: {options.images} holds {len(images):,} images")
    described = {"images": images.described}
    source = images.source(order_of(len(images))[:count].sort().values)
    return Fakes(source, count, described, image_size=size, channels=3, data_dir=options.data_dir or None)


def measure_text(record: dict[str, Any]) -> str:
    """A record as a table for people."""
    head = {
        "images": record.get("images"),
        "run": record.get("run"),
        "step": record.get("step"),
        "generator": f"{record['generator']} weights, in {record['generator_mode']}" if "run" in record else None,
        "samples": f"{record['num_samples']:,}" + (f", seed {record['seed']}" if "run" in record else ""),
        "reference": record["reference"],
        "features": record["features"],
    }
    rows = [(name, str(value)) for name, value in head.items() if value is not None]
    figures = [(metric_label(name), metric_text(record, name)) for name in metrics_of(record)]
    figures += [(metric, f"not computed: {reason}") for metric, reason in reasons_of(record).items()]
    width = max(len(name) for name, _ in [*rows, *figures])
    lines = [f"{name.ljust(width)}  {value}" for name, value in rows]
    return "\n".join([*lines, "", *(f"{name.ljust(width)}  {value}" for name, value in figures)])
