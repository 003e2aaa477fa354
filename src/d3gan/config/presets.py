"""Configs that come with the package: ``--preset NAME`` reads one, ``d3gan presets`` lists them.

Each is an .ini file of this folder. Its first lines say what it is for and what to expect of it::

    # purpose: one or more lines
    # expected: a figure and where it comes from, or "not measured here"

Imports no torch.
"""

import re
import textwrap
from importlib.resources import files
from itertools import takewhile
from typing import Any

from d3gan.comparison.flops import flops_an_image
from d3gan.config.ini import parse_ini
from d3gan.config.train_config import TrainConfig
from d3gan.data.published.catalog import find_dataset
from d3gan.errors import ConfigError, nearest

_WIDTH = 100


def preset_names() -> list[str]:
    """The presets there are, in alphabetical order."""
    names = [file.name for file in (files("d3gan") / "presets").iterdir()]
    return sorted(name.removesuffix(".ini") for name in names if name.endswith(".ini"))


def preset_text(name: str) -> str:
    """The preset's .ini file, as it is.

    Raises:
        ConfigError: there is no such preset.
    """
    names = preset_names()
    if name not in names:
        raise ConfigError(f"preset {name}: unknown{nearest(name, names)}; there are: {', '.join(names)}")
    return ((files("d3gan") / "presets") / f"{name}.ini").read_text(encoding="utf-8")


def read_preset(name: str) -> dict[str, Any]:
    """The preset's values by field name of ``TrainConfig``.

    Raises:
        ConfigError: there is no such preset.
    """
    return parse_ini(preset_text(name), source=f"preset {name}")


def load_preset(name: str) -> TrainConfig:
    """The preset as a whole config; keys it does not name keep their defaults.

    Raises:
        ConfigError: there is no such preset.
    """
    return TrainConfig(**read_preset(name))


def preset_header(name: str) -> tuple[str, str]:
    """What a preset is for, and what to expect of it, from the first lines of its file.

    Raises:
        ConfigError: there is no such preset.
        ValueError: the file does not begin with the two.
    """
    comment = takewhile(lambda line: line.startswith("#"), preset_text(name).splitlines())
    found = re.fullmatch(r"purpose: (.+?) expected: (.+)", " ".join(line.lstrip("#").strip() for line in comment))
    if not found:
        raise ValueError(f"preset {name}: must begin with '# purpose: ...' and '# expected: ...'")
    return found[1], found[2]


def preset_lines() -> list[str]:
    """What ``d3gan presets`` prints: of each preset its purpose, its cost, and what to expect of it."""
    lines = []
    for name in preset_names():
        purpose, expected = preset_header(name)
        lines.append(name)
        for label, text in (("for", purpose), ("cost", _cost_text(name)), ("expect", expected)):
            lines += textwrap.wrap(text, _WIDTH, initial_indent=f"  {label:<8}", subsequent_indent=" " * 10)
    return lines


def _cost_text(name: str) -> str:
    """The arithmetic of training once with one process; the evaluations come on top of it."""
    config = load_preset(name)
    flops = flops_an_image(config)
    dataset = find_dataset(config.dataset)
    if dataset is None:
        return f"{flops / 1e9:.3g} GFLOP per image and epoch"
    images = next(split.count for split in dataset.splits if split.name == "train")
    step_size = config.batch_size * config.accumulate
    # As in training, the last incomplete step of an epoch is left out.
    steps = config.epochs * (images // step_size)
    steps = min(steps, config.max_steps or steps)
    return f"{flops * steps * step_size / 1e9:,.0f} GFLOP per run: {steps:,} steps of {step_size} images"
