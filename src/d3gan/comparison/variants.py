"""What a variant is: a model with the keys that it changes, and the one name that it has. Imports no torch."""

import dataclasses
import re
from collections.abc import Collection
from typing import Any

from d3gan.config.combinations import ADA_GROUPS, PENALTIES, POLICIES, VIEWS
from d3gan.config.recipes import MODELS, Recipe
from d3gan.config.train_config import FREE_KEYS, TrainConfig
from d3gan.config.validation import field_types, parse_value
from d3gan.errors import ConfigError, nearest

_LENGTH = "is the length that all runs share; give --{flag}, or --equal flops for lengths of equal arithmetic"
_FILES = "says where files are, not what is trained; give --{flag} for all runs"
_WRITTEN = "says how often something is written, not what is trained; give --{flag} for all runs"
_PROCESS = "serves the process, not what is trained; give --{flag} for all runs"
_COPY = "writes a copy of the metrics, and changes nothing else; give --{flag} for all runs"
_METRICS = "decides which metrics there are, and only the same metrics can be compared; give --{flag} for all runs"
# The keys that make no variant, and why. Every other key makes one: it changes what is trained, how that is computed,
# or which generator is measured on how many images.
NO_VARIANT = {
    "model": "is what stands before the first +",
    "dataset": "has a flag of its own; give --datasets",
    "batch_size": "has a flag of its own; give --batch-sizes",
    "seed": "has a flag of its own; give --seeds",
    **dict.fromkeys(
        ("radius", "deviation", "skip_damaged"), "decides the data, and which metrics there are; give it for all runs"
    ),
    **dict.fromkeys(("track", "tensorboard"), _COPY),
    **dict.fromkeys(("epochs", "max_steps"), _LENGTH),
    **dict.fromkeys(("out", "data_dir", "inception_weights"), _FILES),
    **dict.fromkeys(("checkpoint", "log_every", "diagnostics", "sample_every", "evaluate_every"), _WRITTEN),
    **dict.fromkeys(("workers", "timeout"), _PROCESS),
    **dict.fromkeys(("metrics", "reference", "features", "protocol"), _METRICS),
}
VARIANT_KEYS = tuple(field.name for field in dataclasses.fields(TrainConfig) if field.name not in NO_VARIANT)
# Of those, the ones that hold for a whole run. The others may change when a run is resumed, and config.ini holds only
# their last value. The batches per step, which grad_accum_steps decides, may not change.
LASTING_KEYS = tuple(key for key in VARIANT_KEYS if key == "grad_accum_steps" or key not in FREE_KEYS)
RECIPE_KEYS = tuple(field.name for field in dataclasses.fields(Recipe))


def variant_of(config: TrainConfig, differing: Collection[str] = ()) -> str:
    """The name of a variant: ``dcgan+activation=mish+lr=0.001``.

    Args:
        config: of the run.
        differing: the keys to name, besides those of the recipe, which are named where the model has another value.

    Returns:
        The model, then the recipe's keys, then the others in the order of ``TrainConfig``.
    """
    changes = {key: getattr(config.recipe, key) for key in RECIPE_KEYS}
    changes = {key: value for key, value in changes.items() if value != getattr(MODELS[config.model], key)}
    changes |= {key: getattr(config, key) for key in VARIANT_KEYS if key in differing and key not in RECIPE_KEYS}
    # 1e30 for 1e+30, since + separates the keys.
    texts = (str(v).replace("e+", "e") if isinstance(v, float) else str(v) for v in changes.values())
    return "+".join([config.model, *(f"{key}={text}" for key, text in zip(changes, texts, strict=True))])


def split_variants(text: str) -> list[str]:
    """The variants of a list with commas; ``d3gan+penalty=r1,r2`` is one, as is ``d3gan+views=slice,dropout``.

    No model has the name of a penalty, a view, or a part of an augmentation.
    """
    parts = "|".join({*PENALTIES, *VIEWS, *POLICIES, *ADA_GROUPS})
    return re.split(rf",(?!\s*(?:{parts})\s*(?:[:,+]|$))", text)


def parse_variant(word: str, flag: str = "--models") -> tuple[str, dict[str, Any]]:
    """A variant's model, and the values it changes: ``dcgan+activation=mish``; ``flag`` is named in messages.

    Raises:
        ConfigError: the model or a key is unknown, the key makes no variant, or the key does not allow the value.
    """
    model, *changes = re.split(r"\+(?=[^\W\d])", word)  # a key starts with a letter, the 30 of 1e+30 does not
    if model not in MODELS:
        raise ConfigError(
            f"{flag} {word}: {model!r} is unknown{nearest(model, MODELS)}; allowed: {', '.join(MODELS)}"
        )
    types, allowed = field_types(TrainConfig), ", ".join(VARIANT_KEYS)
    values: dict[str, Any] = {}
    for change in changes:
        name, has_value, text = change.partition("=")
        if not has_value:
            raise ConfigError(f"{flag} {word}: {change!r} must be key=value, such as {model}+activation=mish")
        if name in NO_VARIANT:
            reason = NO_VARIANT[name].format(flag=name.replace("_", "-"))
            raise ConfigError(
                f"{flag} {word}: {name!r} makes no variant: it {reason}; a variant can change {allowed}"
            )
        if name not in types:
            hint = nearest(name, VARIANT_KEYS)
            raise ConfigError(f"{flag} {word}: unknown key {name!r}{hint}; a variant can change {allowed}")
        if name in values:
            raise ConfigError(f"{flag} {word}: {name!r} is given twice; give it once")
        values[name] = parse_value(f"{flag} {word}: {name}", text, types[name])
    return model, values


def variant_config(base: TrainConfig, word: str, flag: str = "--models") -> TrainConfig:
    """The config of a variant, as the user wrote it, with all else as in ``base``; ``flag`` is named in messages.

    Raises:
        ConfigError: as ``parse_variant``, or a value is out of range.
    """
    model, values = parse_variant(word, flag)
    try:
        return dataclasses.replace(base, model=model, **values)  # type: ignore[arg-type]
    except ConfigError as error:
        raise ConfigError(f"{flag} {word}: {error}") from error


def variant_name(base: TrainConfig, word: str, flag: str = "--models") -> str:
    """The one name of a variant, however the user wrote it; leaves out keys that change nothing in ``base``.

    Raises:
        ConfigError: as ``variant_config``.
    """
    config = variant_config(base, word, flag)
    return variant_of(config, [key for key in VARIANT_KEYS if getattr(config, key) != getattr(base, key)])
