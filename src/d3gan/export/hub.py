"""A folder as the Hugging Face hub takes it: model card, weights, config, samples. Nothing is uploaded."""

import dataclasses
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from d3gan.config.datasets import SET_NAMES
from d3gan.config.ini import RUN_MARK, config_text, load_config
from d3gan.config.shared_flags import EXTRACTORS
from d3gan.config.train_config import TrainConfig
from d3gan.errors import ConfigError
from d3gan.evaluation.metric_names import PUBLISHED_FID, metric_label, metric_text, metrics_of
from d3gan.export.options import Export
from d3gan.export.web_page import title_of
from d3gan.files import disk_errors, kind_of, read_file, user_path, write_text
from d3gan.models.base import GeneratorNetwork
from d3gan.plotting import BLUE, plain_number, save, styled_figure
from d3gan.runs.directory import RunDirectory, home_of
from d3gan.runs.generator_file import load_generator, read_facts, save_generator
from d3gan.runs.jsonl import read_lines
from d3gan.sampling.files import write_image_grid
from d3gan.sampling.generate import GRID_CLASSES
from d3gan.sampling.point_picture import POINTS
from d3gan.version import __version__

logger = logging.getLogger("d3gan")

# Data set -> its name on the hub.
_HUB_DATASETS = {
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "svhn": "ufldl-stanford/svhn",
}
CONFIG_MARK = "# Written by d3gan: the config that the generator in this folder was trained with."
_CARD_MARK = "library_name: d3gan"
SMALLEST_GRID = 500
"""Pixels: the picture of samples is enlarged to about this width."""


class _Metric(NamedTuple):
    """A metric as the card shows it."""

    type: str
    """As the hub sorts by: ``fid``."""
    name: str
    """In the metadata, with extractor and number of samples: a figure without them cannot be compared."""
    label: str
    value: float
    text: str
    samples: int


def write_hub_folder(options: Export) -> Path:
    """Writes README.md, generator.safetensors, config.ini, samples.png and, of several evaluations, a figure.

    No path of this machine is in any of them. Of a run directory it takes the weights that are evaluated: the moving
    average where there is one, else the last step's. ``load_generator`` and ``d3gan sample`` take the folder.

    Args:
        options: the command's flags.

    Returns:
        The folder.

    Raises:
        ConfigError: there is no such run, or the folder holds something else.
        ExternalError: a file of the run is damaged, or the folder cannot be written.
    """
    home = RunDirectory(home_of(options.run))
    folder = user_path(options.out or home.path / "hub")
    _refuse_others(folder)
    config = load_config(home.config) if kind_of(home.config) else None
    source = options.run
    if kind_of(home.averaged_generator) and home.path == user_path(source) and config and config.generator != "raw":
        source = str(home.averaged_generator)
        logger.info(f"the weights are those of {home.averaged_generator.name}, the moving average")
    generator, facts = load_generator(source), read_facts(source)
    record, earlier = _evaluations(home, facts)
    with disk_errors(folder, "choose another folder with --out"):
        folder.mkdir(parents=True, exist_ok=True)
    save_generator(generator, folder / "generator.safetensors", facts)
    if config is not None:
        public = _public(config)
        write_text(folder / "config.ini", config_text(public).replace(RUN_MARK, CONFIG_MARK, 1))
    scale = 1 if generator.makes_points else max(1, round(SMALLEST_GRID / (8 * generator.sample_shape[-1])))
    seed, rows = int(facts.get("seed", 0)), generator.class_names[:GRID_CLASSES] if generator.classes else ()
    count = POINTS if generator.makes_points else 64
    write_image_grid(source, folder / "samples.png", count, 0, seed, "cpu", scale, rows)
    figure = folder / "metric-by-step.png"
    metric = next(iter(metrics_of(record)), "")
    if len(earlier) > 1:
        _draw(figure, metric, earlier)
    else:
        figure.unlink(missing_ok=True)
    card = _card(options, generator, facts, config, record, figure_of=metric if len(earlier) > 1 else "")
    write_text(folder / "README.md", card)
    logger.info(f"nothing was uploaded; the hub's own tool does it: hf upload USER/NAME {folder}")
    if not options.license:
        logger.info("the card names no licence; --license names one, such as mit or cc-by-4.0")
    return folder


def _refuse_others(folder: Path) -> None:
    """Checks that nothing but an earlier export is overwritten.

    Raises:
        ConfigError: the path is a file, a run directory, or has a README.md of something else.
    """
    kind = kind_of(folder)
    if kind not in ("", "a folder"):
        raise ConfigError(f"--out {folder}: is {kind}; name a new folder")
    if RunDirectory(folder).is_ours():
        raise ConfigError(f"--out {folder}: is a run, whose files would be overwritten; name a new folder")
    card = folder / "README.md"
    if kind_of(card):
        with disk_errors(card):
            ours = _CARD_MARK in read_file(card).decode("utf-8", errors="replace")
        if not ours:
            raise ConfigError(f"--out {folder}: has a README.md of something else; name a new folder")


def _public(config: TrainConfig) -> TrainConfig:
    """The config without what belongs to this machine: folders, and the paths of data, features and weights."""
    features = config.features if config.features in EXTRACTORS else "auto"
    dataset = config.dataset if config.dataset in SET_NAMES else config.dataset_name
    # A path's last name: train, test and cifar10:test stay.
    reference = Path(config.reference).name
    return dataclasses.replace(
        config, dataset=dataset, data_dir="", out="", features=features, inception_weights="", reference=reference
    )


def _evaluations(run: RunDirectory, facts: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The evaluation of these weights, empty without one, and all up to it that they compare with, by step."""
    weights, step = facts.get("weights", "raw"), facts.get("step")
    lines = [line for line in read_lines(run.evaluations) if line.get("generator", "raw") == weights]
    record = next((line for line in reversed(lines) if line.get("step") == step and metrics_of(line)), None)
    if record is None:
        return {}, []
    metric = next(iter(metrics_of(record)))
    alike = [line for line in lines if metric in line and line.get("num_samples") == record.get("num_samples")]
    by_step = {line["step"]: line for line in alike if isinstance(line.get("step"), int) and line["step"] <= step}
    return record, [by_step[each] for each in sorted(by_step)]


def _metrics(record: Mapping[str, Any]) -> list[_Metric]:
    metrics = []
    for name, value in metrics_of(record).items():
        samples = int(record.get("num_samples", 0))
        if name != PUBLISHED_FID and isinstance(value, int | float) and math.isfinite(value):
            label, (kind, *_) = metric_label(name), name.split("_")
            full = f"{label}, {samples:,} samples"
            metrics.append(_Metric(kind, full, label, value, metric_text(record, name), samples))
    return metrics


def _card(
    options: Export,
    generator: GeneratorNetwork,
    facts: Mapping[str, Any],
    config: TrainConfig | None,
    record: Mapping[str, Any],
    figure_of: str,
) -> str:
    dataset = str(facts.get("dataset", "unknown data"))
    architecture = generator.architecture
    network = str(architecture.get("network", "dcgan"))
    kind = "class-conditional" if generator.classes else "unconditional"
    shape = ", ".join(map(str, generator.sample_shape))
    made = "points in the plane" if generator.makes_points else f"images of {shape.replace(', ', ' x ')}"
    tags = ["gan", "pytorch", str(facts.get("model", "gan"))]
    if network not in tags:
        tags.append(network)
    if not generator.makes_points:
        tags += ["image-generation", *(["class-conditional"] if generator.classes else [])]
    training: list[tuple[str, Any]] = [("model", facts.get("model")), ("data", dataset), ("steps", facts.get("step"))]
    weights = {"ema": "the moving average", "raw": "the last step's"}.get(str(facts.get("weights", "raw")))
    training += [("weights", weights), ("seed", facts.get("seed"))]
    training += [(name.replace("_", " "), value) for name, value in architecture.items() if name != "classes"]
    if config is not None:
        recipe = dataclasses.asdict(config.recipe)
        training += [("batch size", config.batch_size), ("learning rate", config.lr)]
        several = ("weighting",) if config.recipe.discriminators > 1 else ()
        training += [(name, recipe[name]) for name in ("discriminators", "loss", *several)]
    environment = Environment(  # noqa: S701 (Markdown: text goes through a filter of its own)
        loader=PackageLoader("d3gan.export"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"markdown": _markdown, "tojson": lambda value: json.dumps(value, ensure_ascii=False)}
    metrics = _metrics(record)
    return environment.get_template("card.md.jinja").render(
        title=title_of(facts),
        license=options.license,
        pipeline_tag="" if generator.makes_points or generator.classes else "unconditional-image-generation",
        task=f"{kind}-image-generation" if not generator.makes_points else "other",
        task_name=f"{kind} image generation" if not generator.makes_points else "points of a mixture",
        tags=tags,
        dataset=dataset,
        hub_dataset=_HUB_DATASETS.get(dataset, ""),
        metrics=metrics,
        version=__version__,
        description=f"{generator.nz:,} latent numbers to {made}"
        + (f", of {generator.classes:,} classes" if generator.classes else ""),
        returned=f"(16, {shape}) {'float32' if generator.makes_points else 'uint8'}",
        class_names=_some(generator.class_names) if generator.classes else "",
        training=[(name, value) for name, value in training if value not in (None, "")],
        local_data=config is not None and config.dataset not in SET_NAMES,
        step=facts.get("step") or 0,
        figure=figure_of,
        figure_label=metric_label(figure_of),
        points=generator.makes_points,
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f", … ({len(names):,} in all)" if len(names) > 20 else "")


def _markdown(value: Any) -> str:
    """Text in which Markdown and HTML see nothing of their own: names may hold any character."""
    text = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", text)


def _draw(path: Path, metric: str, lines: Sequence[Mapping[str, Any]]) -> None:
    """The metric by training step, up to these weights."""
    with styled_figure(3.2, layout="constrained") as figure:
        axes = figure.subplots()
        axes.plot([line["step"] for line in lines], [line[metric] for line in lines], "o-", color=BLUE)
        axes.set_xlabel("training step")
        axes.set_ylabel(metric_label(metric), parse_math=False)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(plain_number)
    save(figure, path)
