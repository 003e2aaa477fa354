"""The command line. It alone decides exit codes: 0 done, 1 a fault in the world, 2 a bad value, 128 + n signal n.

Nothing here imports torch before a command needs it.
"""

import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tyro

from d3gan.config.command_line import parse_flags
from d3gan.config.presets import preset_lines, preset_text
from d3gan.config.train_config import TrainConfig
from d3gan.config.validation import check_values
from d3gan.distributed.exit import code_of, first_on_host, leave, report
from d3gan.distributed.launcher import Launch, check_launch, launch_processes, started_by_launcher
from d3gan.errors import ConfigError, WorldError, nearest
from d3gan.evaluation.options import Evaluate
from d3gan.report.options import Report
from d3gan.scaling.options import Scale
from d3gan.sweep.options import Compare


class Call(NamedTuple):
    """How a command was called."""

    program: str
    """What messages call the program."""
    arguments: list[str]
    """The command and its flags."""

    def __str__(self) -> str:
        """The line to type to call it so again."""
        return shlex.join([*self.program.split(), *self.arguments])


@dataclass(frozen=True)
class Train(Launch, TrainConfig):
    """Train a GAN, or go on with the run found in its run directory. Flags beat the config file or preset."""

    config: str = ""
    """The .ini file to read. Empty: config.ini in the current folder, where there is one."""
    preset: str = ""
    """Read this preset instead of an .ini file; `d3gan presets` lists them."""
    debug: bool = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        """Checks the config and the flags of the launcher."""
        super().__post_init__()
        check_launch(self)


@dataclass(frozen=True)
class Sample:
    """Make images with a run's generator: a grid, an interpolation, an animation, or an array."""

    run: str
    """Run directory, or a generator.safetensors."""
    num: int = 64
    """Number of images."""
    out: str = ""
    """File to write. Empty: grid.png, interpolation.png or animation.gif in the run directory."""
    columns: int = 0
    """Images a row. 0: as square as can be."""
    scale: int = 1
    """Show each pixel of a grid as this many by this many."""
    interpolate: bool = False
    """Each row goes from one random latent to another."""
    animate: bool = False
    """Show the run's sample grids one after the other, .gif or .webp by the name of --out."""
    npz: str = ""
    """Write the images as an array instead: arr_0 (num, H, W, C) uint8, and their latents (num, nz)."""
    seed: int = 0
    """Decides the latents."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    debug: bool = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        """Checks types and ranges."""
        check_values(self, {"num": (1, 10_000_000), "columns": (0, None), "scale": (1, 64), "seed": (0, 2**63 - 1)})
        chosen = [f"--{name}" for name in ("interpolate", "animate", "npz") if getattr(self, name)]
        if len(chosen) > 1:
            raise ConfigError(f"{' and '.join(chosen)}: give one of them at a time")


@dataclass(frozen=True)
class Export:
    """Write a run's generator as a file for other programs."""

    run: str
    """Run directory, or a generator.safetensors."""
    format: Literal["safetensors", "onnx"] = "safetensors"
    """onnx needs d3gan[onnx]; its batch size is free."""
    out: str = ""
    """File to write. Empty: generator-export.FORMAT in the run directory."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Presets:
    """List the configs that --preset knows, or print one of them to make your own of."""

    name: tyro.conf.Positional[str] = ""
    """Name of a preset, to print its .ini file. Empty: list all, what each is for, its cost, what to expect."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class DataList:
    """List the known data sets, and whether their files are at hand."""

    data_dir: str = ""
    """Folder of the data files. Empty: $D3GAN_DATA, else the user's cache folder."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class DataFetch:
    """Fetch a data set's official files and check them."""

    name: str
    """A name that `d3gan data list` shows."""
    data_dir: str = ""
    """Folder of the data files. Empty: $D3GAN_DATA, else the user's cache folder."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class DataVerify:
    """Check every file of a data set, or every image of a folder or .zip."""

    name: str
    """A name that `d3gan data list` shows, or the path of a folder or .zip of images."""
    data_dir: str = ""
    """Folder of the data files. Empty: $D3GAN_DATA, else the user's cache folder."""
    debug: bool = False
    """Show the traceback of an error."""


def run_train(flags: Train, call: Call) -> int:
    """Trains; see ``d3gan.training.loop``."""
    if flags.workers_per_node and not started_by_launcher():
        again = "the same command goes on from the last checkpoint, and --max-restarts N does so by itself"
        return launch_processes(flags, flags.device, call.arguments, flags.timeout, flags.debug, again)
    from d3gan.training.loop import train
    from d3gan.training.progress import terminal_display

    config = TrainConfig(**{f.name: getattr(flags, f.name) for f in dataclasses.fields(TrainConfig)})
    outcome = train(config, terminal_display, lambda text: print(text, flush=True))
    say = print if outcome.leads else lambda *_, **__: None
    if outcome.interrupted_by is not None:
        name, step = outcome.interrupted_by.name, outcome.step
        say(f"stopped by {name} at step {step}; saved. Go on with: {call}", flush=True)
        return 128 + outcome.interrupted_by
    if outcome.step > outcome.last_step:
        say(f"{outcome.run} has {outcome.step} steps already; nothing was left to do")
    say(f"done: {outcome.step} steps; samples in {outcome.run / 'samples'}; more with: d3gan sample {outcome.run}")
    return 0


def run_scale(flags: Scale, call: Call) -> int:
    """Measures how training scales; see ``d3gan.scaling``."""
    import json

    if flags.numbers[-1] > 1 and not started_by_launcher():
        again = "start the same command again"
        return launch_processes(flags.launch, flags.device, call.arguments, flags.timeout, flags.debug, again)
    from d3gan.scaling.command import study, table

    folder = study(flags, lambda text: print(text, flush=True))
    if folder is not None:
        print(f"\n{table(json.loads((folder / 'scaling.json').read_text()))}\n")
        print("\n".join(str(path) for path in sorted(folder.glob("*.*")) if path.suffix in (".json", ".png")))
    return 0


def run_evaluate(flags: Evaluate, _call: Call) -> int:
    """Measures; see ``d3gan.evaluation``."""
    import json

    from d3gan.evaluation.command import measure, measure_text
    from d3gan.evaluation.metric_names import reasons_of

    # With --json standard output holds the object alone.
    record = measure(flags, lambda text: print(text, file=sys.stderr if flags.json else sys.stdout, flush=True), True)
    if record is not None:
        print(json.dumps(record, indent=1) if flags.json else f"\n{measure_text(record)}")
        if reasons := reasons_of(record):
            raise WorldError("; ".join(f"{metric} not computed: {reason}" for metric, reason in reasons.items()))
    return 0


def run_sample(flags: Sample, _call: Call) -> int:
    """Writes images; see ``d3gan.sampling.generate``."""
    from d3gan.runs.directory import home_of
    from d3gan.sampling.files import write_animation, write_array, write_grid, write_interpolation

    home = home_of(flags.run)
    if flags.animate:
        path = Path(flags.out or home / "animation.gif")
        frames = write_animation(flags.run, path)
        print(f"{path} ({frames} frames)")
    elif flags.interpolate:
        path = Path(flags.out or home / "interpolation.png")
        write_interpolation(flags.run, path, flags.num, flags.columns, flags.seed, flags.device, flags.scale)
        print(path)
    elif flags.npz:
        write_array(flags.run, Path(flags.npz), flags.num, flags.seed, flags.device)
        print(flags.npz)
    else:
        path = Path(flags.out or home / "grid.png")
        write_grid(flags.run, path, flags.num, flags.columns, flags.seed, flags.device, flags.scale)
        print(path)
    return 0


def run_compare(flags: Compare, call: Call) -> int:
    """Trains a grid of runs and compares them; see ``d3gan.comparison``."""
    from d3gan.sweep.command import planned, study

    if flags.dry_run:
        print("\n".join(planned(flags)))
        return 0
    found = study(flags, lambda text: print(text, flush=True))
    if found.stopped_by is not None:
        print(f"stopped by {found.stopped_by.name}; what was trained is saved. Go on with: {call}", flush=True)
        return 128 + found.stopped_by
    if found.page is not None:
        print(f"\n{found.verdict}\n\nfigures: {found.page.parent / 'figures'}\nthe page: {found.page.resolve()}")
    if found.failed:
        raise WorldError(f"of {flags.out}, {len(found.failed)} failed: {', '.join(run.name for run in found.failed)}")
    return 0


def run_report(flags: Report, _call: Call) -> int:
    """Writes the page about some runs; see ``d3gan.report``."""
    from d3gan.report.write import write_report

    print(write_report(flags.runs, flags.out, flags.against))
    return 0


def run_export(flags: Export, _call: Call) -> int:
    """Writes the generator in another form; see ``d3gan.sampling.export``."""
    from d3gan.sampling.export import export

    print(export(flags.run, flags.format, flags.out))
    return 0


def run_presets(flags: Presets, _call: Call) -> int:
    """Prints what there is, or one of them."""
    if flags.name:
        print(preset_text(flags.name), end="")
    else:
        print("\n".join(preset_lines()))
    return 0


def run_data_list(flags: DataList, _call: Call) -> int:
    """Prints the catalog."""
    from d3gan.data.published.commands import catalog_lines

    print("\n".join(catalog_lines(flags.data_dir or None)))
    return 0


def run_data_fetch(flags: DataFetch, _call: Call) -> int:
    """Fetches a data set."""
    from d3gan.data.published.commands import fetch

    print(fetch(flags.name, data_dir=flags.data_dir or None, report=print, progress=True))
    return 0


def run_data_verify(flags: DataVerify, _call: Call) -> int:
    """Checks a data set."""
    from d3gan.data.published.verify import verify

    verify(flags.name, data_dir=flags.data_dir or None, report=print)
    print(f"{flags.name}: all is well")
    return 0


# What follows the program's name -> what holds its flags (its docstring is the help; fields without a default are
# given by place), and what does the work.
COMMANDS: dict[str, tuple[type[Any], Callable[[Any, Call], int]]] = {
    "train": (Train, run_train),
    "evaluate": (Evaluate, run_evaluate),
    "scale": (Scale, run_scale),
    "compare": (Compare, run_compare),
    "report": (Report, run_report),
    "sample": (Sample, run_sample),
    "export": (Export, run_export),
    "presets": (Presets, run_presets),
    "data list": (DataList, run_data_list),
    "data fetch": (DataFetch, run_data_fetch),
    "data verify": (DataVerify, run_data_verify),
}


def run() -> None:
    """The console script ``d3gan``."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str], program: str = "d3gan") -> int:
    """Runs one command.

    Args:
        arguments: what follows the program's name.
        program: the name that messages call it by.

    Returns:
        The exit code.
    """
    debug = "--debug" in arguments
    try:
        code = _dispatch(list(arguments), program)
        sys.stdout.flush()  # here, where a closed pipe is still caught
        return leave(code)
    except KeyboardInterrupt:
        if first_on_host("interrupted"):
            print(f"{program}: interrupted", file=sys.stderr)
        return leave(130)
    except BrokenPipeError:
        from d3gan.training.progress import silence_output

        silence_output()
        return leave(141)
    except (ConfigError, WorldError) as error:
        report(program, error, debug)
        return leave(code_of(error))
    except Exception as error:
        report(program, error, debug)
        return leave(code_of(error))


def _dispatch(arguments: list[str], program: str) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview("", program))
        return 0
    if arguments[0] in ("--version", "-V"):
        from d3gan import __version__

        print(f"d3gan {__version__}")
        return 0
    words = next((n for n in (2, 1) if " ".join(arguments[:n]) in COMMANDS), 0)
    if not words and any(name.startswith(f"{arguments[0]} ") for name in COMMANDS):
        if len(arguments) > 1 and arguments[1] not in ("-h", "--help"):
            raise _unknown_command(" ".join(arguments[:2]))
        print(_overview(f"{arguments[0]} ", program))
        return 0
    if not words:
        raise _unknown_command(arguments[0])
    name = " ".join(arguments[:words])
    owner, work = COMMANDS[name]
    flags = parse_flags(owner, arguments[words:], f"{program} {name}")
    return work(flags, Call(program, arguments))


def _unknown_command(name: str) -> ConfigError:
    return ConfigError(f"{name}: unknown command{nearest(name, COMMANDS)}; allowed: {', '.join(COMMANDS)}")


def _overview(prefix: str, program: str) -> str:
    rows = [(n, (owner.__doc__ or "").split("\n")[0]) for n, (owner, _) in COMMANDS.items() if n.startswith(prefix)]
    lines = [f"usage: {program} COMMAND [OPTIONS]", "", "Train GANs with one, two or more discriminators.", ""]
    lines += [f"  {name:<12} {about}" for name, about in rows]
    return "\n".join([*lines, "", f"Options of a command: {program} COMMAND --help"])
