"""Reads and writes a config as the [parameters] section of an .ini file."""

import configparser
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from d3gan.config.recipes import Recipe
from d3gan.config.train_config import TrainConfig
from d3gan.config.validation import field_types, parse_value
from d3gan.errors import ConfigError, first_line, nearest
from d3gan.files import read_file, user_path

SECTION = "parameters"
_MAX_BYTES = 1 << 20
"""Of an .ini file; ours have 3 KB."""
# Keys of the original D3GAN program that have another name here.
ALIASES = {"type": "dataset"}


def read_ini(path: str | Path) -> dict[str, Any]:
    """Reads the ``[parameters]`` section of an .ini file.

    Returns:
        Values by field name of ``TrainConfig``, typed but not yet checked for range.

    Raises:
        ConfigError: the file cannot be read, or holds an unknown section, key or a value of the wrong type.
    """
    try:
        text = read_file(user_path(path), _MAX_BYTES).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or first_line(error)
        raise ConfigError(f"--config {path}: cannot be read as an .ini file: {reason}") from error
    return parse_ini(text, source=str(path))


def parse_ini(text: str, source: str) -> dict[str, Any]:
    """Reads the ``[parameters]`` section from the text of an .ini file.

    Args:
        text: of the file.
        source: name of the file in messages, such as its path.

    Returns:
        As ``read_ini``.

    Raises:
        ConfigError: the text is no .ini file, or holds an unknown section, key or a value of the wrong type.
    """
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#", ";"), default_section="")
    try:
        parser.read_string(text, source=source)
    except configparser.Error as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{source}: cannot be read as an .ini file: {reason}") from error
    for section in parser.sections():
        if section != SECTION:
            raise ConfigError(f"{source}: unknown section [{section}]; put all keys under [{SECTION}]")
    if not parser.has_section(SECTION):
        raise ConfigError(f"{source}: no section [{SECTION}]; put that line above the keys")
    return _typed(parser[SECTION], source=source)


def _typed(section: Mapping[str, str], source: str) -> dict[str, Any]:
    hints = field_types(TrainConfig)
    values: dict[str, Any] = {}
    for key, text in section.items():
        name = ALIASES.get(key, key).replace("-", "_")
        if name not in hints:
            way_out = nearest(name, hints) + "; all keys: d3gan train --help-all"
            raise ConfigError(f"{source}: unknown key {key!r}{way_out}")
        if name in values:
            raise ConfigError(f"{source}: {key!r} is given twice (it is read as {name!r})")
        try:
            values[name] = parse_value(name, text, hints[name])
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
    return values


def load_config(path: str | Path) -> TrainConfig:
    """Reads a whole ``TrainConfig`` from an .ini file; keys that the file does not name keep their defaults.

    Raises:
        ConfigError: as ``read_ini``, or a value is out of range.
    """
    values = read_ini(path)
    try:
        return TrainConfig(**values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


# The first line of a run's config.ini; it distinguishes a run directory from a folder with any other config.
RUN_MARK = "# Written by d3gan: the config of the run in this folder."


def config_text(config: TrainConfig) -> str:
    """Text of a run's config.ini, from which ``load_config`` reads an equal config; a comment names the recipe."""
    lines = [RUN_MARK, f"[{SECTION}]"]
    lines += [f"{f.name} = {getattr(config, f.name)}".rstrip() for f in dataclasses.fields(config)]
    recipe = ", ".join(f"{f.name} = {getattr(config.recipe, f.name)}" for f in dataclasses.fields(Recipe))
    return "\n".join([*lines, f"# with the model's own values: {recipe}", ""])
