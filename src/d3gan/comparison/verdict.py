"""Whether the second discriminator pays, in a line for each pair, and in one or two sentences."""

from collections.abc import Sequence

from d3gan.comparison.formatting import digits, ratio_text, seeds_text
from d3gan.comparison.paired import PairedComparison
from d3gan.comparison.results import VerdictLine
from d3gan.comparison.statistics import Interval, PairedRatio
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
    return " ".join(_of_pair(same) for same in _by_pair(comparisons)[:_MOST_PAIRS])


def verdict_lines(comparisons: Sequence[PairedComparison]) -> list[VerdictLine]:
    """A line for each pair: by the time to the hardest target, else by the metric at equal seconds or iterations.

    Where a pair has different numbers of discriminators and differs in more, the line says so.

    Args:
        comparisons: those of the most important pairs first.
    """
    lines = []
    for same in _by_pair(comparisons):
        if (line := _line(same)) is None:
            continue
        first = same[0]
        counts = {first.condition.recipe(name).discriminators for name in (first.variant, first.baseline)}
        alone = first.condition.differ_in_discriminators_alone(first.variant, first.baseline)
        more = " They differ in more than discriminators." if len(counts) > 1 and not alone else ""
        lines.append(line._replace(sentence=line.sentence + more))
    return lines


def _by_pair(comparisons: Sequence[PairedComparison]) -> list[list[PairedComparison]]:
    """The comparisons of each pair, under all its conditions."""
    pairs: dict[tuple[str, str], list[PairedComparison]] = {}
    for each in comparisons:
        pairs.setdefault((each.variant, each.baseline), []).append(each)
    return list(pairs.values())


def _line(same: Sequence[PairedComparison]) -> VerdictLine | None:
    """A pair in one line; None where there is no ratio."""
    first = same[0]
    decisive = [(each, ratio) for each in same if (ratio := _decisive(each))]
    if not decisive:
        return _line_by_iteration(same)
    directions = [direction(ratio.interval) for _, ratio in decisive]
    alone = first.condition.differ_in_discriminators_alone(first.variant, first.baseline)
    by_time = all(each.targets for each, _ in decisive)
    good, bad = ("Faster", "Slower") if by_time else ("Better", "Worse")
    answers = {-1: "Pays" if alone else good, 0: "Undecided", 1: "Does not pay" if alone else bad}
    answer = answers[directions[0]] if len(set(directions)) == 1 else "Mixed"
    if max(ratio.interval.n for _, ratio in decisive) == 1:
        answer += " (one seed)"
    if len(decisive) > 1:
        counts = {answers[each].lower(): directions.count(each) for each in (-1, 1, 0) if each in directions}
        parts = ", ".join(f"{word} in {count}" for word, count in counts.items())
        where = f"{len(decisive)} conditions: {parts}" if len(counts) > 1 else f"all {len(decisive)} conditions"
        sentence = f"{first.variant} against {first.baseline} under {where}."
        return VerdictLine(answer, sentence)
    (each, ratio), word = decisive[0], shared_word([first.metric])
    mean, low, high, _n = ratio.interval
    times = f"{mean:.2f} times" if low is None else f"{mean:.2f} ({low:.2f} to {high:.2f}) times"
    if each.targets:
        return VerdictLine(answer, f"{each.variant} takes {times} as long as {each.baseline} to the same {word}.")
    return VerdictLine(answer, f"after equal time {each.variant}'s {word} is {times} {each.baseline}'s.")


def _line_by_iteration(same: Sequence[PairedComparison]) -> VerdictLine | None:
    """A pair whose runs have no seconds in common at which all were evaluated: what that says of cost is nothing."""
    by_iteration = [(each, ratio) for each in same if (ratio := each.equal.get("iteration"))]
    if not by_iteration:
        return None
    directions = {direction(ratio.interval) for _, ratio in by_iteration}
    answer = {-1: "Better", 0: "Undecided", 1: "Worse"}[directions.pop()] if len(directions) == 1 else "Mixed"
    (each, ratio), count = by_iteration[0], len(by_iteration)
    if count > 1:
        sentence = f"{each.variant} against {each.baseline} after equal iterations, under {count} conditions."
        return VerdictLine(answer, sentence)
    mean, low, high, n = ratio.interval
    answer += " (one seed)" if n == 1 else ""
    times = f"{mean:.2f} times" if low is None else f"{mean:.2f} ({low:.2f} to {high:.2f}) times"
    word = shared_word([each.metric])
    return VerdictLine(answer, f"after equal iterations {each.variant}'s {word} is {times} {each.baseline}'s.")


def _decisive(paired: PairedComparison) -> PairedRatio | None:
    """The ratio that decides: of the seconds to the hardest target, else of the metric after as many seconds."""
    return paired.time_ratio if paired.targets else paired.equal.get("seconds")


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
    decisive = [_decisive(each) for each in same]
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
            f"({where}, {seeds}{_undecided(equal.interval)}); the time to a given {word} cannot be compared, since "
            f"no {word} below those at the start is reached by all runs"
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
