"""Whether the second discriminator pays, in one or two sentences."""

from collections.abc import Sequence

from d3gan.comparison.formatting import digits, ratio_text, seeds_text
from d3gan.comparison.grouping import differ_in_discriminators_alone
from d3gan.comparison.paired import PairedComparison
from d3gan.comparison.statistics import Interval
from d3gan.evaluation.metric_names import metric_label

_MOST_PAIRS = 2


def verdict_of(contests: Sequence[PairedComparison]) -> str:
    """A sentence for each of the first two pairs, over all their settings; or what is missing to say one.

    A pair that differs in the number of discriminators alone is told whether it pays: by the time to the hardest FID,
    else by the FID at equal seconds.

    Args:
        contests: those of the pairs to speak of before the others.
    """
    if not contests:
        return "There is nothing to compare yet: it takes two variants with evaluations, on one data set and seed."
    pairs = list(dict.fromkeys((contest.variant, contest.counterpart) for contest in contests))
    own = [[c for c in contests if (c.variant, c.counterpart) == pair] for pair in pairs[:_MOST_PAIRS]]
    return " ".join(_of_pair(same) for same in own)


def direction(interval: Interval) -> int:
    """-1: the ratio's interval lies below 1; 1: above; 0: it holds 1, or there is none."""
    if interval.low is None or interval.high is None:
        return 0
    return -1 if interval.high < 1 else 1 if interval.low > 1 else 0


def _of_pair(same: Sequence[PairedComparison]) -> str:
    """A pair in all its settings."""
    first = same[0]
    alone = differ_in_discriminators_alone(first.setting, first.variant, first.counterpart)
    answer = _answer(same) if alone else ""
    if len(same) == 1:
        return f"{answer}{': ' * bool(answer)}{_of_one(first)}"
    labels = list(dict.fromkeys(metric_label(contest.figure) for contest in same))
    own = len(labels) > 1  # else the heading names it
    parts = [f"{c.setting.name}{f' ({metric_label(c.figure)})' * own}: {_short(c)}" for c in same]
    heading = f"{first.variant} against {first.counterpart}{f', {labels[0]}' * (not own)}"
    return f"{answer}{'. ' * bool(answer)}{heading}: {'; '.join(parts)}."


def _answer(same: Sequence[PairedComparison]) -> str:
    """Whether more discriminators pay."""
    found = [direction(_decisive(contest)) for contest in same]
    ours, theirs = (
        next(iter(same[0].setting.variants[name].values())).config.recipe.discriminators
        for name in (same[0].variant, same[0].counterpart)
    )
    what = "the second discriminator" if (ours, theirs) == (2, 1) else f"{ours} discriminators instead of {theirs}"
    pays, costs, open_ = found.count(-1), found.count(1), found.count(0)
    verb = "pays" if what.endswith("discriminator") else "pay"
    if open_ == len(found):
        return f"Whether {what} {verb} is undecided"
    what = what[0].upper() + what[1:]
    if pays == len(found):
        return f"{what} {verb}"
    if costs == len(found):
        return f"{what} {'does' if verb == 'pays' else 'do'} not pay"
    return f"{what} {verb} in {pays} of {len(found)} settings, not in {costs}, and is undecided in {open_}"


def _decisive(contest: PairedComparison) -> Interval:
    ratio = contest.targets[0].ratios.get("seconds") if contest.targets else contest.equal.get("seconds")
    return ratio.interval if ratio is not None else Interval(1.0, None, None, 0)


def _of_one(contest: PairedComparison) -> str:
    names, seeds = (contest.variant, contest.counterpart), seeds_text(len(contest.seeds))
    found = []
    if contest.targets and (ratio := contest.targets[0].ratios.get("seconds")) is not None:
        target = digits(contest.targets[0].value)
        found.append(
            f"{names[0]} reaches {metric_label(contest.figure)} {target} in {ratio_text(ratio)} of {names[1]}'s "
            f"time ({contest.setting.name}, {seeds}{_undecided(ratio.interval)})"
        )
    if (ratio := contest.equal.get("iteration")) is not None:
        again = "" if ratio.interval.low is None else _undecided(ratio.interval)
        found.append(
            f"at equal iterations its FID is {ratio_text(ratio)} times {names[1]}'s{again}"
            if found
            else f"{names[0]}'s {metric_label(contest.figure)} is {ratio_text(ratio)} times {names[1]}'s at equal "
            f"iterations ({contest.setting.name}, {seeds}{_undecided(ratio.interval)}), and no FID is reached by all "
            "runs that none of them starts with"
        )
    return "; ".join(found) + "."


def _undecided(interval: Interval) -> str:
    if interval.low is None:
        return "; one seed decides nothing"
    return "" if direction(interval) else ", which decides nothing"


def _short(contest: PairedComparison) -> str:
    parts = []
    if contest.targets and (ratio := contest.targets[0].ratios.get("seconds")) is not None:
        word = {-1: "faster", 0: "undecided", 1: "slower"}[direction(ratio.interval)]
        parts.append(f"time to FID {digits(contest.targets[0].value)} {ratio_text(ratio)} ({word})")
    if (equal := contest.equal.get("iteration")) is not None:
        word = {-1: "better", 0: "undecided", 1: "worse"}[direction(equal.interval)]
        parts.append(f"FID at equal iterations {ratio_text(equal)} ({word})")
    return ", ".join(parts) or "no common figure"
