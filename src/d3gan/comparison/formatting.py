"""Numbers and intervals as text, the same in tables, captions and the verdict."""

import re
from collections.abc import Sequence

from d3gan.comparison.statistics import Interval, PairedRatio

_PREFIXES = (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12), ("P", 1e15), ("E", 1e18))


def digits(value: float, significant: int = 3) -> str:
    """A number with three significant digits, without exponents: 0.0123, 4.57, 28.1, 1,234."""
    size, decimals = abs(value), 0
    while 0 < size < 10 ** (significant - 1) and decimals < 8:
        size *= 10
        decimals += 1
    return f"{value:,.{decimals}f}"


def with_prefix(value: float) -> str:
    """A large number with a prefix: ``1.23 G``."""
    prefix, unit = next(((p, u) for p, u in reversed(_PREFIXES) if abs(value) >= u), _PREFIXES[0])
    return f"{digits(value / unit)} {prefix}".rstrip()


def interval_text(interval: Interval) -> str:
    """``28.1 (26.0 to 30.4)``, or the mean alone where there is no interval."""
    if interval.low is None or interval.high is None:
        return digits(interval.mean)
    return f"{digits(interval.mean)} ({digits(interval.low)} to {digits(interval.high)})"


def ratio_text(ratio: PairedRatio) -> str:
    """``0.81 (95 %: 0.76 to 0.87)``."""
    mean, low, high, _n = ratio.interval
    return f"{mean:.2f}" if low is None or high is None else f"{mean:.2f} (95 %: {low:.2f} to {high:.2f})"


def short_names(variants: Sequence[str]) -> dict[str, str]:
    """Variants by what tells them apart: without the changes that all have, and without a model that all have.

    ``d3gan+pairing=own+weighting=mean`` and ``d3gan+pairing=swapped+weighting=mean`` are ``pairing=own`` and
    ``pairing=swapped``. Where one would be left without a name, all keep the model.
    """
    parts = {variant: variant.split("+") for variant in variants}
    shared = set.intersection(*(set(each[1:]) for each in parts.values())) if len(parts) > 1 else set()
    rest = {name: [each for each in changes if each not in shared] for name, (_, *changes) in parts.items()}
    one_model = len(parts) > 1 and len({model for model, *_ in parts.values()}) == 1 and all(rest.values())
    return {name: "+".join(rest[name] if one_model else [parts[name][0], *rest[name]]) for name in parts}


def wrapped(name: str, width: int) -> str:
    """A long variant's name in lines of at most ``width`` letters, where it can be cut before a ``+`` or a ``/``."""
    lines = [""]
    for part in re.split(r"(?=\+| / )", name):
        if lines[-1] and len(lines[-1] + part) > width:
            lines.append(part.lstrip())
        else:
            lines[-1] += part
    return "\n".join(lines)


def p_text(p: float | None) -> str:
    """A p value with two digits; a dash where there is none."""
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def seeds_text(count: int) -> str:
    """``3 seeds``."""
    return f"{count} seed{'s' * (count != 1)}"
