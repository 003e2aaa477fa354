"""Configs that are part of the package: ``--preset NAME`` reads one, ``d3gan presets`` lists them.

Each is an .ini file in ``presets/``. Its first lines say what it is for and which result to expect::

    # purpose: one or more lines
    # expected: a result and its source, or "not measured here"

Imports no torch.
"""

import re
from importlib.resources import files
from itertools import takewhile
from typing import Any

from d3gan.config.ini import parse_ini
from d3gan.config.train_config import TrainConfig
from d3gan.errors import ConfigError, nearest


def preset_names() -> list[str]:
    """Names of all presets, in alphabetical order."""
    names = [file.name for file in (files("d3gan") / "presets").iterdir()]
    return sorted(name.removesuffix(".ini") for name in names if name.endswith(".ini"))


def preset_text(name: str) -> str:
    """Text of the preset's .ini file, unchanged.

    Raises:
        ConfigError: the preset does not exist.
    """
    names = preset_names()
    if name not in names:
        raise ConfigError(f"preset {name}: unknown{nearest(name, names)}; allowed: {', '.join(names)}")
    return ((files("d3gan") / "presets") / f"{name}.ini").read_text(encoding="utf-8")


def read_preset(name: str) -> dict[str, Any]:
    """The preset's values by field name of ``TrainConfig``.

    Raises:
        ConfigError: the preset does not exist.
    """
    return parse_ini(preset_text(name), source=f"preset {name}")


def load_preset(name: str) -> TrainConfig:
    """The preset as a whole config; keys that it does not name keep their defaults.

    Raises:
        ConfigError: the preset does not exist.
    """
    return TrainConfig(**read_preset(name))


def preset_header(name: str) -> tuple[str, str]:
    """Reads what a preset is for and which result to expect, from the first lines of its file.

    Raises:
        ConfigError: the preset does not exist.
        ValueError: the file does not begin with both.
    """
    comment = takewhile(lambda line: line.startswith("#"), preset_text(name).splitlines())
    header = re.fullmatch(r"purpose: (.+?) expected: (.+)", " ".join(line.lstrip("#").strip() for line in comment))
    if not header:
        raise ValueError(f"preset {name}: must begin with '# purpose: ...' and '# expected: ...'")
    return header[1], header[2]
