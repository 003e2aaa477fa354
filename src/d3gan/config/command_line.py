"""Turns the words of a command line into the dataclass of a command."""

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import tyro

from d3gan.config.help import explained, full_help, short_help, summary
from d3gan.config.ini import ALIASES, read_ini
from d3gan.config.presets import read_preset
from d3gan.config.shared_flags import EXTRACTORS
from d3gan.config.train_config import TrainConfig
from d3gan.config.validation import describe_type, element_type, field_types, parse_value
from d3gan.errors import ConfigError, nearest
from d3gan.files import user_path
from d3gan.output import answer

DEFAULT_CONFIG = "config.ini"
_HELP_WORDS = ("-h", "--help", "--help-all")
# What other programs call the flag that resumes a run.
_RESUME = re.compile(
    r"(auto_?)?(resume|restore|continue|load|ckpt)(_.*)?|checkpoint_(path|file|dir)|.*from_checkpoint"
)


def parse_flags(owner: type[Any], arguments: list[str], program: str) -> Any:
    """Makes a command's dataclass from its arguments; fields without a default are positional.

    tyro writes the help. The words are read here, so that a mistake on the command line gets the same one-line
    message as in a config file. Every list takes its values with spaces or with commas between them.

    Raises:
        ConfigError: an unknown flag, a missing or a wrong value; a program for features is named by a config file
            alone.
    """
    if asked := {*_HELP_WORDS} & set(arguments):
        _show_help(owner, arguments, program, all_flags="--help-all" in asked)
    given = _given_values(owner, arguments, program)
    if not issubclass(owner, TrainConfig):
        return owner(**given)
    source, values = values_under_flags(given.get("config", ""), given.get("preset", ""))
    features = values.get("features", "auto")
    if "features" not in given and features not in EXTRACTORS and not given.get("trust_features"):
        raise ConfigError(
            f"{source}: features = {features}: is a program, and a config file alone does not start one; if you "
            f"trust it, say so with --features {features} or --trust-features"
        )
    try:
        return owner(**(values | given))
    except ConfigError as error:
        name = str(error).split(" ")[0]
        raise ConfigError(f"{source}: {error}" if name in values and name not in given else str(error)) from error


def _show_help(owner: type[Any], arguments: list[str], program: str, *, all_flags: bool) -> NoReturn:
    """Prints a command's help, with the values of the words beside ``--help`` as defaults, and ends the process."""
    if not hasattr(owner, "HELP"):
        whole = explained(owner, {field.name: field.default for field in dataclasses.fields(owner)})
        markers = (tyro.conf.PositionalRequiredArgs, tyro.conf.PositionalMetavarFromFieldName)
        tyro.cli(whole, args=["--help"], prog=program, description=summary(owner), config=markers)
    words = [word for word in arguments if word not in _HELP_WORDS]
    try:
        flags, given = parse_flags(owner, words, program), _given_values(owner, words, program)
        source = values_under_flags(flags.config, flags.preset)[0] or "the defaults"
        source += ", and the flags given" if given.keys() - {"config", "preset"} else ""
    except ConfigError as error:  # who asks for help gets it
        flags, source = owner(), f"the defaults, since {error}"
    if all_flags:
        full_help(flags, program, source)
    else:
        answer(short_help(flags, program, source))
    sys.exit(0)


def values_under_flags(config: str, preset: str) -> tuple[str, dict[str, Any]]:
    """The values that a command's flags override: those of a preset, of a file, or of the folder's config.ini.

    Args:
        config: path of an .ini file, or empty.
        preset: name of a preset, or empty; with one the folder's config.ini is not read.

    Returns:
        The name of the source in messages, and the values by field name of ``TrainConfig``.

    Raises:
        ConfigError: both are given, or the given one cannot be read.
    """
    if config and preset:
        raise ConfigError(f"--preset {preset} and --config {config}: give one of them; flags change its values")
    if preset:
        return f"preset {preset}", read_preset(preset)
    path = config or (DEFAULT_CONFIG if Path(DEFAULT_CONFIG).is_file() else "")
    return path, read_ini(path) if path else {}


def _given_values(owner: type[Any], arguments: list[str], program: str) -> dict[str, Any]:
    """Reads a command's words into values by field name."""
    hints = field_types(owner)
    required = [field.name for field in dataclasses.fields(owner) if field.default is dataclasses.MISSING]
    positionals = required + [name for name in _marked_positional(owner) if name not in required]
    flags = {field.name: field for field in dataclasses.fields(owner) if field.name not in positionals}
    values: dict[str, Any] = {}
    # A shell expands ~ at the start of a word alone, and none does so in --out=~/run or for another program.
    words = [_with_home(word) for word in arguments]
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            flag, has_value, text = word.partition("=")
            name, is_off = _flag_name(flag, {name: hints[name] for name in flags}, program)
            if hints[name] is bool:
                if has_value:
                    raise ConfigError(f"{word}: takes no value; write {flag}, or --no-{name.replace('_', '-')}")
                values[name] = not is_off
            else:
                texts = [text] if has_value else _take_values(words, flags[name], hints[name], bool(positionals))
                values[name] = _parse_flag(flag, texts, flags[name], hints[name])
        else:
            name = next((name for name in positionals if name not in values or element_type(hints[name])), "")
            if not name or (word.startswith("-") and len(word) > 1):
                raise ConfigError(f"{word}: unexpected; flags start with --, see {program} --help")
            values[name] = (*values.get(name, ()), word) if element_type(hints[name]) else word
    if missing := [name for name in required if name not in values]:
        raise ConfigError(f"{missing[0].upper()} is missing: {program} {missing[0].upper()} [OPTIONS]")
    return values


def _with_home(word: str) -> str:
    flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return f"{flag}{equals}{user_path(value)}" if value.startswith("~") else word


def _marked_positional(owner: type[Any]) -> list[str]:
    """Names of the positional fields that have a default."""
    marker = tyro.conf.Positional[str].__metadata__[0]  # type: ignore[attr-defined]
    hints = get_type_hints(owner, include_extras=True)
    return [name for name, hint in hints.items() if marker in getattr(hint, "__metadata__", ())]


def _flag_name(flag: str, hints: dict[str, Any], program: str) -> tuple[str, bool]:
    """The field that a flag sets, and whether the flag is the ``--no-`` form.

    Args:
        flag: as written, with ``--``.
        hints: types of the fields that have flags, by name.
        program: the command, for messages.
    """
    name = flag[2:].replace("-", "_")
    if ALIASES.get(name) in hints:
        name = ALIASES[name]
    is_off = name.startswith("no_") and hints.get(name[3:]) is bool
    name = name[3:] if is_off else name
    if name not in hints:
        allowed = ["--" + each.replace("_", "-") for each in hints]
        if "checkpoint" in hints and _RESUME.fullmatch(name):
            raise ConfigError(
                f"{flag}: is no flag, since runs resume by themselves: the same command with the same --out resumes "
                "from the last checkpoint there; `d3gan info RUN` prints it"
            )
        raise ConfigError(f"{flag}: unknown flag{nearest(flag, allowed, 3)}; see {program} --help-all")
    return name, is_off


def _take_values(words: list[str], field: dataclasses.Field[Any], hint: Any, has_positionals: bool) -> list[str]:
    """Removes a flag's values from the front of ``words``: one, or several where the field is a list."""
    list_of = field.metadata.get("list_of")
    is_list = element_type(hint) is not None or list_of is not None
    texts: list[str] = []
    while words and not words[0].startswith("--") and (is_list or not texts):
        # In --metrics fid is RUN, the word that is no metric is the positional argument.
        if texts and has_positionals and list_of and not set(words[0].split(",")) <= {*list_of, ""}:
            break
        texts.append(words.pop(0))
    return texts


def _parse_flag(flag: str, texts: list[str], field: dataclasses.Field[Any], hint: Any) -> Any:
    """Reads a flag's values as its field's type."""
    if element := element_type(hint):
        split = field.metadata.get("split") or (lambda text: text.split(","))
        parts = [part.strip() for text in texts for part in split(text) if part.strip()]
        if parts:
            return tuple(parse_value(flag, part, element) for part in parts)
    elif texts:
        return parse_value(flag, ",".join(texts), hint)
    raise ConfigError(f"{flag}: needs a value: {describe_type(hint)}")
