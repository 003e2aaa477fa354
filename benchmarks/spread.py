"""How the benchmarks print repeated measurements."""

import statistics


def spread(values: list[float], form: str) -> str:
    """Median (smallest to largest), each in a format such as ``.2f``."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"
