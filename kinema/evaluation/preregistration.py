"""What a comparison of two policies will do, written down before its first attempt: a pre-registration.

Everything that could be chosen with an eye on the results is chosen here: policies, starts, test, largest number of
pairs. The plan's hash stands with every result, so that a plan changed afterwards is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from kinema.core.config import TRUSTED, from_data, to_data
from kinema.core.episode import Start
from kinema.core.errors import KinemaError, UnavailableError
from kinema.core.files import write_text
from kinema.core.manifest import now
from kinema.core.rng import generator
from kinema.evaluation.power import smallest_difference
from kinema.evaluation.sequential.base import SequentialTest, characteristics, independent

PLAN_FILE = "plan.json"
POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A policy under comparison: the name it is called by, and the fingerprint of its configuration and weights."""

    name: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is compared, where, from which starts, by which test, and which difference would matter.

    `suite` names the environment with everything that changes it; `starts` are tried in this order; `effect` is the
    smallest difference of success rates that would matter. Raises KinemaError for a plan that cannot be carried out.
    """

    suite: str
    first: Contender
    second: Contender
    starts: tuple[Start, ...]
    test: SequentialTest
    effect: float

    def __post_init__(self) -> None:
        if self.first.name == self.second.name or self.first.fingerprint == self.second.fingerprint:
            raise KinemaError(f"nothing to compare: {self.first.name!r} and {self.second.name!r} are the same policy")
        if len(set(self.starts)) != len(self.starts):
            twice = next(start for start in self.starts if self.starts.count(start) > 1)
            raise KinemaError(f"{twice} is planned twice; a start tells something new only once")
        if len(self.starts) < self.test.n_max:
            raise KinemaError(f"{len(self.starts)} starts, but the test may ask for {self.test.n_max} pairs")
        if not 0 < self.effect <= 1:
            raise KinemaError(f"effect {self.effect}: expected a difference of rates between 0 and 1, such as 0.1")

    @cached_property
    def hash(self) -> str:
        """The SHA-256 of the plan's JSON."""
        return hashlib.sha256(json.dumps(to_data(self), sort_keys=True).encode()).hexdigest()

    @cached_property
    def power(self) -> float:
        """The chance to find a difference of `effect` between rates on either side of one half, where it is hardest."""
        return self._chance((1 + self.effect) / 2, (1 - self.effect) / 2)

    @cached_property
    def detectable(self) -> float | None:
        """The smallest difference that is found with chance 0.8, rates on either side of one half; None if none is."""
        try:
            return smallest_difference(self._chance, POWER)
        except KinemaError:
            return None

    def _chance(self, higher: float, lower: float) -> float:
        if self.test.alternative == "less":
            return characteristics(self.test, independent(lower, higher)).second
        return characteristics(self.test, independent(higher, lower)).first


def plan_starts(tasks: Sequence[str], seed: int, n: int) -> tuple[Start, ...]:
    """Return `n` distinct starts over `tasks` in rounds, each round with every task once in a random order."""
    if not tasks or len(set(tasks)) != len(tasks):
        raise KinemaError(f"expected distinct tasks, got {list(tasks)!r:.80}")
    rng = generator("compare", seed)
    rounds = [(task, episode) for episode in range(-(-n // len(tasks))) for task in rng.permutation(list(tasks))]
    return tuple(Start(task=str(task), seed=seed, episode=episode) for task, episode in rounds[:n])


def register(plan: Plan, directory: Path) -> None:
    """Write `plan.json` with its hash and the date; where there is one already it must hold this very plan."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"cannot create {directory}: {error.strerror or error}") from error
    path = directory / PLAN_FILE
    if not path.exists():
        document = {"registered": now(), "hash": plan.hash, "power": plan.power, "plan": to_data(plan)}
        write_text(path, json.dumps(document, indent=1) + "\n")
        return
    stored = load_plan(directory)
    for field in fields(Plan):
        have, want = getattr(stored, field.name), getattr(plan, field.name)
        if have != want:
            raise KinemaError(
                f"{directory} was planned with another {field.name}: {_short(have, want)}\n"
                f"fix: a changed plan is a new comparison; give it a new directory"
            )


def _short(have: Any, want: Any) -> str:
    if isinstance(have, tuple):
        place = next((i for i, (a, b) in enumerate(zip(have, want, strict=False)) if a != b), None)
        if place is None:
            return f"{len(have)} of them, now {len(want)}"
        have, want = have[place], want[place]
    return f"{have!r:.200}, now {want!r:.200}"


def load_plan(directory: Path, *, trusted: tuple[str, ...] = TRUSTED) -> Plan:
    """Return the plan registered in `directory`; one that was changed since then is an error."""
    document = read_document(directory / PLAN_FILE)
    plan = from_data(document.get("plan"), trusted=trusted)
    if not isinstance(plan, Plan) or plan.hash != document.get("hash"):
        raise KinemaError(f"{directory / PLAN_FILE} was changed after it was registered: its hash does not fit")
    return plan


def read_document(path: Path) -> Mapping[str, Any]:
    """Return the JSON object stored at `path`; what is none is a KinemaError that names it."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise KinemaError(f"cannot read {path}: {error}") from error
    if not isinstance(document, dict):
        raise KinemaError(f"{path} holds no comparison")
    return document
