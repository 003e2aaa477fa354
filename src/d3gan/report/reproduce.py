"""How to repeat the comparison, and each run: its command, its config and its environment."""

import dataclasses
import itertools
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from d3gan.comparison.results import Comparison
from d3gan.comparison.runs import Run
from d3gan.comparison.variants import parse_variant, variant_config
from d3gan.config.ini import config_text
from d3gan.config.train_config import TrainConfig
from d3gan.errors import ConfigError
from d3gan.report.run_tables import names_of

# The keys for which `d3gan compare` has lists, and the folder.
_OF_SWEEPS = {"model", "dataset", "batch_size", "seed", "out"}
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
    "device_name": "device name",
    "precision": "arithmetic",
    "world_size": "processes",
    "data": "training images",
    "started": "started (UTC)",
    "command": "called as",
}


@dataclasses.dataclass(frozen=True)
class Repeat:
    """How to repeat a run."""

    name: str
    words: Sequence[str]
    """The command for a folder without a config.ini, each word quoted for a shell."""
    config: str
    """The text of its config.ini."""
    environment: Mapping[str, str]
    """Label -> text of what its environment does not share with all runs."""


def shared_environment(runs: Sequence[Run]) -> dict[str, str]:
    """Label -> text of what all sessions of all runs share."""
    sessions = [_described(session) for run in runs for session in run.sessions]
    first = sessions[0] if sessions else {}
    return {label: text for label, text in first.items() if all(each.get(label) == text for each in sessions)}


def repeats(runs: Sequence[Run]) -> list[Repeat]:
    """How to repeat each run."""
    shared = shared_environment(runs)
    return [
        Repeat(name, words_of(run), config_text(run.config), _unshared_environment(run, shared))
        for name, run in zip(names_of(runs), runs, strict=True)
    ]


def repeat_of(comparison: Comparison) -> list[list[str]]:
    """The commands that train and compare all the runs again, each as quoted words; empty for a single run.

    One command if the runs are those of a sweep: ``d3gan compare``. Else one for each run, and ``d3gan report``.
    """
    runs = comparison.runs
    if len(runs) < 2:
        return []
    against = [f"--against={comparison.against}"] if comparison.against else []
    try:
        words = _sweep_words(runs)
    except ConfigError:  # a variant that is none, or values that only together with a model's make sense
        words = []
    if words:
        return [[shlex.quote(word) for word in [*words, *against, "--out=again"]]]
    report = ["d3gan", "report", "again", *against]
    return [*map(words_of, runs), [shlex.quote(word) for word in report]]


def _sweep_words(runs: Sequence[Run]) -> list[str]:
    """The words of a ``d3gan compare`` that trains runs of these configs and no others; empty if there is none.

    Raises:
        ConfigError: there is none either.
    """
    changes = {run.variant: parse_variant(run.variant)[1] for run in runs}
    datasets, batch_sizes, seeds = (
        list(dict.fromkeys(getattr(run.config, key) for run in runs)) for key in ("dataset", "batch_size", "seed")
    )
    shared: dict[str, Any] = {"dataset": datasets[0], "batch_size": batch_sizes[0]}
    for field in dataclasses.fields(TrainConfig):
        values = {getattr(run.config, field.name) for run in runs if field.name not in changes[run.variant]}
        if field.name not in _OF_SWEEPS and len(values) == 1:
            shared[field.name] = values.pop()
    base = TrainConfig(**shared)
    sweep = [
        variant_config(dataclasses.replace(base, dataset=dataset, batch_size=size, seed=seed), variant)
        for dataset, size, seed, variant in itertools.product(datasets, batch_sizes, seeds, changes)
    ]
    configs = [dataclasses.replace(run.config, out="") for run in runs]
    if len(sweep) != len(configs) or not all(config in configs for config in sweep):
        return []
    # `d3gan compare` starts runs of one process, evaluates and samples all, and divides lists at commas.
    if not (base.evaluate_every and base.sample_every) or any(map(_launch_flags, runs)) or "," in "".join(datasets):
        return []
    words = ["d3gan", "compare", "--models", *changes, "--seeds", *map(str, seeds)]
    words += ["--datasets", *datasets] if len(datasets) > 1 else [f"--dataset={datasets[0]}"]
    words += ["--batch-sizes", *map(str, batch_sizes)] if len(batch_sizes) > 1 else [f"--batch-size={batch_sizes[0]}"]
    return [*words, *_flags(base, _OF_SWEEPS)]


def _unshared_environment(run: Run, shared: Mapping[str, str]) -> dict[str, str]:
    """Label -> the texts of the run's sessions, without those that all runs share."""
    texts_by_label: dict[str, list[str]] = {}
    for session in run.sessions:
        for label, text in _described(session).items():
            if label not in shared and text not in texts_by_label.setdefault(label, []):
                texts_by_label[label].append(text)
    return {label: "; then ".join(texts) for label, texts in texts_by_label.items()}


def _described(session: Mapping[str, Any]) -> dict[str, str]:
    """Label -> text of what a session in environment.json says."""
    texts = {label: session[key] for key, label in _ENVIRONMENT.items() if session.get(key) not in (None, "")}
    if isinstance(memory := session.get("memory_bytes"), int):
        texts["memory"] = f"{memory / 2**30:.1f} GiB"
    if isinstance(command := session.get("command"), list):
        texts["called as"] = shlex.join(map(str, command))
    if isinstance(data := session.get("data"), Mapping):
        words = [str(data.get("name", "")), str(data.get("split", "")), f"{data.get('images', '?')} images"]
        words += [f"SHA-256 {data['sha256']}"] if data.get("sha256") else []
        texts["training images"] = ", ".join(word for word in words if word)
    return {label: str(value) for label, value in texts.items()}


def words_of(run: Run) -> list[str]:
    """The quoted words of a command that trains the run again; each key that is not the default is a flag.

    The command in environment.json would not do: it may name a config file, or start a whole sweep.
    """
    words = ["d3gan", "train", *_launch_flags(run), *_flags(run.config, {"out"}), f"--out=again/{run.name}"]
    return [shlex.quote(word) for word in words]


def _flags(config: TrainConfig, left_out: Collection[str]) -> list[str]:
    """A flag for each key that is not the default."""
    words = []
    for field in dataclasses.fields(TrainConfig):
        value = getattr(config, field.name)
        if field.name in left_out or (value == field.default and type(value) is type(field.default)):
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words.append(f"--{flag}={value}")
    return words


def _launch_flags(run: Run) -> list[str]:
    """The flags that start the same number of processes on the same number of hosts."""
    session = run.sessions[-1] if run.sessions else {}
    processes = session.get("world_size", 1)
    if not isinstance(processes, int) or processes < 2:
        return []
    ranks = session.get("processes")
    hosts = len({str(rank.get("host")) for rank in ranks if isinstance(rank, Mapping)}) if ranks else 1
    several = [f"--nnodes={hosts}", "--rdzv-endpoint=FIRST-HOST:29400"] if hosts > 1 else []
    return [f"--workers-per-node={processes // max(hosts, 1)}", *several]
