"""Comparisons by plan: pairs one after the other, stopped by the test, resumed, and refused where plans differ."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.rng import generator
from kinema.evaluation.compare import Pair, Verdict, compare, extended, load_pairs, verdict
from kinema.evaluation.comparison import Comparison
from kinema.evaluation.preregistration import Contender, Plan, load_plan, plan_starts, register
from kinema.evaluation.sequential.base import Decision, SequentialTest
from kinema.evaluation.sequential.e_process import EProcess
from kinema.evaluation.sequential.lai import Lai
from kinema.evaluation.sequential.step import Step

OLD, NEW = Contender(name="old", fingerprint="aa11"), Contender(name="new", fingerprint="bb22")


def plan(test: SequentialTest | None = None, extra: int = 5, **changes) -> Plan:
    test = test or Step(n_max=30)
    starts = plan_starts(("drawer-open", "window-close"), 0, test.n_max + extra)
    return Plan(
        **{"suite": "toy 1", "first": NEW, "second": OLD, "starts": starts, "test": test, "effect": 0.3} | changes
    )


class Policy:
    """Succeeds at a rate, by the start alone, and counts its attempts."""

    def __init__(self, name, rate):
        self.name, self.rate, self.tried = name, rate, []

    def __call__(self, start):
        self.tried.append(start)
        return np.bool_(generator(self.name, start.task, start.seed, start.episode).random() < self.rate)


def test_stops_as_soon_as_the_test_decides(tmp_path):
    first, second = Policy("new", 0.95), Policy("old", 0.2)
    seen = []
    found = compare(plan(), first, second, directory=tmp_path, progress=seen.append)
    assert found.decision is Decision.FIRST
    assert found.finished
    assert found.table.n == len(first.tried) == len(second.tried) == len(seen) < 20
    assert first.tried == second.tried == list(plan().starts[: found.table.n])
    text = str(found)
    assert text.startswith(f"new is better than old\nafter {found.table.n} of at most 30 pairs (Step, two-sided")
    assert f"new: {found.rates[0]}" in text


def test_the_other_one_may_be_the_better_one(tmp_path):
    found = compare(plan(), Policy("new", 0.1), Policy("old", 0.9), directory=tmp_path)
    assert found.decision is Decision.SECOND
    assert str(found).startswith("old is better than new")


def test_not_distinguishable_says_what_was_too_small_to_see(tmp_path):
    own = plan()
    found = compare(own, Policy("same", 0.7), Policy("same", 0.7), directory=tmp_path)
    assert (found.decision, found.table.n) == (Decision.UNDECIDED, 30)
    assert "not distinguishable\nafter 30 of at most 30 pairs" in str(found)
    points = round(100 * own.detectable)
    assert f"underpowered below {points} points: such differences are missed with a chance of over 20 %" in str(found)
    assert 0.3 < own.detectable < 0.5
    assert own.power < 0.8


def test_the_plan_is_there_before_the_first_pair(tmp_path):
    def first(start):
        document = json.loads((tmp_path / "plan.json").read_text("utf-8"))
        assert document["hash"] == plan().hash
        assert document["power"] == pytest.approx(plan().power)
        assert not (tmp_path / "pairs.json").exists() or len(load_pairs(plan(), tmp_path)) > 0
        return True

    compare(plan(), first, lambda start: True, directory=tmp_path)
    assert load_plan(tmp_path) == plan()


@pytest.mark.parametrize("test", [Step(n_max=30, shape=-0.5), Lai(n_max=30), EProcess(n_max=30, alternative="less")])
def test_every_test_survives_its_file(tmp_path, test):
    register(plan(test), tmp_path)
    assert load_plan(tmp_path) == plan(test)


class Interrupted(BaseException):
    """Ctrl-C in the middle."""


def test_goes_on_where_it_stopped(tmp_path):
    whole = compare(plan(), Policy("new", 0.8), Policy("old", 0.6), directory=tmp_path / "whole")

    def interrupt(seen):
        if seen.table.n == 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        compare(plan(), Policy("new", 0.8), Policy("old", 0.6), directory=tmp_path / "cut", progress=interrupt)
    first = Policy("new", 0.8)
    resumed = compare(plan(), first, Policy("old", 0.6), directory=tmp_path / "cut")
    assert first.tried == list(plan().starts[4 : whole.table.n])
    assert (resumed.table, resumed.decision) == (whole.table, whole.decision)
    texts = [(tmp_path / name / "pairs.json").read_text("utf-8") for name in ("whole", "cut")]
    assert texts[0] == texts[1]
    again = Policy("new", 0.8)
    assert compare(plan(), again, Policy("old", 0.6), directory=tmp_path / "cut").table == whole.table
    assert not again.tried


def test_a_crash_is_kept_as_such_and_the_others_go_on(tmp_path):
    own = plan()
    steady, second = Policy("new", 0.7), Policy("old", 0.65)

    def first(start):
        if start in (own.starts[2], own.starts[5]):
            raise RuntimeError("the simulator diverged")
        return steady(start)

    def fragile(start):
        if start == own.starts[7]:
            raise OSError("the camera is gone")
        return second(start)

    found = compare(own, first, fragile, directory=tmp_path)
    pairs = load_pairs(own, tmp_path)
    assert pairs[2] == Pair(start=own.starts[2], first=None, second=None, crash="RuntimeError: the simulator diverged")
    assert (pairs[7].first is not None, pairs[7].second, pairs[7].crash) == (True, None, "OSError: the camera is gone")
    assert found.table.n == len(pairs) - 3
    assert found.finished
    assert found.crashed == (2, 1)
    assert "crashed, not counted: 2 of new, 1 of old" in str(found)


def test_crashes_may_use_up_the_starts(tmp_path):
    def first(start):
        raise RuntimeError("never works")

    found = compare(plan(Lai(n_max=3), extra=2), first, Policy("old", 0.5), directory=tmp_path)
    assert (found.table.n, found.finished, found.decision) == (0, True, Decision.UNDECIDED)
    assert found.crashed == (5, 0) and found.exhausted
    assert "the 5 starts ran out: 5 of them crashed" in str(found)


def test_what_the_user_did_wrong_is_no_crash(tmp_path):
    def first(start):
        raise SpecMismatch("no camera 'front'")

    with pytest.raises(SpecMismatch, match="no camera 'front'"):
        compare(plan(), first, Policy("old", 0.5), directory=tmp_path)
    assert load_pairs(plan(), tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"suite": "toy 2"}, r"planned with another suite: 'toy 1', now 'toy 2'"),
        ({"starts": plan_starts(("drawer-open", "window-close"), 1, 35)}, r"another starts: .*seed=0.*now .*seed=1"),
        ({"starts": plan().starts[:30]}, r"another starts: 35 of them, now 30"),
        ({"second": replace(OLD, fingerprint="cc33")}, r"another second: .*aa11.*now .*cc33"),
        ({"test": Step(n_max=30, alpha=0.1)}, r"another test: .*alpha=0\.05.*now .*alpha=0\.1"),
        ({"effect": 0.2}, r"another effect: 0\.3, now 0\.2"),
    ],
)
def test_another_plan_is_refused(tmp_path, changes, message):
    register(plan(), tmp_path)
    with pytest.raises(KinemaError, match=message):
        compare(plan(**changes), Policy("new", 0.5), Policy("old", 0.5), directory=tmp_path)


def test_a_plan_changed_afterwards_is_noticed(tmp_path):
    register(plan(), tmp_path)
    path = tmp_path / "plan.json"
    path.write_text(path.read_text("utf-8").replace('"effect": 0.3', '"effect": 0.1'), "utf-8")
    with pytest.raises(KinemaError, match="changed after it was registered"):
        load_plan(tmp_path)


def test_pairs_belong_to_their_plan(tmp_path):
    own = plan()
    compare(own, Policy("new", 0.9), Policy("old", 0.1), directory=tmp_path)
    (tmp_path / "plan.json").unlink()
    with pytest.raises(KinemaError, match="holds pairs without the plan"):
        compare(own, Policy("new", 0.9), Policy("old", 0.1), directory=tmp_path)
    with pytest.raises(KinemaError, match="no pairs of the plan beside it"):
        load_pairs(plan(effect=0.2), tmp_path)
    with pytest.raises(KinemaError, match="which the plan does not have there"):
        verdict(own, load_pairs(own, tmp_path)[1:])
    later = Pair(start=own.starts[len(load_pairs(own, tmp_path))], first=True, second=True)
    with pytest.raises(KinemaError, match="after the comparison had ended"):
        verdict(own, [*load_pairs(own, tmp_path), later])
    (tmp_path / "pairs.json").write_text("{", "utf-8")
    with pytest.raises(KinemaError, match=r"cannot read .*pairs\.json"):
        load_pairs(own, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"second": replace(OLD, fingerprint="bb22")}, "nothing to compare: 'new' and 'old' are the same policy"),
        ({"starts": plan().starts[:10]}, "10 starts, but the test may ask for 30 pairs"),
        ({"starts": plan().starts + plan().starts[:1]}, "is planned twice"),
        ({"effect": 30}, "effect 30: expected a difference of rates between 0 and 1"),
    ],
)
def test_plans_that_cannot_be(changes, message):
    with pytest.raises(KinemaError, match=message):
        plan(**changes)


def test_starts_are_balanced_over_tasks_and_fixed_by_the_seed():
    starts = plan_starts(("a", "b", "c"), 7, 10)
    assert starts == plan_starts(("a", "b", "c"), 7, 10)
    assert starts != plan_starts(("a", "b", "c"), 8, 10)
    for i in range(0, 9, 3):
        assert {start.task for start in starts[i : i + 3]} == {"a", "b", "c"}
    assert len(set(starts)) == 10
    with pytest.raises(KinemaError, match="expected distinct tasks"):
        plan_starts(("a", "a"), 0, 4)


def test_a_decision_outlasts_that_all_crashes_speak_against_it():
    test = Step(n_max=30)
    own = plan(test)
    clean = verdict(own, [])
    n = 0
    while not clean.finished:
        n, clean = n + 1, extended(clean, Pair(start=own.starts[n], first=True, second=False))
    assert clean.decision is Decision.FIRST

    crashes = 3
    known = verdict(own, [Pair(start=start, first=None, second=None, crash="x") for start in own.starts[:crashes]])
    for start in own.starts[crashes:]:
        known = extended(known, Pair(start=start, first=True, second=False))
        if known.finished:
            break
        assert known.decision is Decision.UNDECIDED
    assert known.decision is Decision.FIRST and known.table.n > n
    worst = replace(known.table, only_second=crashes)
    assert test.decide(worst) is Decision.FIRST
    before = Comparison(only_first=known.table.n - 1)
    assert test.decide(before) is Decision.FIRST and test.decide(before, lost=crashes) is Decision.UNDECIDED
    assert test.decide(Comparison(only_second=n)) is Decision.SECOND
    assert test.decide(Comparison(only_second=n), lost=crashes) is Decision.UNDECIDED
    assert test.decide(Comparison(only_first=29), lost=2) is Decision.UNDECIDED, "more pairs than were planned"


def test_crashes_that_undo_a_decision_are_named():
    own = plan(extra=5)
    table = Comparison(only_first=10, both=20)
    assert own.test.decide(table) is Decision.FIRST
    text = str(Verdict(plan=own, decision=own.test.decide(table, lost=5), table=table, crashed=(5, 0)))
    assert text.startswith("new and old: not distinguishable\n") and "crashed, not counted: 5 of new" in text
    assert "the 5 pairs that crashed, were they all for the other, would undo what the rest say" in text
    assert "underpowered" not in text
