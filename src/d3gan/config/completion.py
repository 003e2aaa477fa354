"""Shell completion: tyro writes the script, from the dataclasses of all commands. Imports no torch."""

import contextlib
import dataclasses
import io
from collections.abc import Mapping
from typing import Annotated, Any, Union

import tyro

from d3gan.config.help import explained, summary
from d3gan.errors import ConfigError

SHELLS = ("bash", "zsh", "fish")


def completion_script(shell: str, owners: Mapping[str, type]) -> str:
    """The script that teaches a shell to complete ``d3gan``.

    Args:
        shell: bash, zsh or fish.
        owners: a command's words -> the dataclass of its flags.

    Raises:
        ConfigError: an unknown shell.
    """
    if shell not in SHELLS:
        raise ConfigError(f"--tyro-print-completion {shell}: must be {', '.join(SHELLS)}")
    script = io.StringIO()
    words = ["--tyro-print-completion", shell]
    with contextlib.redirect_stdout(script), contextlib.suppress(SystemExit):
        tyro.cli(_tree(owners), prog="d3gan", args=words, config=(tyro.conf.PositionalRequiredArgs,))
    # Where no flag fits, bash shall offer files: runs, configs, folders of images.
    return script.getvalue().replace("complete -F", "complete -o default -F").rstrip("\n")


def _tree(owners: Mapping[str, type], prefix: str = "") -> Any:
    """The commands after some words as tyro's subcommands; ``data`` has subcommands of its own."""
    choices = []
    for word in dict.fromkeys(name.removeprefix(prefix).split()[0] for name in owners if name.startswith(prefix)):
        if owner := owners.get(prefix + word):
            command = explained(owner, {field.name: field.default for field in dataclasses.fields(owner)})
            about = summary(owner)
        else:
            command = dataclasses.make_dataclass(word, [("command", _tree(owners, f"{prefix}{word} "))])
            about = ", ".join(name for name in owners if name.startswith(f"{prefix}{word} "))
        choices.append(Annotated[command, tyro.conf.subcommand(word, description=about, prefix_name=False)])
    return Union[tuple(choices)]  # noqa: UP007  # made at run time
