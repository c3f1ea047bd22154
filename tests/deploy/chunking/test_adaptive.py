import numpy as np
import pytest

from kinema.core.errors import KinemaError
from kinema.deploy.chunking.adaptive import Adaptive
from kinema.deploy.chunking.receding_horizon import RecedingHorizon


def spreading(step, entry, seed):
    """Agrees for five steps; from there on each seed goes its own way. Bounds are 1000, so 1 is 1000."""
    rows = np.zeros((12, 2))
    rows[5:] = 1000.0 * (1 if seed % 2 else -1)
    return rows


def looked(inner):
    return [steps[0] for steps in inner.asked]


def test_a_chunk_runs_as_long_as_its_samples_agree(scripted, execute):
    inner = scripted(spreading)
    execute(Adaptive(limit=0.5, shortest=1, longest=12, samples=16).wrap(inner), 16)
    assert looked(inner) == [0, 5, 10, 15]
    assert len(inner.asked[0]) == 16, "all samples are drawn at once"


@pytest.mark.parametrize(("shortest", "longest", "limit", "every"), [(7, 12, 0.5, 7), (1, 3, 0.5, 3), (2, 9, 5.0, 9)])
def test_it_runs_neither_more_nor_less_than_allowed(scripted, execute, shortest, longest, limit, every):
    inner = scripted(spreading)
    execute(Adaptive(limit=limit, shortest=shortest, longest=longest, samples=16).wrap(inner), 3 * every)
    assert looked(inner) == [0, every, 2 * every]


def test_one_of_the_samples_is_run_not_their_mean(scripted, execute):
    done = execute(Adaptive(limit=0.5, shortest=8, longest=8).wrap(scripted(spreading)), 8)
    np.testing.assert_array_equal(np.abs(done[:, 0, 0]), [0] * 5 + [1000] * 3)


def test_a_changed_plan_is_looked_at_again_soon(scripted, execute):
    inner = scripted(lambda step, entry, seed: np.full((12, 2), 1000.0 if step >= 6 else 0.0))
    execute(Adaptive(criterion="overlap", limit=0.5, shortest=2, longest=4).wrap(inner), 20)
    # Nothing to compare with at 0; at 6 the plan differs from the rest of the last one.
    assert looked(inner) == [0, 2, 6, 8, 12, 16]


def test_beyond_the_old_chunk_there_is_no_agreement(scripted, execute):
    inner = scripted(lambda step, entry, seed: np.zeros((6, 2)))
    execute(Adaptive(criterion="overlap", limit=0.5, shortest=1, longest=6).wrap(inner), 12)
    assert looked(inner) == [0, 1, 6, 7], "of 6 steps one was run, five agree; then nothing is left to compare"


def test_entries_decide_for_themselves(scripted, execute):
    """Entry 1 disagrees after two steps, entry 0 after five: each is asked at its own steps only."""

    def chunk(step, entry, seed):
        rows = np.zeros((12, 2))
        rows[2 if entry else 5 :] = 1000.0 * (1 if seed % 2 else -1)
        return rows

    inner = scripted(chunk)
    policy = Adaptive(limit=0.5, shortest=1, longest=12, samples=8).wrap(inner)
    execute(policy, 10, batch=2)
    assert looked(inner) == [0, 2, 4, 5, 6, 8]
    assert [len(rows) for rows in inner.asked] == [16, 8, 8, 8, 8, 8]


def test_a_goal_that_jumps():
    from moving_goal import measure

    fixed = {steps: measure(RecedingHorizon(exec_horizon=steps), episodes=60) for steps in (1, 16)}
    for rule in (Adaptive(shortest=3, longest=6), Adaptive(criterion="overlap", shortest=3, longest=8)):
        adaptive = measure(rule, episodes=60)
        assert adaptive.delay <= 0.5 * fixed[16].delay
        assert adaptive.looks <= 0.5 * fixed[1].looks
        assert adaptive.success >= max(row.success for row in fixed.values())
    blind = measure(Adaptive(limit=1e6, shortest=3, longest=16), episodes=60)
    assert blind.delay > 0.5 * fixed[16].delay, "without a limit it is as slow as a fixed chunk"


@pytest.mark.parametrize(("shortest", "longest"), [(0, 4), (5, 4), (2, 13)])
def test_lengths_must_fit(scripted, shortest, longest):
    with pytest.raises(KinemaError, match=f"shortest {shortest} and longest {longest}: expected .* <= 12"):
        Adaptive(shortest=shortest, longest=longest).wrap(scripted(spreading))


def test_limits_and_samples_must_make_sense(scripted):
    for rule in (Adaptive(limit=0.0), Adaptive(limit=float("nan")), Adaptive(samples=1)):
        with pytest.raises(KinemaError, match="must be above 0 and samples"):
            rule.wrap(scripted(spreading))


def test_an_unknown_criterion_is_refused():
    with pytest.raises(KinemaError, match="unknown criterion 'spraed'; did you mean 'spread'"):
        Adaptive(criterion="spraed")
