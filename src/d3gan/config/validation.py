"""Keys of a config and flags of a command: dataclass fields that carry their own rules, and the checks of those.

The config file, the command line and Python callers get the same message for the same mistake.
"""

import configparser
import dataclasses
import math
import types
from collections.abc import Callable
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from d3gan.errors import ConfigError, nearest

T = TypeVar("T")
Range = tuple[float, float | None] | frozenset[int]
"""Smallest and largest allowed value (None: any), or all the allowed values."""
Resume = Literal["same", "free", "free unless it counts", "free if sharded"]
"""Whether a resumed run may have another value than before; see ``TrainConfig.free_keys``."""


def key(
    default: T,
    *,
    allowed: Range | None = None,
    resume: Resume = "same",
    per_process: bool = False,
    list_of: tuple[str, ...] | None = None,
    split: Callable[[str], list[str]] | None = None,
) -> T:
    """Declares a field of a config or of a command's flags, with its rules.

    For example ``checkpoint: int = key(200, allowed=(1, None), resume="free")``.

    Args:
        default: the field's default value.
        allowed: range of the numbers that it takes, or of each in a tuple of numbers.
        resume: whether a resumed run may have another value than before.
        per_process: whether the processes of one run may have different values.
        list_of: for text that is a list with commas, the words that it may hold, () for any. Its flag also takes the
            words one by one.
        split: for a tuple, what divides the text of its flag, instead of every comma.
    """
    rules = dict(allowed=allowed, resume=resume, per_process=per_process, list_of=list_of, split=split)
    return dataclasses.field(default=default, metadata=rules)


def keys_with(owner: type, **rules: object) -> frozenset[str]:
    """Names of the fields that were declared with these rules, such as ``per_process=True``."""
    return frozenset(f.name for f in dataclasses.fields(owner) if rules.items() <= f.metadata.items())


def check_values(owner: Any) -> None:
    """Checks the fields of a dataclass object: first their types, then their ranges.

    Raises:
        ConfigError: names the first field that does not fit, its value and what is allowed.
    """
    for name, hint in field_types(type(owner)).items():
        _check_type(name, getattr(owner, name), hint)
    for field in dataclasses.fields(owner):
        if allowed := field.metadata.get("allowed"):
            value = getattr(owner, field.name)
            for number in value if isinstance(value, tuple) else (value,):
                _check_range(field.name, number, allowed)


def _check_range(name: str, value: Any, allowed: Range) -> None:
    if isinstance(value, str):  # a word such as "model", which the type allows
        return
    if isinstance(allowed, frozenset):
        if value not in allowed:
            raise ConfigError(f"{name} = {value}: must be one of {', '.join(map(str, sorted(allowed)))}")
        return
    low, high = allowed
    # A whole number may be longer than any float, and than the 64 bits that files and tensors hold.
    highest = 2**63 - 1 if isinstance(value, int) else math.inf
    if low <= value <= (highest if high is None else high) and math.isfinite(value):
        return
    limits = f"at least {low}" if high is None else f"from {low} to {high}"
    raise ConfigError(f"{name} = {value}: must be {limits}")


def field_types(owner: type) -> dict[str, Any]:
    """Name -> type of each field, in the order they are written."""
    hints = get_type_hints(owner)
    return {f.name: hints[f.name] for f in dataclasses.fields(owner)}


def _options(hint: Any) -> list[Any]:
    """The plain types and Literals a field's type is made of."""
    if get_origin(hint) in (Union, types.UnionType):
        return [part for option in get_args(hint) for part in _options(option)]
    return [hint]


def element_type(hint: Any) -> Any:
    """The type of a tuple's elements, ``tuple[int, ...]``; None for a field that holds one value."""
    return get_args(hint)[0] if get_origin(hint) is tuple else None


def choices(hint: Any) -> list[str]:
    """The words that a field of this type allows, apart from numbers and free text."""
    return [str(c) for option in _options(hint) if get_origin(option) is Literal for c in get_args(option)]


def describe_type(hint: Any) -> str:
    """What a value of this type looks like, for an error message: ``a whole number, or model``."""
    if element := element_type(hint):
        return f"one or more, each {describe_type(element)}"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    parts = [words[option] for option in _options(hint) if option in words]
    words_allowed = [word or "empty" for word in choices(hint)]
    return ", or ".join(parts + ([", ".join(words_allowed)] if words_allowed else []))


def _check_type(name: str, value: Any, hint: Any) -> None:
    if element := element_type(hint):
        if not isinstance(value, tuple):
            raise ConfigError(f"{name} = {value!r}: must be a tuple")
        for each in value:
            _check_type(name, each, element)
        return
    for option in _options(hint):
        if get_origin(option) is Literal:
            if isinstance(value, str) and value in get_args(option):
                return
        elif type(value) is option or (option is float and type(value) is int):
            return
    raise ConfigError(f"{name} = {value!r}: must be {describe_type(hint)}{nearest(str(value), choices(hint))}")


def parse_value(name: str, text: str, hint: Any) -> Any:
    """Reads the text of an .ini value or a flag as a field's type.

    Args:
        name: the key or flag, for the error message.
        text: what the user wrote.
        hint: the field's type: int, float, bool, str, a Literal of strings, or a union of those.

    Raises:
        ConfigError: the text is no such value.
    """
    text = text.strip()
    for option in _options(hint):
        if get_origin(option) is Literal:
            if text in get_args(option):
                return text
        elif option is bool:
            if text.lower() in configparser.ConfigParser.BOOLEAN_STATES:
                return configparser.ConfigParser.BOOLEAN_STATES[text.lower()]
        elif option is not type(None):
            try:
                return option(text)
            except ValueError:
                continue
    raise ConfigError(f"{name} = {text!r}: must be {describe_type(hint)}{nearest(text, choices(hint))}")
