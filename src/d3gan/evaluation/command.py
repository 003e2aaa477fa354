"""``d3gan evaluate``: a run's generator, or a folder of images, measured against real images."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from d3gan.config.datasets import metrics_that_apply
from d3gan.config.ini import load_config
from d3gan.config.train_config import check_metrics
from d3gan.data.points import Mixture, mixture_in
from d3gan.distributed.group import Group
from d3gan.distributed.setup import naming_lost_contact, start
from d3gan.errors import ConfigError
from d3gan.evaluation.evaluate import evaluate, fake_images
from d3gan.evaluation.feature_statistics import Source, evaluation_order
from d3gan.evaluation.metric_names import PUBLISHED_FID, metric_label, metric_text, metrics_of, reasons_of
from d3gan.evaluation.options import Evaluate
from d3gan.evaluation.per_class import fid_by_class
from d3gan.evaluation.published_fid import published_fid
from d3gan.evaluation.real_images import ImageFinder, native_size
from d3gan.evaluation.reference import holds_images, write_reference
from d3gan.evaluation.setup import EvaluationSpec, set_up_evaluation
from d3gan.files import user_path
from d3gan.models.base import GeneratorNetwork
from d3gan.runs.directory import RunDirectory, home_of
from d3gan.runs.generator_file import generator_path, load_generator, read_facts

logger = logging.getLogger("d3gan")

DEFAULT_NUM_SAMPLES = 50_000
"""Images of a generator unless --num-samples says otherwise: as many as published tables of FID use."""

# Seconds: rank 0 computes metrics alone, for minutes, with many bootstrap replicates for hours.
EVALUATION_TIMEOUT = 6 * 3600


@dataclass(frozen=True)
class FakeImages:
    """The images to measure."""

    source: Source
    count: int
    description: dict[str, Any]
    """For the record: whose images, which weights, which latents."""
    image_size: int
    """Side in pixels; 0 for points."""
    channels: int
    data_dir: str | None
    """Folder of the data files: --data-dir, else the run's."""
    dataset: str = ""
    """The run's data set; empty without a run."""
    skips_damaged: bool = False
    """Whether the run does without damaged files."""
    batch_size: int = 0
    """The run's; 0 where it is not known."""
    generator: GeneratorNetwork | None = None
    """Makes the images; None where they are files."""
    seed: int = 0
    """Decides the generator's latents."""
    mixture: Mixture | None = None
    """That the run's points were drawn from; None: they are images."""
    class_counts: tuple[int, ...] = ()
    """Of the run's training images, if the generator has classes."""


def measure(options: Evaluate) -> dict[str, Any] | None:
    """Runs ``d3gan evaluate``, in one process or in one of many.

    Args:
        options: the command's flags.

    Returns:
        The record on rank 0, None elsewhere.

    Raises:
        ConfigError: the flags do not fit together.
        ExternalError: weights, images or files are not available.
    """
    with start(options.device, timeout=EVALUATION_TIMEOUT) as (group, device), naming_lost_contact(group):
        return _measure(options, device, group)


def _measure(options: Evaluate, device: torch.device, group: Group) -> dict[str, Any] | None:
    with group.raise_on_all_ranks():
        fakes = _images_of_run(options, device) if options.run else _images_of_files(options)
        spec = EvaluationSpec(_metrics(options.metrics, fakes.dataset), fakes.count, options.bootstrap)
    skips = options.skip_damaged or fakes.skips_damaged
    finder = ImageFinder(fakes.dataset, fakes.image_size, fakes.channels, fakes.data_dir, skips)
    instruments = set_up_evaluation(
        spec,
        finder,
        device,
        group,
        features=options.features,
        inception_weights=options.inception_weights,
        reference=options.reference,
        protocol=options.protocol,
        mixture=fakes.mixture,
    )
    reference, extractor = instruments.reference, instruments.extractor
    published: dict[str, float] = {}
    with group.raise_on_all_ranks():
        if reference is not None and options.save_reference:
            write_reference(reference, user_path(options.save_reference))
            logger.info(f"wrote {options.save_reference}")
        if group.is_main and options.protocol == "published":
            assert fakes.generator is not None  # the options allow it with a run only
            assert extractor is not None
            real = finder.open("train", "reference")
            fid = published_fid(fakes.generator, real, extractor, fakes.batch_size, fakes.seed, fakes.class_counts)
            published = {PUBLISHED_FID: fid}
    record = evaluate(fakes.source, spec, instruments, group)
    per_class = {}
    if options.per_class:
        assert fakes.generator is not None  # the options allow it with a run only
        assert extractor is not None
        with group.raise_on_all_ranks():
            labelled = finder.open(options.reference, "reference", labels=True)
        found = fid_by_class(fakes.generator, labelled, extractor, group, spec.num_samples, fakes.seed)
        per_class = {"per_class": found}
    return fakes.description | record | published | per_class if record is not None else None


def _metrics(text: str, dataset: str) -> tuple[str, ...]:
    """The metrics to compute of samples of a data set; ``auto``: all that apply.

    Raises:
        ConfigError: one does not apply.
    """
    apply = metrics_that_apply(dataset)
    if text == "auto":
        return apply
    if not set(metrics := check_metrics(text)) <= set(apply):
        raise ConfigError(f"--metrics {text}: of {dataset or 'these images'} there are {','.join(apply)}")
    return metrics


def _images_of_run(options: Evaluate, device: torch.device) -> FakeImages:
    """The images of a run's generator."""
    path = _generator_file(options)
    generator, facts = load_generator(path, str(device)), read_facts(path)
    weights = facts.get("weights", "raw")
    if options.generator not in ("auto", weights):
        raise ConfigError(f"--generator {options.generator}: {path} holds {weights} weights")
    file = RunDirectory(home_of(options.run)).config
    config = load_config(file) if file.is_file() else None
    if options.protocol == "published" and config is None:
        raise ConfigError("--protocol published: needs the batch size from the run's config.ini; give the run")
    if options.per_class and not generator.classes:
        raise ConfigError(
            f"--per-class: {path} was trained without classes; leave it out, or train with --conditional"
        )
    counts = tuple(facts.get("class_counts", [1] * generator.classes))
    seed = int(facts.get("seed", 0)) if options.seed == "run" else options.seed
    description = {
        "run": options.run,
        "step": facts.get("step"),
        "generator": weights,
        "generator_mode": "eval mode (BatchNorm running statistics)",
        "seed": seed,
    }
    return FakeImages(
        fake_images(generator, seed, counts),
        options.num_samples or DEFAULT_NUM_SAMPLES,
        description,
        image_size=generator.sample_shape[-1],
        channels=generator.sample_shape[0],
        data_dir=options.data_dir or (config.data_dir if config else "") or None,
        dataset=config.dataset if config else str(facts.get("dataset", "")),
        skips_damaged=config.skip_damaged if config else False,
        batch_size=config.batch_size if config else 0,
        generator=generator,
        seed=seed,
        mixture=_mixture(path, facts) if generator.makes_points else None,
        class_counts=counts,
    )


def _mixture(path: Path, facts: dict[str, Any]) -> Mixture:
    mixture = mixture_in(facts)
    if mixture is None:
        raise ConfigError(f"{path}: does not say which points it was trained on, so their modes are unknown")
    return mixture


def _generator_file(options: Evaluate) -> Path:
    if options.run.endswith(".safetensors"):
        return Path(options.run)
    path = generator_path(options.run)
    averaged = RunDirectory(path.parent).averaged_generator
    if options.generator == "ema" and not averaged.exists():
        raise ConfigError(f"--generator ema: {path.parent} has no moving average (it was trained with ema = 0)")
    return averaged if options.generator != "raw" and averaged.exists() else path


def _images_of_files(options: Evaluate) -> FakeImages:
    """The images that --images names: all of them, or --num-samples of them chosen at random."""
    size = options.image_size or native_size(options.images, "--images")
    reference = options.reference
    statistics = reference.lower().endswith(".npz") and not holds_images(user_path(reference))
    if not statistics and not options.image_size and native_size(reference, "--reference") != size:
        logger.info(f"{reference}: resizing its images to {size} x {size}, the size of those of {options.images}")
    images = ImageFinder("", size, 3, options.data_dir or None, options.skip_damaged).open(options.images, "--images")
    count = options.num_samples or len(images)
    if count > len(images):
        raise ConfigError(f"--num-samples {count}: {options.images} holds {len(images):,} images")
    source = images.source(evaluation_order(len(images))[:count].sort().values)
    description = {"images": images.description}
    return FakeImages(source, count, description, image_size=size, channels=3, data_dir=options.data_dir or None)


def measure_text(record: dict[str, Any]) -> str:
    """A record as a table for people."""
    head = {
        "images": record.get("images"),
        "run": record.get("run"),
        "step": record.get("step"),
        "generator": f"{record['generator']} weights, in {record['generator_mode']}" if "run" in record else None,
        "samples": f"{record['num_samples']:,}" + (f", seed {record['seed']}" if "run" in record else ""),
        "reference": record.get("reference"),
        "features": record.get("features"),
    }
    rows = [(name, str(value)) for name, value in head.items() if value is not None]
    metrics = [(metric_label(name), metric_text(record, name)) for name in metrics_of(record)]
    if "subset_size" in record and not any(
        name.startswith("kid_") and name.endswith("_deviation") for name in record
    ):
        metrics.append(("", f"(KID without a deviation: its one subset is all {record['subset_size']:,} images)"))
    metrics += [(metric, f"not computed: {reason}") for metric, reason in reasons_of(record).items()]
    width = max(len(name) for name, _ in [*rows, *metrics])
    lines = [f"{name.ljust(width)}  {value}" for name, value in rows]
    lines += ["", *(f"{name.ljust(width)}  {value}" for name, value in metrics)]
    if per_class := record.get("per_class"):
        (name,) = metrics_of(next(iter(per_class.values())))
        table = [["class", metric_label(name), "real images", "fake images"]]
        for class_name, found in per_class.items():
            fid = "-" if found[name] is None else metric_text(found, name)
            table.append([class_name, fid, f"{found['real_images']:,}", f"{found['fake_images']:,}"])
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines += ["", *("  ".join(map(str.ljust, row, widths)).rstrip() for row in table)]
    return "\n".join(lines)
