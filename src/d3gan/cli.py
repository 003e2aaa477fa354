"""The command line. It alone decides exit codes: 0 done, 1 an external fault, 2 a bad value, 128 + n signal n.

Nothing here imports torch before a command needs it.
"""

import dataclasses
import logging
import os
import shlex
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from d3gan.comparison.flops import flops_per_image
from d3gan.config.command_line import parse_flags
from d3gan.config.completion import SHELLS, completion_script
from d3gan.config.datasets import POINTS
from d3gan.config.presets import load_preset, preset_header, preset_names, preset_text
from d3gan.config.recipes import MODELS, SOURCES, Recipe
from d3gan.config.shared_flags import Debug
from d3gan.config.train_config import TrainConfig
from d3gan.data.options import DataFetch, DataList, DataVerify
from d3gan.data.published.catalog import find_dataset
from d3gan.distributed.exit import code_of, first_on_host, leave, report
from d3gan.distributed.launcher import launch_processes, started_by_launcher
from d3gan.errors import ConfigError, ExternalError, nearest
from d3gan.evaluation.options import Evaluate
from d3gan.export.options import Export
from d3gan.interrupt import was_interrupted
from d3gan.output import MessageHandler, answer, prepare_streams, say, silence
from d3gan.progress_bar import show_progress_bars
from d3gan.report.options import Report
from d3gan.sampling.options import Sample
from d3gan.scaling.options import Scale
from d3gan.status.options import Info, Runs
from d3gan.sweep.options import Compare
from d3gan.training.options import Train
from d3gan.version import __version__
from d3gan.watch.options import Watch

logger = logging.getLogger("d3gan")


class Call(NamedTuple):
    """How a command was called."""

    program: str
    """Name of the program in messages."""
    implied: list[str]
    """The words that the program puts before those that the user typed: ``train`` for ``python train.py``."""
    typed: list[str]
    """The words that the user typed."""

    @property
    def arguments(self) -> list[str]:
        """The command and its flags."""
        return [*self.implied, *self.typed]

    def __str__(self) -> str:
        """The line that repeats the call."""
        return shlex.join([*self.program.split(), *self.typed])


@dataclass(frozen=True)
class Presets:
    """List the configs that --preset accepts, or print one of them as a start for your own."""

    name: tyro.conf.Positional[str] = ""
    """Name of the preset whose .ini file to print. Default: list all with purpose, cost and expected result."""
    debug: Debug = False


@dataclass(frozen=True)
class Models:
    """List the models that --model accepts, with their recipe, source and cost."""

    debug: Debug = False


def run_train(flags: Train, call: Call) -> int:
    """Trains; see ``d3gan.training.loop``."""
    if flags.workers_per_node and not started_by_launcher():
        again = "the same command resumes from the last checkpoint; --max-restarts N does so automatically"
        return launch_processes(flags, flags.device, call.arguments, flags.timeout, flags.debug, again)
    from d3gan.training.loop import train

    config = TrainConfig(**{f.name: getattr(flags, f.name) for f in dataclasses.fields(TrainConfig)})
    result = train(config, raise_interrupt=False)
    if result.interrupted_by is not None:
        logger.info(f"stopped by {result.interrupted_by.name} at step {result.step}; saved. Resume with: {call}")
        return 128 + result.interrupted_by
    more = f"samples in {result.run / 'samples'}; more with: d3gan sample {result.run}"
    if result.step == result.first_step:
        over = f", {result.last_step} were asked for" if result.step > result.last_step else ""
        logger.info(f"nothing left to do: {result.step} steps were done before{over}; {more}")
    else:
        logger.info(f"done: {result.step} steps; {more}")
    return 0


def run_scale(flags: Scale, call: Call) -> int:
    """Measures how training scales; see ``d3gan.scaling``."""
    import json

    if flags.numbers[-1] > 1 and not started_by_launcher():
        again = "start the same command again"
        return launch_processes(flags.launch, flags.device, call.arguments, flags.timeout, flags.debug, again)
    from d3gan.scaling.command import measure_scaling, table

    folder = measure_scaling(flags)
    if folder is not None:
        answer(f"\n{table(json.loads((folder / 'scaling.json').read_text()))}\n")
        answer("\n".join(str(path) for path in sorted(folder.glob("*.*")) if path.suffix in (".json", ".png")))
    return 0


def run_evaluate(flags: Evaluate, _call: Call) -> int:
    """Evaluates a generator or a folder of images; see ``d3gan.evaluation``."""
    import json

    from d3gan.evaluation.command import measure, measure_text
    from d3gan.evaluation.metric_names import reasons_of

    record = measure(flags)
    if record is not None:
        answer(json.dumps(record, indent=1) if flags.json else f"\n{measure_text(record)}")
        if reasons := reasons_of(record):
            raise ExternalError("; ".join(f"{metric} not computed: {reason}" for metric, reason in reasons.items()))
    return 0


def run_sample(flags: Sample, _call: Call) -> int:
    """Writes images; see ``d3gan.sampling.generate``."""
    from d3gan.runs.directory import home_of
    from d3gan.sampling.files import write_animation, write_array, write_image_grid, write_interpolation

    home = home_of(flags.run)
    if flags.animate:
        path = Path(flags.out or home / "animation.gif")
        frames = write_animation(flags.run, path, flags.classes)
        answer(f"{path} ({frames} frames)")
    elif flags.interpolate:
        path = Path(flags.out or home / "interpolation.png")
        sizes = flags.num, flags.columns, flags.seed, flags.device, flags.scale
        write_interpolation(flags.run, path, *sizes, flags.classes)
        answer(path)
    elif flags.npz:
        of_classes = flags.classes, flags.per_class
        write_array(flags.run, Path(flags.npz), flags.num, flags.seed, flags.device, *of_classes)
        answer(flags.npz)
    else:
        path = Path(flags.out or home / "grid.png")
        sizes = flags.num, flags.columns, flags.seed, flags.device, flags.scale
        write_image_grid(flags.run, path, *sizes, flags.classes, flags.per_class)
        answer(path)
    return 0


def run_compare(flags: Compare, call: Call) -> int:
    """Trains the runs of a sweep and compares them; see ``d3gan.sweep``."""
    from d3gan.sweep.command import dry_run, run_sweep

    if flags.dry_run:
        answer("\n".join(dry_run(flags)))
        return 0
    result = run_sweep(flags)
    if result.stopped_by is not None:
        answer(f"stopped by {result.stopped_by.name}; what was trained is saved. Resume with: {call}")
        return 128 + result.stopped_by
    if result.page is not None:
        answer(f"\n{result.verdict}\n\nfigures: {result.page.parent / 'figures'}\nthe page: {result.page.resolve()}")
    if result.failed:
        raise ExternalError(
            f"of {flags.out}, {len(result.failed)} failed: {', '.join(run.name for run in result.failed)}"
        )
    return 0


def run_info(flags: Info, _call: Call) -> int:
    """Tells how far a run is; see ``d3gan.status``."""
    import json

    from d3gan.files import user_path
    from d3gan.runs.directory import RunDirectory, find_run
    from d3gan.status.read import find_runs, read_status
    from d3gan.status.text import as_json, info_text

    path = user_path(flags.run)
    if path.is_dir() and not RunDirectory(path).is_ours() and len(find_runs(flags.run)) > 1:
        raise ConfigError(f"{flags.run}: holds several runs; `d3gan runs {shlex.quote(flags.run)}` lists them")
    status = read_status(find_run(flags.run).path)
    if status.problem:
        raise ExternalError(f"{flags.run}: is {status.state}: {status.problem}")
    answer(json.dumps(as_json(status), indent=1) if flags.json else info_text(status))
    return 0


def run_runs(flags: Runs, _call: Call) -> int:
    """Lists runs; see ``d3gan.status``."""
    import json

    from d3gan.files import user_path
    from d3gan.status.read import find_runs, read_status
    from d3gan.status.text import as_json, runs_text, sorted_runs

    runs = sorted_runs([read_status(path) for path in find_runs(flags.folder)], flags.sort)
    answer(
        json.dumps([as_json(run) for run in runs], indent=1)
        if flags.json
        else runs_text(runs, user_path(flags.folder))
    )
    return 0


def run_report(flags: Report, _call: Call) -> int:
    """Writes a page about finished runs; see ``d3gan.report``."""
    from d3gan.report.write import write_report

    answer(write_report(flags.runs, flags.out, flags.against))
    return 0


def run_watch(flags: Watch, _call: Call) -> int:
    """Serves a page about runs while they train; see ``d3gan.watch``."""
    from d3gan.watch.server import watch

    watch(flags.run, flags.port, flags.open)
    return 0


def run_export(flags: Export, _call: Call) -> int:
    """Writes the generator for others; see ``d3gan.export.command``."""
    from d3gan.export.command import export

    answer(export(flags))
    return 0


def preset_lines() -> list[str]:
    """The lines of ``d3gan presets``: purpose, cost and expected result of each preset."""
    lines: list[str] = []
    for name in preset_names():
        purpose, expected = preset_header(name)
        lines += _entry(name, {"for": purpose, "cost": _cost_text(name), "expect": expected})
    return lines


def _entry(name: str, texts: dict[str, str]) -> list[str]:
    """A name, and below it each text after its label, wrapped."""
    lines = [name]
    for label, text in texts.items():
        first, others = f"  {label:<8}", " " * 10
        # Names have hyphens, at which they stay whole.
        lines += textwrap.wrap(text, 100, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
    return lines


def _cost_text(name: str) -> str:
    """Arithmetic of training once with one process, without the evaluations."""
    config = load_preset(name)
    flops = flops_per_image(config)
    dataset = find_dataset(config.dataset)
    if dataset is None and not config.makes_points:
        return f"{flops / 1e9:.3g} GFLOP per image and epoch"
    images = dataset.split("train").count if dataset is not None else POINTS["train"]
    step_size = config.images_per_step
    # As in training, the last incomplete step of an epoch is left out.
    steps = config.epochs * (images // step_size)
    steps = min(steps, config.max_steps or steps)
    return f"{flops * steps * step_size / 1e9:,.0f} GFLOP per run: {steps:,} steps of {step_size} images"


def model_lines() -> list[str]:
    """The lines of ``d3gan models``: recipe, source and arithmetic of each model."""
    dcgan = flops_per_image(TrainConfig(model="dcgan"))
    lines: list[str] = []
    for name, recipe in MODELS.items():
        words = [f"{field.name} {getattr(recipe, field.name)}" for field in dataclasses.fields(Recipe)]
        cost = flops_per_image(TrainConfig(model=name)) / dcgan
        cost_text = f"{cost:.2f} times dcgan's arithmetic per image"
        lines += _entry(name, {"from": SOURCES[name], "recipe": ", ".join(words), "cost": cost_text})
    return lines


def run_models(_flags: Models, _call: Call) -> int:
    """Lists the models."""
    answer("\n".join(model_lines()))
    return 0


def run_presets(flags: Presets, _call: Call) -> int:
    """Lists the presets, or prints one of them."""
    if flags.name:
        answer(preset_text(flags.name).rstrip("\n"))
    else:
        answer("\n".join(preset_lines()))
    return 0


def run_data_list(flags: DataList, _call: Call) -> int:
    """Prints the catalog of data sets."""
    from d3gan.data.published.commands import catalog_lines

    answer("\n".join(catalog_lines(flags.data_dir or None)))
    return 0


def run_data_fetch(flags: DataFetch, _call: Call) -> int:
    """Fetches a data set."""
    from d3gan.data.published.commands import fetch

    answer(fetch(flags.name, data_dir=flags.data_dir or None))
    return 0


def run_data_verify(flags: DataVerify, _call: Call) -> int:
    """Checks a data set."""
    from d3gan.data.published.verify import verify

    verify(flags.name, data_dir=flags.data_dir or None)
    answer(f"{flags.name}: all files are intact")
    return 0


# A command's words -> the dataclass of its flags (its docstring is the help; fields without a default are positional)
# and the function that runs it.
COMMANDS: dict[str, tuple[type[Any], Callable[[Any, Call], int]]] = {
    "train": (Train, run_train),
    "evaluate": (Evaluate, run_evaluate),
    "scale": (Scale, run_scale),
    "compare": (Compare, run_compare),
    "report": (Report, run_report),
    "watch": (Watch, run_watch),
    "info": (Info, run_info),
    "runs": (Runs, run_runs),
    "sample": (Sample, run_sample),
    "export": (Export, run_export),
    "presets": (Presets, run_presets),
    "models": (Models, run_models),
    "data list": (DataList, run_data_list),
    "data fetch": (DataFetch, run_data_fetch),
    "data verify": (DataVerify, run_data_verify),
}


class _LogHandler(MessageHandler):
    """Prints log messages on rank 0 alone; with --json to standard error."""

    def __init__(self) -> None:
        super().__init__()
        logger.setLevel(logging.INFO)
        is_main = os.environ.get("RANK", "0") == "0"
        show_progress_bars(is_main)
        self.addFilter(lambda _record: is_main)


def main(arguments: Sequence[str], program: str = "d3gan", implied: Sequence[str] = ()) -> int:
    """Runs one command.

    Args:
        arguments: the words after the program's name.
        program: its name in messages.
        implied: words that come before the arguments without being typed.

    Returns:
        The exit code.
    """
    debug = "--debug" in arguments
    prepare_streams()
    handler = _LogHandler()
    logger.addHandler(handler)
    try:
        code = _dispatch(Call(program, list(implied), list(arguments)), handler)
        return leave(code)
    except KeyboardInterrupt:
        return _interrupted(program)
    except BrokenPipeError:
        silence(sys.stdout)
        return leave(141)
    except Exception as error:
        if was_interrupted():  # what an interrupted import has become
            return _interrupted(program)
        report(program, error, debug)
        return leave(code_of(error))
    finally:
        logger.removeHandler(handler)


def _interrupted(program: str) -> int:
    if first_on_host("interrupted"):
        say(f"{program}: interrupted", sys.stderr)
    return leave(130)


def _dispatch(call: Call, handler: _LogHandler) -> int:
    arguments, program = call.arguments, call.program
    if not arguments or arguments[0] in ("-h", "--help", "--help-all", "help"):
        answer(_overview("", program))
        return 0
    if arguments[0] in ("--version", "-V"):
        answer(f"d3gan {__version__}")
        return 0
    if arguments[0] == "--tyro-print-completion":
        shell = arguments[1] if len(arguments) > 1 else "(nothing)"
        answer(completion_script(shell, {name: owner for name, (owner, _) in COMMANDS.items()}))
        return 0
    words = next((n for n in (2, 1) if " ".join(arguments[:n]) in COMMANDS), 0)
    if not words and any(name.startswith(f"{arguments[0]} ") for name in COMMANDS):
        if len(arguments) > 1 and arguments[1] not in ("-h", "--help", "--help-all"):
            raise _unknown_command(" ".join(arguments[:2]))
        answer(_overview(f"{arguments[0]} ", program))
        return 0
    if not words:
        raise _unknown_command(arguments[0])
    name = " ".join(arguments[:words])
    owner, work = COMMANDS[name]
    flags = parse_flags(owner, arguments[words:], program if call.implied else f"{program} {name}")
    handler.to_stderr = getattr(flags, "json", False)  # standard output holds the JSON object alone
    return work(flags, call)


def _unknown_command(name: str) -> ConfigError:
    return ConfigError(f"{name}: unknown command{nearest(name, COMMANDS)}; allowed: {', '.join(COMMANDS)}")


def _overview(prefix: str, program: str) -> str:
    rows = [(n, (owner.__doc__ or "").split("\n")[0]) for n, (owner, _) in COMMANDS.items() if n.startswith(prefix)]
    lines = [f"usage: {program} COMMAND [OPTIONS]", "", "Train GANs with one, two or more discriminators.", ""]
    lines += [f"  {name:<12} {about}" for name, about in rows]
    lines += ["", f"Options of a command: {program} COMMAND --help"]
    if not prefix:
        lines.append(
            f"Completion by the tab key: {program} --tyro-print-completion {'|'.join(SHELLS)}; docs/commands.md"
        )
    return "\n".join(lines)
