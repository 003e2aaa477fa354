"""Whether the second discriminator pays, in one or two sentences."""

from collections.abc import Sequence

from d3gan.comparison.contests import Contest
from d3gan.comparison.statistics import Interval
from d3gan.comparison.wording import digits, ratio_text, seeds_text
from d3gan.evaluation.figures import figure_label


def verdict_of(contests: Sequence[Contest]) -> str:
    """Says of the first pair how it compares in every setting; or what is missing to say it.

    Args:
        contests: those of the pair that differs in the number of discriminators alone before the others.
    """
    if not contests:
        return "There is nothing to compare yet: it takes two variants with evaluations, on one data set and seed."
    pair = contests[0].variant, contests[0].counterpart
    same = [contest for contest in contests if (contest.variant, contest.counterpart) == pair]
    if len(same) == 1:
        return _of_one(same[0])
    parts = [f"{contest.setting.name}: {_short(contest)}" for contest in same]
    return f"{pair[0]} against {pair[1]}, {figure_label(same[0].figure)}. {'; '.join(parts)}."


def direction(interval: Interval) -> int:
    """-1: the ratio's interval lies below 1; 1: above; 0: it holds 1, or there is none."""
    if interval.low is None or interval.high is None:
        return 0
    return -1 if interval.high < 1 else 1 if interval.low > 1 else 0


def _of_one(contest: Contest) -> str:
    names, seeds = (contest.variant, contest.counterpart), seeds_text(len(contest.seeds))
    found = []
    if contest.targets and (ratio := contest.targets[0].ratios.get("seconds")) is not None:
        target = digits(contest.targets[0].value)
        found.append(
            f"{names[0]} reaches {figure_label(contest.figure)} {target} in {ratio_text(ratio)} of {names[1]}'s "
            f"time ({contest.setting.name}, {seeds}{_undecided(ratio.interval)})"
        )
    if (ratio := contest.equal.get("iteration")) is not None:
        found.append(
            f"at equal iterations its FID is {ratio_text(ratio)} times {names[1]}'s{_undecided(ratio.interval)}"
            if found
            else f"{names[0]}'s {figure_label(contest.figure)} is {ratio_text(ratio)} times {names[1]}'s at equal "
            f"iterations ({contest.setting.name}, {seeds}{_undecided(ratio.interval)}); no FID is reached by all "
            "runs that none of them starts with"
        )
    return "; ".join(found) + "."


def _undecided(interval: Interval) -> str:
    if interval.low is None:
        return "; one seed decides nothing"
    return "" if direction(interval) else "; which decides nothing"


def _short(contest: Contest) -> str:
    words = {-1: "better", 0: "undecided", 1: "worse"}
    parts = []
    if (equal := contest.equal.get("iteration")) is not None:
        parts.append(f"FID {ratio_text(equal)} at equal iterations ({words[direction(equal.interval)]})")
    if contest.targets and (ratio := contest.targets[0].ratios.get("seconds")) is not None:
        words = {-1: "faster", 0: "undecided", 1: "slower"}
        target = digits(contest.targets[0].value)
        parts.append(f"time to FID {target} {ratio_text(ratio)} ({words[direction(ratio.interval)]})")
    return ", ".join(parts) or "no common figure"
