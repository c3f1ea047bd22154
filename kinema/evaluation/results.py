"""The results of an evaluation: outcomes, rates, latencies, comparisons, and how to run it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kinema.core.errors import KinemaError, unknown
from kinema.core.manifest import cores, now, versions
from kinema.evaluation.comparison import Comparison, paired
from kinema.evaluation.intervals import MeanRate, Rate
from kinema.evaluation.multiple import holm
from kinema.evaluation.rollout import Trial


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that is needed to run an evaluation again; the hashes are None where there is nothing to hash."""

    command: str
    seeds: tuple[int, ...]
    data_hash: str | None
    policy_hash: str | None
    versions: Mapping[str, str]
    cores: int
    date: str

    @classmethod
    def here(cls, *, command: str, seeds: Sequence[int], data_hash: str | None, policy_hash: str | None) -> Manifest:
        """Return the manifest of an evaluation on this machine, now: versions, usable cores and the UTC date."""
        return cls(
            command=command,
            seeds=tuple(int(seed) for seed in seeds),
            data_hash=data_hash,
            policy_hash=policy_hash,
            versions=versions(),
            cores=cores(),
            date=now(),
        )


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Wall time of `act` over all calls of one arm, in milliseconds, each call for `batch` environments at once."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    calls: int
    batch: int
    cores: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one trial ended, after how many steps."""

    trial: Trial
    success: bool
    steps: int


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """All outcomes of one arm; `blind` marks a control that lacks what it needs and should fail."""

    name: str
    description: str
    blind: bool
    outcomes: tuple[Outcome, ...]
    latency: Latency

    @property
    def tasks(self) -> dict[str, Rate]:
        """The rate of each task, in order of first appearance."""
        return _rates(self.outcomes, lambda outcome: outcome.trial.start.task)

    @property
    def overall(self) -> MeanRate:
        """The mean of the task rates."""
        return MeanRate(tuple(self.tasks.values()))

    @property
    def variants(self) -> dict[str, MeanRate]:
        """The mean of the task rates under each variant."""
        names = dict.fromkeys(outcome.trial.variant for outcome in self.outcomes)
        chosen = {name: tuple(o for o in self.outcomes if o.trial.variant == name) for name in names}
        return {
            name: MeanRate(tuple(_rates(outcomes, lambda o: o.trial.start.task).values()))
            for name, outcomes in chosen.items()
        }


def _rates(outcomes: Sequence[Outcome], group: Callable[[Outcome], str]) -> dict[str, Rate]:
    grouped: dict[str, list[bool]] = {}
    for outcome in outcomes:
        grouped.setdefault(group(outcome), []).append(outcome.success)
    return {name: Rate(sum(successes), len(successes)) for name, successes in grouped.items()}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The finished arms of an evaluation, of those `planned`; `main` names the arm the others are compared with."""

    arms: tuple[ArmResult, ...]
    planned: tuple[str, ...]
    main: str
    manifest: Manifest

    @property
    def complete(self) -> bool:
        """Whether every planned arm is finished."""
        return len(self.arms) == len(self.planned)

    def arm(self, name: str) -> ArmResult:
        """Return the finished arm called `name`."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise unknown("finished arm", name, [arm.name for arm in self.arms])

    def comparison(self, name: str) -> Comparison:
        """Return the paired comparison of the main arm (first) with arm `name` (second), over the starts of `name`."""
        first = {outcome.trial.start: outcome.success for outcome in self.arm(self.main).outcomes}
        second = {outcome.trial.start: outcome.success for outcome in self.arm(name).outcomes}
        if not second.keys() <= first.keys():
            raise KinemaError(f"arm {name!r} ran starts that arm {self.main!r} did not run, so they cannot be paired")
        return paired([first[start] for start in second], list(second.values()))

    def comparisons(self) -> dict[str, tuple[Comparison, float]]:
        """Return for each other finished arm its comparison with the main arm, and the Holm-adjusted p-value."""
        if all(arm.name != self.main for arm in self.arms):
            return {}
        tables = {arm.name: self.comparison(arm.name) for arm in self.arms if arm.name != self.main}
        adjusted = holm([table.p_value for table in tables.values()])
        return {name: (table, p) for (name, table), p in zip(tables.items(), adjusted, strict=True)}
