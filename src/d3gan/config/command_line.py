"""From the words of a command line to the dataclass of a command."""

import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

import tyro

from d3gan.config.ini import ALIASES, read_ini
from d3gan.config.presets import read_preset
from d3gan.config.train_config import TrainConfig
from d3gan.config.validation import describe_type, element_type, field_types, parse_value
from d3gan.errors import ConfigError, nearest

DEFAULT_CONFIG = "config.ini"


def parse_flags(owner: type[Any], arguments: list[str], program: str) -> Any:
    """Makes a command's dataclass from its arguments; fields without a default are given by place.

    tyro does it, and the help. Before that the words are checked here, so that a mistake on the command line gets
    one line, in the words that the same mistake in a config file gets.

    Raises:
        ConfigError: an unknown flag, a missing or a wrong value.
    """
    options: dict[str, Any] = {"prog": program, "config": (tyro.conf.PositionalRequiredArgs,)}
    if {"-h", "--help"} & set(arguments):
        return tyro.cli(owner, args=arguments, **options)
    words, given = _checked(owner, arguments, program)
    if issubclass(owner, TrainConfig):
        options["default"] = _over_the_file(owner, given)
    return tyro.cli(owner, args=words, **options)


def _over_the_file(owner: type[Any], given: dict[str, Any]) -> Any:
    """The command's dataclass with the values of the config file or preset, and the given ones over them."""
    source, values = values_under_flags(given.get("config", ""), given.get("preset", ""))
    try:
        return owner(**(values | given))
    except ConfigError as error:
        key = str(error).split(" ")[0]
        raise ConfigError(f"{source}: {error}" if key in values and key not in given else str(error)) from error


def values_under_flags(config: str, preset: str) -> tuple[str, dict[str, Any]]:
    """The values that a command's flags are laid over: a preset's, a file's, or those of the folder's config.ini.

    Args:
        config: path of an .ini file, or empty.
        preset: name of a preset, or empty; with one the folder's config.ini is not read.

    Returns:
        What messages call the source of the values, and the values by field name of ``TrainConfig``.

    Raises:
        ConfigError: both are given, or the one that is given cannot be read.
    """
    if config and preset:
        raise ConfigError(f"--preset {preset} and --config {config}: give one of them; flags change its values")
    if preset:
        return f"preset {preset}", read_preset(preset)
    path = config or (DEFAULT_CONFIG if Path(DEFAULT_CONFIG).is_file() else "")
    return path, read_ini(path) if path else {}


def _checked(owner: type[Any], arguments: list[str], program: str) -> tuple[list[str], dict[str, Any]]:
    """Checks a command's words against its fields.

    Returns:
        The same words, each flag joined to its value by ``=`` so that no value is taken for a flag, and the values by
        field name.
    """
    hints = field_types(owner)
    required = [f.name for f in dataclasses.fields(owner) if f.default is dataclasses.MISSING]
    places = required + [name for name in _marked_positional(owner) if name not in required]
    flags = {name: hint for name, hint in hints.items() if name not in places}
    words: list[str] = []
    given: dict[str, Any] = {}
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word.startswith("--"):
            name, value, canonical = _flag(word, left, flags)
            words += canonical
        else:
            name = next((place for place in places if place not in given or element_type(hints[place])), "")
            if not name or (word.startswith("-") and len(word) > 1):
                raise ConfigError(f"{word}: unexpected; flags start with --, see {program} --help")
            value = (*given.get(name, ()), word) if element_type(hints[name]) else word
        given[name] = value
    if missing := [place for place in required if place not in given]:
        raise ConfigError(f"{missing[0].upper()} is missing: {program} {missing[0].upper()} [OPTIONS]")
    placed = (given[place] for place in places if place in given)
    return [*words, *(word for value in placed for word in ((value,) if isinstance(value, str) else value))], given


def _marked_positional(owner: type[Any]) -> list[str]:
    """Names of the fields that are given by place although they have a default."""
    hints = get_type_hints(owner, include_extras=True)
    marker = tyro.conf.Positional[str].__metadata__[0]  # type: ignore[attr-defined]
    return [name for name, hint in hints.items() if marker in getattr(hint, "__metadata__", ())]


def _flag(word: str, left: list[str], flags: dict[str, Any]) -> tuple[str, Any, list[str]]:
    """Reads one flag, taking its value off ``left`` where it follows; returns name, value, and the words for tyro."""
    flag, has_value, text = word.partition("=")
    name = flag[2:].replace("-", "_")
    if ALIASES.get(name) in flags:
        name = ALIASES[name]
    off = name.startswith("no_") and flags.get(name[3:]) is bool
    name = name[3:] if off else name
    if name not in flags:
        known = ["--" + n.replace("_", "-") for n in flags]
        raise ConfigError(f"{flag}: unknown flag{nearest(flag, known)}; allowed: {', '.join(known)}")
    if flags[name] is bool:
        if has_value:
            raise ConfigError(f"{word}: takes no value; write {flag}, or --no-{name.replace('_', '-')}")
        return name, not off, [f"--no-{name}" if off else f"--{name}"]
    if not has_value:
        if not left or left[0].startswith("--"):
            raise ConfigError(f"{flag}: needs a value: {describe_type(flags[name])}")
        text = left.pop(0)
    if element := element_type(flags[name]):
        while not has_value and left and not left[0].startswith("--"):
            text += f",{left.pop(0)}"
        parts = [part.strip() for part in text.split(",") if part.strip()]
        if not parts:
            raise ConfigError(f"{flag}: needs a value: {describe_type(flags[name])}")
        return name, tuple(parse_value(flag, part, element) for part in parts), [f"--{name}", *parts]
    return name, parse_value(flag, text, flags[name]), [f"--{name}={text}"]
