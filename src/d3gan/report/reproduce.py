"""What it takes to make a run again."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from d3gan.comparison.runs import Run
from d3gan.config.ini import config_text
from d3gan.config.train_config import TrainConfig
from d3gan.report.run_tables import names_of

_NOT_COPIED = {"out"}
_ENVIRONMENT = {
    "d3gan": "d3gan",
    "torch": "PyTorch",
    "python": "Python",
    "system": "system",
    "processor": "processor",
    "cores": "cores",
    "memory_bytes": "memory",
    "threads": "threads",
    "device": "device",
    "device_name": "device's name",
    "precision": "arithmetic",
    "world_size": "processes",
    "data": "training images",
    "started": "started (UTC)",
    "command": "called as",
}


@dataclasses.dataclass(frozen=True)
class Repeat:
    """What it takes to make a run again."""

    name: str
    words: Sequence[str]
    """The command, each word as a shell takes it, for a folder without a config.ini of its own."""
    config: str
    """The text of its config.ini."""
    environment: Mapping[str, str]
    """What its environment has beside that of all runs."""


def shared_environment(runs: Sequence[Run]) -> dict[str, str]:
    """Label -> text of what is the same in all sessions of all runs."""
    sessions = [_described(session) for run in runs for session in run.sessions]
    first = sessions[0] if sessions else {}
    return {label: text for label, text in first.items() if all(each.get(label) == text for each in sessions)}


def repeats(runs: Sequence[Run]) -> list[Repeat]:
    """How to make each run again."""
    shared = shared_environment(runs)
    return [
        Repeat(name, words_of(run), config_text(run.config), _own_environment(run, shared))
        for name, run in zip(names_of(runs), runs, strict=True)
    ]


def _own_environment(run: Run, shared: Mapping[str, str]) -> dict[str, str]:
    """Label -> the texts of the run's sessions, where they are not those of all runs."""
    own: dict[str, list[str]] = {}
    for session in run.sessions:
        for label, text in _described(session).items():
            if label not in shared and text not in own.setdefault(label, []):
                own[label].append(text)
    return {label: "; then ".join(texts) for label, texts in own.items()}


def _described(session: Mapping[str, Any]) -> dict[str, str]:
    """Label -> text of what a session in environment.json says."""
    found = {label: session[key] for key, label in _ENVIRONMENT.items() if session.get(key) not in (None, "")}
    if isinstance(memory := session.get("memory_bytes"), int):
        found["memory"] = f"{memory / 2**30:.1f} GiB"
    if isinstance(command := session.get("command"), list):
        found["called as"] = shlex.join(map(str, command))
    if isinstance(data := session.get("data"), Mapping):
        words = [str(data.get("name", "")), str(data.get("split", "")), f"{data.get('images', '?')} images"]
        words += [f"SHA-256 {data['sha256']}"] if data.get("sha256") else []
        found["training images"] = ", ".join(word for word in words if word)
    return {label: str(value) for label, value in found.items()}


def words_of(run: Run) -> list[str]:
    """The words of a command that trains the run again, quoted; each key that is not the default is a flag.

    The environment knows the command that the run was called with; that one may speak of a config file, or of a grid
    of runs.
    """
    words = ["d3gan", "train", *_launch_of(run)]
    for field in dataclasses.fields(TrainConfig):
        value = getattr(run.config, field.name)
        if field.name in _NOT_COPIED or (value == field.default and type(value) is type(field.default)):
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words.append(f"--{flag}={value}")
    return [shlex.quote(word) for word in [*words, f"--out=again/{run.name}"]]


def _launch_of(run: Run) -> list[str]:
    """The flags that start as many processes on as many hosts."""
    session = run.sessions[-1] if run.sessions else {}
    processes = session.get("world_size", 1)
    if not isinstance(processes, int) or processes < 2:
        return []
    places = session.get("processes")
    hosts = len({str(place.get("host")) for place in places if isinstance(place, Mapping)}) if places else 1
    several = [f"--nnodes={hosts}", "--rdzv-endpoint=FIRST-HOST:29400"] if hosts > 1 else []
    return [f"--workers-per-node={processes // max(hosts, 1)}", *several]
