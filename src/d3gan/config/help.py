"""What ``--help`` and ``--help-all`` show of a command with many flags: groups, examples, values as resolved.

A command's dataclass may have ``HELP``, a ``Help``. Imports no torch.
"""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

import tyro

from d3gan.config.recipes import Recipe
from d3gan.config.train_config import TrainConfig
from d3gan.config.validation import field_types


@dataclass(frozen=True)
class Help:
    """How the flags of a command are explained."""

    groups: Mapping[str, str]
    """Title -> names of fields, with spaces between them; each field of the command is in one group."""
    usual: Mapping[str, str]
    """Field -> its line in ``--help``, for the flags that most people use."""
    examples: tuple[str, ...]
    """Command lines, without the program's name."""


def short_help(flags: Any, program: str, source: str) -> str:
    """The text of ``--help``: the usual flags, each in one line, with the value that it has.

    Args:
        flags: the command's dataclass, with the values to show.
        program: its name, such as ``d3gan train``.
        source: where the values come from.
    """
    about, values = type(flags).HELP, shown_values(flags)
    lines = [f"usage: {program} [OPTIONS]", "", summary(type(flags)), "", "examples"]
    lines += [f"  {program} {example}" for example in about.examples]
    for title, names in about.groups.items():
        usual = [name for name in names.split() if name in about.usual]
        lines += ["", title] if usual else []
        lines += [f"  {_with_value(name, values[name]):<28} {about.usual[name]}" for name in usual]
    count = len(dataclasses.fields(flags))
    return "\n".join([*lines, "", f"Values shown: {source}. All {count} flags: {program} --help-all"])


def _with_value(name: str, value: Any) -> str:
    """A flag as one would type it to give it the value that it has; ``--out OUT`` where it has none."""
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return f"{flag} (on)" if value else flag
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{flag} {text or name.upper()}"


def full_help(flags: Any, program: str, source: str) -> None:
    """Prints the text of ``--help-all``, every flag with its explanation, as tyro lays it out, and ends the process.

    tyro shows a nested dataclass as a group of its own, so each group becomes one.
    """
    owner, values = type(flags), shown_values(flags)
    groups = []
    for title, names in owner.HELP.groups.items():
        group = explained(owner, {name: values[name] for name in names.split()})
        groups.append((title, group, dataclasses.field(default_factory=group)))
    everything = dataclasses.make_dataclass(owner.__name__, groups)
    examples = "\n".join(f"  {program} {example}" for example in owner.HELP.examples)
    description = f"{summary(owner)}\n\nexamples:\n{examples}\n\nDefaults shown: {source}."
    markers = (tyro.conf.OmitArgPrefixes,)
    tyro.cli(everything, args=["--help"], prog=program, description=description, config=markers)


def explained(owner: type, defaults: Mapping[str, Any]) -> type:
    """A dataclass that explains some fields of a command to tyro, each in a text without line breaks.

    tyro reads explanations from the source too, and would keep the line breaks of those that take several lines.

    Args:
        owner: the command's dataclass.
        defaults: field -> its default; ``dataclasses.MISSING``: it has none.
    """
    hints, texts = get_type_hints(owner, include_extras=True), field_texts(owner)
    fields = [
        (name, Annotated[hints[name], tyro.conf.arg(help=texts[name])], dataclasses.field(default=default))
        for name, default in defaults.items()
    ]
    made = dataclasses.make_dataclass(owner.__name__, fields)
    made.__doc__ = ""
    return made


def shown_values(flags: Any) -> dict[str, Any]:
    """The value of each flag; where the model or the other keys decide it, what they decide."""
    values = {field.name: getattr(flags, field.name) for field in dataclasses.fields(flags)}
    if isinstance(flags, TrainConfig):
        recipe = dataclasses.asdict(flags.recipe)
        values |= {field.name: recipe[field.name] for field in dataclasses.fields(Recipe)}
        values["out"] = values["out"] or str(flags.run_directory)
    return values


def summary(owner: type) -> str:
    """What a command does, in one line."""
    return (owner.__doc__ or "").split("\n")[0]


def field_texts(owner: type) -> dict[str, str]:
    """Field -> its explanation on one line: the ``help`` of its type, or the string below it in the source."""
    texts = {}
    for cls in reversed(owner.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
        for field, below in zip(body, [*body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                texts[field.target.id] = " ".join(str(below.value.value).split())  # type: ignore[union-attr,attr-defined]
    hints = get_type_hints(owner, include_extras=True)
    for name in field_types(owner):
        for part in getattr(hints[name], "__metadata__", ()):
            texts[name] = getattr(part, "help", None) or texts.get(name, "")
    return texts
