"""Evaluations on a fake simulator: paired tables, files, resuming."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from kinema.core.episode import Start
from kinema.core.errors import KinemaError
from kinema.core.policy import Chunk, Policy
from kinema.core.spec import ActionSpec, ObservationSpec, RobotSpec, Vector
from kinema.evaluation.evaluate import Arm, check_arms, evaluate
from kinema.evaluation.intervals import Rate
from kinema.evaluation.results import Manifest
from kinema.evaluation.rollout import Trial
from kinema.evaluation.storage import load_actions, load_evaluation

SPEC = RobotSpec(
    embodiment="gate",
    rate_hz=10.0,
    observation=ObservationSpec(
        vectors=(Vector(name="episode", components=("episode",), units=("1",), frame="world"),)
    ),
    action=ActionSpec(
        components=("x",), units=("m",), frame="world", kind="k", integrator="i", low=(-9.0,), high=(9.0,)
    ),
)  # fmt: skip
MANIFEST = Manifest.here(command="kinema evaluate gate", seeds=(7,), data_hash="d" * 64, policy_hash="p" * 64)


@dataclass(frozen=True, kw_only=True)
class Step:
    observation: dict
    success: np.ndarray
    done: np.ndarray
    executed: np.ndarray


class Gate:
    """Episode e of any task succeeds when the action is greater than e; all episodes take two steps."""

    num_envs = 2

    def __init__(self):
        self.episode, self.steps = np.zeros(2, int), 0

    def reset(self, starts):
        for slot, start in starts.items():
            self.episode[slot] = start.episode
        return {"vector.episode": self.episode[:, None, None].astype(np.float32)}

    def step(self, action):
        self.steps += 1
        done = np.ones(2, bool)
        return Step(
            observation=self.reset({}), success=action[:, -1, 0] > self.episode, done=done, executed=np.full(2, 2)
        )


class Push(Policy):
    """Always pushes with the same strength, so it solves the episodes below that number."""

    spec, obs_horizon = SPEC, 1

    def __init__(self, strength, fail_at=None):
        self.strength, self.fail_at, self.acts = strength, fail_at, 0

    def reset(self, which=None, *, seeds=None):
        return None

    def act(self, observation):
        self.acts += 1
        if self.acts == self.fail_at:
            raise KeyboardInterrupt
        return Chunk(action=np.full((2, 3, 1), self.strength, np.float32), exec_horizon=2)


def trials(variant="seen"):
    starts = [Start(task=task, seed=7, episode=e) for task in ("open", "close") for e in range(5)]
    return tuple(Trial(start=start, instruction=f"{start.task} the gate", variant=variant) for start in starts)


def arms(control=None):
    return [
        Arm(name="policy", description="as trained", policy=Push(4.0), trials=trials()),
        Arm(name="blind", description="noise", policy=control or Push(1.0), trials=trials(), blind=True),
    ]


def test_rates_and_the_paired_test_by_hand(tmp_path):
    """Push(4) solves episodes 0-3 of both tasks (8/10), Push(1) episode 0 (2/10): 6 discordant pairs, all for main."""
    evaluation = evaluate(arms(), Gate(), directory=tmp_path, manifest=MANIFEST)
    assert evaluation.arm("policy").tasks == {"open": Rate(4, 5), "close": Rate(4, 5)}
    assert (evaluation.arm("blind").overall.successes, evaluation.arm("blind").overall.n) == (2, 10)
    table = evaluation.comparison("blind")
    assert (table.both, table.only_first, table.only_second, table.neither) == (2, 6, 0, 2)
    assert table.p_value == pytest.approx(2 / 64)
    assert evaluation.comparisons()["blind"][1] == pytest.approx(2 / 64)
    latency = evaluation.arm("policy").latency
    assert (latency.calls, latency.batch) == (5, 2)
    assert 0 < latency.p50_ms <= latency.p95_ms <= latency.p99_ms


def test_a_smaller_arm_is_paired_on_its_own_starts(tmp_path):
    """The control tries episodes 0 and 4 of each task: Push(4) wins 0 and loses 4, Push(1) the same."""
    one, two = arms()
    few = tuple(trial for trial in two.trials if trial.start.episode in (0, 4))
    evaluation = evaluate([one, replace(two, trials=few)], Gate(), directory=tmp_path, manifest=MANIFEST)
    table = evaluation.comparison("blind")
    assert (table.both, table.only_first, table.only_second, table.neither) == (2, 0, 0, 2)
    assert table.p_value == 1.0


def test_files_hold_everything_and_load_again(tmp_path):
    evaluation = evaluate(arms(), Gate(), directory=tmp_path, manifest=MANIFEST)
    document = json.loads((tmp_path / "eval.json").read_text())
    assert document["schema"] == 1
    assert document["complete"] is True
    overall = document["arms"][0]["overall"]
    assert {k: round(v, 4) for k, v in overall.items()} == {
        "rate": 0.8, "successes": 8, "n": 10, "low": 0.4902, "high": 0.9433, "tasks": 2,
    }  # fmt: skip
    assert document["arms"][1]["versus_main"]["p_mcnemar_exact"] == pytest.approx(2 / 64)
    assert document["manifest"]["versions"]["numpy"] == np.__version__
    assert load_evaluation(tmp_path) == evaluation == load_evaluation(tmp_path / "eval.json")
    actions = load_actions(tmp_path)
    assert len(actions) == 20
    np.testing.assert_array_equal(actions["blind/00003"], np.full((2, 1), 1.0, np.float32))


def test_variants_are_counted_apart(tmp_path):
    mixed = tuple(replace(t, variant="held-out") if t.start.episode >= 3 else t for t in trials())
    arm = Arm(name="policy", description="d", policy=Push(4.0), trials=mixed)
    evaluation = evaluate([arm], Gate(), directory=tmp_path, manifest=MANIFEST)
    counts = {name: (mean.successes, mean.n) for name, mean in evaluation.arm("policy").variants.items()}
    assert counts == {"seen": (6, 6), "held-out": (2, 4)}


def test_an_interrupted_evaluation_goes_on_with_the_next_arm(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        evaluate(arms(Push(1.0, fail_at=3)), Gate(), directory=tmp_path, manifest=MANIFEST)
    partial = load_evaluation(tmp_path)
    assert [arm.name for arm in partial.arms] == ["policy"]
    assert not partial.complete
    again = arms()
    later = replace(MANIFEST, date="2030-01-01T00:00:00+00:00", command="kinema evaluate gate --resume")
    seen = []
    evaluation = evaluate(
        again, Gate(), directory=tmp_path, manifest=later, progress=lambda arm, *rest: seen.append((arm, *rest[1:]))
    )
    assert evaluation.complete
    assert again[0].policy.acts == 0
    assert seen == [("blind", i + 1, 10) for i in range(10)]
    assert len(load_actions(tmp_path)) == 20
    assert sorted(p.name for p in tmp_path.iterdir()) == ["actions.npz", "eval.json"]


def test_a_finished_evaluation_is_read_not_run(tmp_path):
    first = evaluate(arms(), Gate(), directory=tmp_path, manifest=MANIFEST)
    simulator = Gate()
    assert evaluate(arms(), simulator, directory=tmp_path, manifest=MANIFEST) == first
    assert simulator.steps == 0


def test_another_evaluation_in_the_directory_is_refused(tmp_path):
    evaluate(arms(), Gate(), directory=tmp_path, manifest=MANIFEST)
    other = replace(MANIFEST, policy_hash="q" * 64)
    with pytest.raises(KinemaError, match=r"holds another evaluation .policy_hash.*choose a new directory"):
        evaluate(arms(), Gate(), directory=tmp_path, manifest=other)
    fewer = [replace(arm, trials=arm.trials[:-1]) for arm in arms()]
    with pytest.raises(KinemaError, match="arm 'policy' has other trials"):
        evaluate(fewer, Gate(), directory=tmp_path, manifest=MANIFEST)
    other_rule = [replace(arms()[0], description="chunks executed by Ensemble()"), arms()[1]]
    with pytest.raises(KinemaError, match=r"arm 'policy': 'as trained', now 'chunks executed by Ensemble\(\)'"):
        evaluate(other_rule, Gate(), directory=tmp_path, manifest=MANIFEST)
    (tmp_path / "actions.npz").unlink()
    with pytest.raises(KinemaError, match=r"cannot read the executed actions .*actions.npz"):
        evaluate(arms(), Gate(), directory=tmp_path, manifest=MANIFEST)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["arms"][0]["overall"].update(successes=9), r"own trials: arms.0.overall.successes is 9"),
        (lambda d: d["arms"][0]["trials"][4].update(success=True), r"contradicts its own trials: arms.0.overall"),
        (lambda d: d["arms"][0].update(extra=1), r"arms.0.extra is unknown"),
        (lambda d: d["manifest"].pop("seeds"), r"not an evaluation: KeyError 'seeds'"),
        (lambda d: d.update(schema=2), r"schema 2, expected 1"),
        (lambda d: d["arms"][0]["trials"][0].update(episode="0"), r"ran starts that arm .policy. did not run"),
    ],
)  # fmt: skip
def test_an_edited_file_is_refused(tmp_path, change, message):
    evaluate(arms(), Gate(), directory=tmp_path, manifest=MANIFEST)
    document = json.loads((tmp_path / "eval.json").read_text())
    change(document)
    (tmp_path / "eval.json").write_text(json.dumps(document))
    with pytest.raises(KinemaError, match=message):
        load_evaluation(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "3"])
def test_a_broken_file_is_named(tmp_path, content):
    (tmp_path / "eval.json").write_text(content)
    with pytest.raises(KinemaError, match=r"cannot read the evaluation .*eval.json"):
        load_evaluation(tmp_path)


def test_arms_must_be_comparable(tmp_path):
    one, two = arms()
    with pytest.raises(KinemaError, match="two arms are called 'policy'"):
        check_arms([one, one], "policy")
    with pytest.raises(KinemaError, match="letters, digits"):
        check_arms([replace(one, name="../up")], "../up")
    with pytest.raises(KinemaError, match="every start exactly once: Start"):
        check_arms([replace(one, trials=one.trials + one.trials[:1])], "policy")
    with pytest.raises(KinemaError, match="arm 'blind' has 2 starts that 'policy' does not have, such as Start"):
        check_arms([replace(one, trials=one.trials[2:]), two], "policy")
    check_arms([one, replace(two, trials=two.trials[2:])], "policy")
    with pytest.raises(KinemaError, match="no arms"):
        evaluate([], Gate(), directory=tmp_path, manifest=MANIFEST)
    with pytest.raises(KinemaError, match="unknown arm 'polcy'; did you mean 'policy'"):
        evaluate([one, two], Gate(), directory=tmp_path, manifest=MANIFEST, main="polcy")


def test_importing_the_package_does_not_import_torch():
    import subprocess
    import sys

    code = (
        "import sys, kinema.evaluation.evaluate, kinema.evaluation.baselines, kinema.evaluation.report.build;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
