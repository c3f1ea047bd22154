"""What the numbers say, in sentences that claim no more than the tests show."""

from __future__ import annotations

from kinema.evaluation.comparison import Comparison
from kinema.evaluation.intervals import MeanRate, percent
from kinema.evaluation.results import ArmResult, Evaluation

ALPHA = 0.05


def p_text(p: float) -> str:
    """Return "p < 0.001" or "p = " with three decimals."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def rate_text(rate: MeanRate) -> str:
    """Return "80 % [61, 91]", with no-break spaces."""
    low, high = rate.interval()
    return f"{percent(rate.rate)}\u00a0% [{percent(low)},\u00a0{percent(high)}]"


def is_worse(comparison: Comparison, adjusted_p: float) -> bool:
    """Whether the second policy of the comparison is shown to do worse than the first."""
    return adjusted_p < ALPHA and comparison.difference > 0


def verdict(evaluation: Evaluation) -> str:
    """Return one sentence: how often the main arm succeeds, and whether its blind controls speak for or against it."""
    main = evaluation.arm(evaluation.main)
    low, high = main.overall.interval()
    did = (
        f"The main arm, {main.name}, succeeds in {percent(main.overall.rate)} % of its episodes "
        f"(95 % interval {percent(low)} to {percent(high)} %, n = {main.overall.n})"
    )
    blind = [arm for arm in evaluation.arms if arm.blind and arm.name != main.name]
    compared = evaluation.comparisons()
    unseparated = [arm.name for arm in blind if not is_worse(*compared[arm.name])]
    if not blind:
        return f"{did}; no blind control was run, so nothing here shows that it uses what it observes."
    if unseparated:
        controls = f"the blind control{'s' * (len(unseparated) > 1)} {' and '.join(unseparated)}"
        needless = "what they take away" if len(unseparated) > 1 else "what that takes away"
        return f"{did}, but it is not shown to do better than {controls}: nothing here shows that it uses {needless}."
    every = {1: "its blind control does", 2: "both blind controls do"}.get(len(blind), "all blind controls do")
    return f"{did}, and {every} clearly worse: its success depends on what they take away."


def arm_sentence(evaluation: Evaluation, arm: ArmResult) -> str:
    """Return how `arm` compares with the main arm on the same starts, with the paired test."""
    comparison, adjusted = evaluation.comparisons()[arm.name]
    points = abs(100 * comparison.difference)
    direction = "lower" if comparison.difference > 0 else "higher"
    gap = f"{points:.0f} points {direction} than {evaluation.main}" if points else f"the same as {evaluation.main}"
    counts = (
        f"McNemar {p_text(comparison.p_value)}, after Holm {p_text(adjusted)}; of {comparison.n} pairs "
        f"{comparison.only_first} won by {evaluation.main} alone, {comparison.only_second} by {arm.name} alone"
    )
    if adjusted >= ALPHA:
        return f"{gap}; not shown to differ ({counts})."
    return f"{gap}; a difference beyond chance ({counts})."


def unneeded_tasks(evaluation: Evaluation) -> dict[str, list[str]]:
    """Return for each blind arm the tasks it ever solves, and as often as the main arm from the same starts."""
    won = {o.trial.start for o in evaluation.arm(evaluation.main).outcomes if o.success}
    found: dict[str, list[str]] = {}
    for arm in evaluation.arms:
        if arm.blind and arm.name != evaluation.main:
            wins = dict.fromkeys(arm.tasks, 0)
            for outcome in arm.outcomes:
                wins[outcome.trial.start.task] += outcome.trial.start in won
            found[arm.name] = [t for t, rate in arm.tasks.items() if rate.successes >= max(1, wins[t])]
    return found
