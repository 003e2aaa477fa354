"""What a training run is told: one frozen dataclass, read from an .ini file, with flags over it.

Importing this module imports no torch, so that ``d3gan --help`` answers at once.
"""

import configparser
import dataclasses
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from d3gan.errors import ConfigError, nearest

Pairing = Literal["swapped", "own"]
Selection = Literal["argmax", "argmin"]
Activation = Literal["relu", "mish", "leaky_relu"]
Schedule = Literal["constant", "linear"]


@dataclass(frozen=True)
class Recipe:
    """What makes one GAN of the family differ from another; everything else is shared by all of them."""

    discriminators: int
    pairing: Pairing
    selection: Selection
    activation: Activation
    schedule: Schedule


# Published programs (2023): DCGAN trains with ReLU and a learning rate that falls linearly to 0, D3GAN with Mish and
# a constant one. The controlled pair takes both confounders out: its members differ in the number of
# discriminators alone (with one discriminator, swapping its error with itself changes nothing).
MODELS: dict[str, Recipe] = {
    "d3gan": Recipe(2, "swapped", "argmax", "mish", "constant"),
    "dcgan": Recipe(1, "swapped", "argmax", "relu", "linear"),
    "d3gan-controlled": Recipe(2, "swapped", "argmax", "relu", "constant"),
    "dcgan-controlled": Recipe(1, "swapped", "argmax", "relu", "constant"),
}

SECTION = "parameters"
# The seed's names that we read under another name.
_ALIASES = {"type": "dataset"}
_DATASET_ALIASES = {"stl": "stl10"}


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run. Values are checked when the object is made.

    The defaults are the published selection (config.ini of the D3GAN program). A key that says ``model`` takes what
    the model's recipe says; ``recipe`` holds the outcome.

    Raises:
        ConfigError: a value has the wrong type or is out of range; the message names the key.
    """

    model: Literal["d3gan", "dcgan", "d3gan-controlled", "dcgan-controlled"] = "d3gan"
    """GAN to train: d3gan and dcgan as published; the -controlled pair differs in the second discriminator alone."""
    dataset: str = "mnist"
    """Name of a data set (`d3gan data list`), or the path of a folder or .zip of images."""
    data_dir: str = ""
    """Folder of the data files. Empty: $D3GAN_DATA, else the user's cache folder."""
    out: str = ""
    """Run directory. Empty: runs/DATASET-MODEL-bBATCH-sSEED. A run found there goes on where it stopped."""
    image_size: int = 32
    """Side of the square images in pixels: 16, 32, 64, 128 or 256."""
    batch_size: int = 128
    """Real images a step, for each process."""
    nz: int = 100
    """Numbers in a latent vector."""
    ngf: int = 64
    """Width of the generator: channels of its last hidden layer."""
    ndf: int = 64
    """Width of each discriminator: channels of its first layer."""
    nc: int = 3
    """Image channels: 1 (grey) or 3 (colour; grey data sets become three equal channels)."""
    lr: float = 0.0002
    """Learning rate of Adam, generator and discriminators."""
    beta1: float = 0.5
    """Adam's decay rate of the first moment."""
    beta2: float = 0.999
    """Adam's decay rate of the second moment."""
    epochs: int = 10
    """Passes over the training images."""
    max_steps: int = 0
    """End the run after this many steps. 0: train all epochs."""
    discriminators: int | Literal["model"] = "model"
    """Number K of discriminators, 1 to 64."""
    pairing: Pairing | Literal["model"] = "model"
    """Whose fake error joins discriminator k's real error: swapped takes k+1's (modulo K), own takes k's."""
    selection: Selection | Literal["model"] = "model"
    """Which discriminator trains the generator: the one of largest (argmax) or smallest (argmin) paired error."""
    activation: Activation | Literal["model"] = "model"
    """The generator's activation."""
    schedule: Schedule | Literal["model"] = "model"
    """Learning rate over the run: constant, or linear to 0 at the end of the last epoch."""
    checkpoint: int = 200
    """Steps between checkpoints; the last two are kept."""
    tick: int = 50
    """Steps between two lines of metrics.jsonl."""
    sample_every: int = 0
    """Steps between sample grids, beside one after each epoch and one at the end. 0: no others."""
    workers: int = 2
    """Threads that decode a folder or .zip of images, the first time it is read."""
    seed: int = 0
    """Decides weights, order of images and latents."""
    device: str = "auto"
    """auto (cuda, else mps, else cpu), cpu, cuda, cuda:N or mps."""
    precision: Literal["auto", "bf16", "float32", "float64"] = "auto"
    """Arithmetic of the networks; auto is bf16 autocast where the hardware has it, else float32."""
    deterministic: bool = True
    """Use only algorithms that repeat bit for bit. Off lets a GPU pick faster ones."""
    tensorboard: bool = False
    """Write TensorBoard events into the run directory too (needs d3gan[tensorboard])."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        object.__setattr__(self, "dataset", _DATASET_ALIASES.get(self.dataset, self.dataset))
        check_values(self, _RANGES)
        for name in ("dataset", "data_dir", "out", "device"):
            value = getattr(self, name)
            if any(mark in value for mark in ("\n", "\r", " #", " ;")) or value != value.strip():
                raise ConfigError(
                    f"{name} = {value!r}: must hold no line break, ' #', ' ;' or space at an end (.ini files)"
                )
        if not self.dataset:
            raise ConfigError(
                "dataset is empty; give a name that `d3gan data list` shows, or a folder or .zip of images"
            )

    @property
    def recipe(self) -> Recipe:
        """The model's recipe, with what this config overrides in it."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(Recipe)}
        return dataclasses.replace(MODELS[self.model], **{k: v for k, v in own.items() if v != "model"})

    @property
    def run_directory(self) -> Path:
        """Where the run is kept: ``out``, or a name made of what tells runs apart most."""
        if self.out:
            return Path(self.out)
        return Path("runs") / f"{Path(self.dataset).stem}-{self.model}-b{self.batch_size}-s{self.seed}"


# Smallest and largest (None: any) allowed value, or all the allowed values.
Range = tuple[float, float | None] | frozenset[int]
_RANGES: dict[str, Range] = {
    "image_size": frozenset({16, 32, 64, 128, 256}),
    "nc": frozenset({1, 3}),
    "batch_size": (2, None),  # BatchNorm over one 1 x 1 image has no variance
    "nz": (1, None),
    "ngf": (1, None),
    "ndf": (1, None),
    "lr": (0.0, None),
    "beta1": (0.0, 0.999999),
    "beta2": (0.0, 0.999999),
    "epochs": (1, None),
    "max_steps": (0, None),
    "discriminators": (1, 64),
    "checkpoint": (1, None),
    "tick": (1, None),
    "sample_every": (0, None),
    "workers": (1, 256),
    "seed": (0, 2**63 - 1),
}


def check_values(owner: Any, ranges: Mapping[str, Range]) -> None:
    """Checks the fields of a dataclass object against their types, then against the ranges of those that have one.

    Raises:
        ConfigError: names the first field that does not fit, its value and what is allowed.
    """
    for name, hint in field_types(type(owner)).items():
        _check_type(name, getattr(owner, name), hint)
    for name, allowed in ranges.items():
        _check_range(name, getattr(owner, name), allowed)


def _check_range(name: str, value: Any, allowed: Range) -> None:
    if value == "model":
        return
    if isinstance(allowed, frozenset):
        if value not in allowed:
            raise ConfigError(f"{name} = {value}: must be one of {', '.join(map(str, sorted(allowed)))}")
        return
    low, high = allowed
    if math.isfinite(value) and value >= low and (high is None or value <= high):
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


def choices(hint: Any) -> list[str]:
    """The words a field of this type may be, beside numbers and free text."""
    return [str(c) for option in _options(hint) if get_origin(option) is Literal for c in get_args(option)]


def describe_type(hint: Any) -> str:
    """What a value of this type looks like, for an error message: ``a whole number, or model``."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    parts = [words[option] for option in _options(hint) if option in words]
    return ", or ".join(parts + ([", ".join(choices(hint))] if choices(hint) else []))


def _check_type(name: str, value: Any, hint: Any) -> None:
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
        hint: the field's type: int, float, bool, str, Path, a Literal of strings, or a union of those.

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


def read_ini(path: str | Path) -> dict[str, Any]:
    """Reads the ``[parameters]`` section of an .ini file.

    Returns:
        Values by field name of ``TrainConfig``, typed but not yet checked for range.

    Raises:
        ConfigError: the file cannot be read, or holds an unknown section, key or a value of the wrong type.
    """
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#", ";"), default_section="")
    try:
        parser.read_string(Path(path).read_text(encoding="utf-8-sig"), source=str(path))
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise ConfigError(f"--config {path}: cannot be read as an .ini file: {reason}") from error
    for section in parser.sections():
        if section != SECTION:
            raise ConfigError(f"{path}: unknown section [{section}]; all keys stand under [{SECTION}]")
    if not parser.has_section(SECTION):
        raise ConfigError(f"{path}: no section [{SECTION}]; put that line above the keys")
    return _typed(parser[SECTION], source=str(path))


def _typed(section: Mapping[str, str], source: str) -> dict[str, Any]:
    hints = field_types(TrainConfig)
    values: dict[str, Any] = {}
    for key, text in section.items():
        name = _ALIASES.get(key, key).replace("-", "_")
        if name not in hints:
            raise ConfigError(f"{source}: unknown key {key!r}{nearest(name, hints)}; allowed: {', '.join(hints)}")
        if name in values:
            raise ConfigError(f"{source}: {key!r} is given twice (it is read as {name!r})")
        try:
            values[name] = parse_value(name, text, hints[name])
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
    return values


def load_config(path: str | Path) -> TrainConfig:
    """Reads a whole ``TrainConfig`` from an .ini file; keys it does not name keep their defaults.

    Raises:
        ConfigError: as ``read_ini``, or a value is out of range.
    """
    values = read_ini(path)
    try:
        return TrainConfig(**values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def config_text(config: TrainConfig) -> str:
    """The config as an .ini file that ``load_config`` reads back to an equal config; the recipe as a comment."""
    lines = [f"[{SECTION}]"]
    lines += [f"{f.name} = {getattr(config, f.name)}".rstrip() for f in dataclasses.fields(config)]
    recipe = ", ".join(f"{f.name} = {getattr(config.recipe, f.name)}" for f in dataclasses.fields(Recipe))
    return "\n".join([*lines, f"# with the model's own values: {recipe}", ""])
