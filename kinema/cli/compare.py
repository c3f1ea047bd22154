"""Compare two trained policies on the same initial states, and stop as soon as a test decides."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from kinema.cli.devices import check_device
from kinema.cli.suites import fitting, make_suite, split_names, trusted_packages
from kinema.cli.trained import refuse_trained, trained_tasks
from kinema.core.errors import KinemaError, unknown
from kinema.core.manifest import cores

if TYPE_CHECKING:
    from kinema.core.episode import Start
    from kinema.evaluation.compare import Verdict
    from kinema.evaluation.preregistration import Plan
    from kinema.evaluation.sequential.base import SequentialTest

_HOPELESS = 10
"""After so many crashes and not one pair, the environment is at fault, not the starts."""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Say which of two run directories holds the better policy, or that they cannot be told apart.

    Both play the same initial states, pair by pair, until the test decides or `--n-max` pairs are made. The plan is
    in OUT/plan.json, with its hash, before the first of them; the result is OUT/compare.json. The same
    command again goes on where it stopped. Other options belong to the suite.
    """

    first: Annotated[Path, tyro.conf.Positional]
    """run directory that `kinema train` wrote"""
    second: Annotated[Path, tyro.conf.Positional]
    """run directory to compare it with"""
    out: Path
    """directory of this comparison"""
    suite: str = "metaworld"
    """suite, see `kinema list suites`"""
    tasks: str = ""
    """tasks or selections, separated by commas, played in turn; those that both were trained on when left out"""
    test: str = "step"
    """step, lai or e-process: see docs/statistics.md"""
    alpha: float = 0.05
    """chance that policies which are equally good are told apart"""
    n_max: int = 200
    """most pairs over all tasks"""
    effect: float = 0.2
    """smallest difference of success rates that would matter; the plan says with what chance it is found"""
    seed: int = 2000
    """seed of the initial states; recordings start at 0 and evaluations at 1000, so these are fresh"""
    envs: int = 4 * cores()
    """pairs that are tried at once, each environment in a process"""
    hang_s: float = 120.0
    """seconds without an answer after which an environment counts as crashed"""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps"""
    trust: str = ""
    """packages outside kinema, separated by commas, whose parts the policies may hold"""
    json: bool = False
    """print the verdict as JSON"""
    overrides: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()

    def run(self) -> int:
        """Compare, write the result and print the verdict; 1 where crashes left too few starts for one."""
        from kinema.evaluation.preregistration import plan_starts

        if self.envs < 1 or self.hang_s <= 0:
            raise KinemaError(f"--envs {self.envs} must be at least 1, --hang-s {self.hang_s} above 0")
        check_device(self.device)
        test = self._test()
        suite = make_suite(self.suite, self.overrides, f"kinema compare {self.first} {self.second}")
        tasks = suite.select(split_names(self.tasks, "--tasks") if self.tasks else self._trained_tasks())
        starts = plan_starts(tasks, self.seed, test.n_max + max(4, test.n_max // 10))  # some more, for crashes
        for run in (self.first, self.second):
            refuse_trained(run, starts)
        known = self._compare(suite, test, starts)
        self._write(known)
        return int(known.exhausted)

    def _test(self) -> SequentialTest:
        from kinema.evaluation.sequential.e_process import EProcess
        from kinema.evaluation.sequential.lai import Lai
        from kinema.evaluation.sequential.step import Step

        tests: dict[str, type[SequentialTest]] = {"step": Step, "lai": Lai, "e-process": EProcess}
        if self.test not in tests:
            raise unknown("--test", self.test, tests)
        return tests[self.test](n_max=self.n_max, alpha=self.alpha)

    def _trained_tasks(self) -> list[str]:
        first, second = trained_tasks(self.first), trained_tasks(self.second)
        if set(first) != set(second):
            one, other = (", ".join(tasks)[:150] for tasks in (first, second))
            raise KinemaError(f"--tasks is missing: {self.first} was trained on {one}\nand {self.second} on {other}")
        return first

    def _compare(self, suite: Any, test: SequentialTest, starts: Sequence[Start]) -> Verdict:
        from kinema.cli.contest import contest, same_robot
        from kinema.cli.kept import keep
        from kinema.cli.progress import progress
        from kinema.core.config import to_data
        from kinema.core.manifest import versions
        from kinema.deploy.load import load_policy
        from kinema.evaluation.compare import PAIRS_FILE, follow
        from kinema.evaluation.preregistration import Contender, Plan
        from kinema.policies.network import fingerprint

        runs, names = (self.first, self.second), _names(self.first, self.second)
        policies = [load_policy(run, device=self.device, trusted=trusted_packages(self.trust)) for run in runs]
        same_robot(policies[0].spec, policies[1].spec, runs)
        suites = [
            fitting(suite, policy.spec, suite_name=self.suite, run=run)
            for policy, run in zip(policies, runs, strict=True)
        ]
        contenders = [
            Contender(name=name, fingerprint=fingerprint(policy.config, policy.spec, policy.network))
            for name, policy in zip(names, policies, strict=True)
        ]
        plan = Plan(
            suite=repr(suite), first=contenders[0], second=contenders[1], starts=tuple(starts), test=test,
            effect=self.effect,
        )  # fmt: skip
        setup = {**to_data(suite), **{f"version of {name}": version for name, version in versions().items()}}
        keep(self.out / "setup.json", setup, begun=(self.out / PAIRS_FILE).exists())
        self._announce(plan)
        rounds = contest(suites, policies, envs=min(self.envs, test.n_max), hang_s=self.hang_s)
        with rounds as pairs_of, progress("compare", test.n_max) as tell:
            return follow(plan, pairs_of, directory=self.out, progress=lambda known: _tell(known, tell, self.out))

    def _announce(self, plan: Plan) -> None:
        points, chance = 100 * plan.effect, 100 * plan.power
        sys.stderr.write(
            f"plan {plan.hash[:12]}: finds a difference of {points:.0f} points with {chance:.0f} % chance\n"
        )

    def _write(self, known: Verdict) -> None:
        from kinema.core.files import write_text
        from kinema.core.manifest import here

        document = {**_document(known), **here(command=f"kinema {shlex.join(sys.argv[1:])}")}
        write_text(self.out / "compare.json", json.dumps(document, indent=2) + "\n")
        sys.stdout.write(json.dumps(document) + "\n" if self.json else f"{known}\n")


def _document(known: Verdict) -> Mapping[str, Any]:
    """Return the verdict for machines; rates and the difference carry the ends of their 95 % intervals."""
    from kinema.core.config import to_data
    from kinema.evaluation.intervals import rate_entry

    plan, table = known.plan, known.table
    rates = [rate_entry(rate) for rate in known.rates] if table.n else [{}, {}]
    low, high = table.interval()
    return {
        "plan": plan.hash,
        "decision": known.decision.value,
        "finished": known.finished,
        "pairs": table.n,
        "test": to_data(plan.test),
        "first": {**asdict(plan.first), "crashed": known.crashed[0], **rates[0]},
        "second": {**asdict(plan.second), "crashed": known.crashed[1], **rates[1]},
        "table": to_data(table),
        "difference": {"difference": table.difference, "low": low, "high": high} if table.n else None,
        "power": plan.power,
        "detectable": plan.detectable,
    }


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Return the ends of both paths, as long as it takes to tell them apart."""
    one, other = first.resolve().parts, second.resolve().parts
    length = next((n for n in range(1, max(len(one), len(other))) if one[-n:] != other[-n:]), 1)
    return "/".join(one[-length:]), "/".join(other[-length:])


def _tell(known: Verdict, tell: Callable[[int, str], None], out: Path) -> None:
    if known.table.n == 0 and known.tried >= min(_HOPELESS, len(known.plan.starts)):
        raise KinemaError(
            f"the first {known.tried} pairs all crashed; {out / 'pairs.json'} says how\nfix: mend that and delete {out}"
        )
    table = known.table
    tell(
        table.n, f"{table.only_first} by {known.plan.first.name} alone, {table.only_second} by {known.plan.second.name}"
    )
