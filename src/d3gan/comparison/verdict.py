"""Whether the second discriminator pays, in one or two sentences."""

from collections.abc import Sequence

from d3gan.comparison.formatting import digits, ratio_text, seeds_text
from d3gan.comparison.paired import PairedComparison
from d3gan.comparison.statistics import Interval
from d3gan.evaluation.metric_names import metric_label, shared_word

_MOST_PAIRS = 2


def verdict_of(comparisons: Sequence[PairedComparison]) -> str:
    """A sentence for each of the first two pairs, over all their conditions; or what is missing for a verdict.

    Of a pair that differs only in the number of discriminators it says whether they pay: by the time to the hardest
    target, else by the distance at equal seconds.

    Args:
        comparisons: those of the most important pairs first.
    """
    if not comparisons:
        return "There is nothing to compare yet: it takes two variants with evaluations, on one data set and seed."
    pairs: dict[tuple[str, str], list[PairedComparison]] = {}
    for each in comparisons:
        pairs.setdefault((each.variant, each.baseline), []).append(each)
    return " ".join(_of_pair(same) for same in list(pairs.values())[:_MOST_PAIRS])


def direction(interval: Interval) -> int:
    """-1: the ratio's interval lies below 1; 1: above; 0: it holds 1, or there is none."""
    if interval.low is None or interval.high is None:
        return 0
    return -1 if interval.high < 1 else 1 if interval.low > 1 else 0


def _of_pair(same: Sequence[PairedComparison]) -> str:
    """A pair under all its conditions."""
    first = same[0]
    alone = first.condition.differ_in_discriminators_alone(first.variant, first.baseline)
    answer = _answer(same) if alone else ""
    if len(same) == 1:
        return f"{answer}{': ' * bool(answer)}{_of_one(first)}"
    labels = list(dict.fromkeys(metric_label(each.metric) for each in same))
    one_metric = len(labels) == 1  # then the heading names it
    heading = f"{first.variant} against {first.baseline}{f', {labels[0]}' * one_metric}"
    parts = [f"{c.condition.name}{f' ({metric_label(c.metric)})' * (not one_metric)}: {_short(c)}" for c in same]
    return f"{answer}{'. ' * bool(answer)}{heading}: {'; '.join(parts)}."


def _answer(same: Sequence[PairedComparison]) -> str:
    """Whether more discriminators pay."""
    decisive = [each.time_ratio if each.targets else each.equal.get("seconds") for each in same]
    directions = [direction(ratio.interval) if ratio else 0 for ratio in decisive]
    pays, costs, undecided = directions.count(-1), directions.count(1), directions.count(0)
    ours, theirs = (same[0].condition.recipe(name).discriminators for name in (same[0].variant, same[0].baseline))
    second = (ours, theirs) == (2, 1)
    what = "the second discriminator" if second else f"{ours} discriminators instead of {theirs}"
    verb = "pays" if second else "pay"
    if undecided == len(same):
        return f"Whether {what} {verb} is undecided"
    what = what[0].upper() + what[1:]
    if pays == len(same):
        return f"{what} {verb}"
    if costs == len(same):
        return f"{what} {'does' if second else 'do'} not pay"
    return f"{what} {verb} in {pays} of {len(same)} conditions, not in {costs}, and is undecided in {undecided}"


def _of_one(paired: PairedComparison) -> str:
    """A pair under its only condition."""
    variant, baseline, label = paired.variant, paired.baseline, metric_label(paired.metric)
    word = shared_word([paired.metric])
    where, seeds = paired.condition.name, seeds_text(len(paired.seeds))
    equal, parts = paired.equal.get("iteration"), []
    if ratio := paired.time_ratio:
        parts.append(
            f"{variant} reaches {label} {digits(paired.targets[0].value)} in {ratio_text(ratio)} of {baseline}'s "
            f"time ({where}, {seeds}{_undecided(ratio.interval)})"
        )
        if equal:
            doubt = "" if equal.interval.low is None else _undecided(equal.interval)
            parts.append(f"at equal iterations its {word} is {ratio_text(equal)} times {baseline}'s{doubt}")
    elif equal:
        parts.append(
            f"{variant}'s {label} is {ratio_text(equal)} times {baseline}'s at equal iterations "
            f"({where}, {seeds}{_undecided(equal.interval)}), and no {word} is reached by all runs that none of "
            "them starts with"
        )
    return "; ".join(parts) + "."


def _undecided(interval: Interval) -> str:
    if interval.low is None:
        return "; one seed decides nothing"
    return "" if direction(interval) else ", which decides nothing"


def _short(paired: PairedComparison) -> str:
    """A pair under one of several conditions."""
    parts, metric = [], shared_word([paired.metric])
    if ratio := paired.time_ratio:
        word = {-1: "faster", 0: "undecided", 1: "slower"}[direction(ratio.interval)]
        parts.append(f"time to {metric} {digits(paired.targets[0].value)} {ratio_text(ratio)} ({word})")
    if ratio := paired.equal.get("iteration"):
        word = {-1: "better", 0: "undecided", 1: "worse"}[direction(ratio.interval)]
        parts.append(f"{metric} at equal iterations {ratio_text(ratio)} ({word})")
    return ", ".join(parts) or "no common metric"
