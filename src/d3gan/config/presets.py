"""Configs that come with the package: ``--preset NAME`` reads one, ``d3gan presets`` lists them.

Each is an .ini file of this folder. Its first lines say what it is for and what to expect of it::

    # purpose: one or more lines
    # expected: a figure and where it comes from, or "not measured here"

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
