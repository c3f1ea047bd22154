import numpy as np
import pytest

from kinema.core.errors import KinemaError
from kinema.core.policy import Chunk
from kinema.deploy.chunking.receding_horizon import RecedingHorizon


def test_each_chunk_is_asked_for_when_the_last_has_run(scripted, labelled, execute):
    inner = scripted(labelled(16))
    done = execute(RecedingHorizon(exec_horizon=5).wrap(inner), 12)[:, 0]
    np.testing.assert_array_equal(done[:, 0], [0] * 5 + [5] * 5 + [10] * 2)
    np.testing.assert_array_equal(done[:, 1], [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1])
    assert inner.asked == [[0], [5], [10]]


def test_two_hundred_steps_are_those_of_lerobots_queue(scripted, labelled, execute, lerobot):
    done = execute(RecedingHorizon(exec_horizon=5).wrap(scripted(labelled(8))), 200)[:, 0]
    queries = lerobot["act_queue"][:, 0] * 5  # LeRobot's label counts queries, ours is the step
    np.testing.assert_array_equal(done, np.stack([queries, lerobot["act_queue"][:, 1]], -1))


@pytest.mark.parametrize(("observed", "run", "predicted"), [(2, 8, 16), (1, 8, 16), (3, 4, 8)])
def test_diffusion_policys_indices(scripted, labelled, execute, lerobot, observed, run, predicted):
    inner = scripted(labelled(predicted), obs_horizon=observed)
    done = execute(RecedingHorizon(exec_horizon=run, begins="oldest").wrap(inner), run)[:, 0, 1]
    np.testing.assert_array_equal(done, lerobot[f"diffusion/{observed}-{run}-{predicted}"])
    np.testing.assert_array_equal(done, np.arange(observed - 1, observed - 1 + run))


def test_the_rest_of_the_chunk_stays_within_reach(scripted, labelled):
    policy = RecedingHorizon(exec_horizon=2, begins="oldest").wrap(scripted(labelled(8), obs_horizon=3))
    chunk = policy.act({"vector.state": np.zeros((1, 3, 2), np.float32)})
    assert isinstance(chunk, Chunk) and chunk.exec_horizon == 2
    np.testing.assert_array_equal(chunk.action[0, :, 1], [2, 3, 4, 5, 6, 7])


@pytest.mark.parametrize(("begins", "most"), [("newest", 8), ("oldest", 6)])
def test_more_steps_than_predicted_are_refused(scripted, labelled, execute, begins, most):
    inner = scripted(labelled(8), obs_horizon=3)
    assert len(execute(RecedingHorizon(exec_horizon=most, begins=begins).wrap(inner), 9)) == 9
    with pytest.raises(KinemaError, match=f"exec_horizon {most + 1} is more than the {most} actions"):
        RecedingHorizon(exec_horizon=most + 1, begins=begins).wrap(inner)
    with pytest.raises(KinemaError, match="exec_horizon 0: expected at least 1"):
        RecedingHorizon(exec_horizon=0).wrap(inner)


def test_neither_always_looking_nor_seldom_looking_is_best():
    from moving_goal import measure

    rates = {steps: measure(RecedingHorizon(exec_horizon=steps), episodes=60).success for steps in (1, 3, 16)}
    assert rates[3] > rates[1] + 0.2, "always looking should change its mind in front of the obstacle"
    assert rates[3] > rates[16] + 0.5, "seldom looking should miss that the goal has jumped"


def test_an_unknown_begins_is_refused():
    with pytest.raises(KinemaError, match="unknown begin of chunks 'oldset'; did you mean 'oldest'"):
        RecedingHorizon(begins="oldset")
