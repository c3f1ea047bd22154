import numpy as np
import pytest
import torch

from kinema.core.errors import KinemaError
from kinema.core.policy import ChunkSampler
from kinema.core.spec import ActionSpec, ObservationSpec, RobotSpec, Vector
from kinema.deploy.chunking.realtime_chunking import RealtimeChunking, prefix_weights
from kinema.nets.inpainting import pulled
from kinema.nets.ode import integrate

SETTINGS = [(4, 4, 16), (0, 5, 16), (8, 8, 16), (3, 5, 50), (2, 14, 16)]


def test_weights_by_hand():
    weights = prefix_weights(8, 2, 3)  # falls from step 2 to the end of the old chunk, 8 - 3
    c = np.array([3, 2, 1]) / 4
    np.testing.assert_allclose(weights[:2], 1.0)
    np.testing.assert_allclose(weights[2:5], c * (np.exp(c) - 1) / (np.e - 1), rtol=1e-6)
    np.testing.assert_array_equal(weights[5:], 0.0)


@pytest.mark.parametrize(("delay", "every", "horizon"), SETTINGS)
def test_weights_are_lerobots(lerobot, delay, every, horizon):
    # LeRobot calls the end of the weights, H - s, its execution_horizon.
    np.testing.assert_allclose(
        prefix_weights(horizon, delay, every), lerobot[f"weights/{delay}-{every}-{horizon}"], atol=1e-6
    )


@pytest.mark.parametrize(("delay", "every", "horizon"), [(3, 5, 16), (0, 4, 8), (4, 4, 8), (2, 8, 16)])
def test_what_is_run_when_is_as_in_lerobots_queue(scripted, labelled, execute, lerobot, delay, every, horizon):
    inner = scripted(labelled(horizon))
    done = execute(RealtimeChunking(delay=delay, exec_horizon=every, method="none").wrap(inner), 60)[:, 0]
    expected = lerobot[f"realtime/{delay}-{every}-{horizon}"]
    np.testing.assert_array_equal(done, expected * [every, 1])  # its label counts queries, ours is the step
    assert not any(inner.guides)


def test_the_guide_is_the_rest_of_the_old_chunk(scripted, execute):
    inner = scripted(lambda step, entry, seed: np.arange(step, step + 8)[:, None] * [1.0, 100.0] + 0.001 * step)
    execute(RealtimeChunking(delay=1, exec_horizon=3).wrap(inner), 7)
    first, second, third = inner.guides
    assert first is None and second.limit == 5.0 and second.method == "guided"
    np.testing.assert_array_equal(second.weight, prefix_weights(8, 1, 3))
    # Made at step 0, seen from step 3: rows 3 to 7, and the last one again where the weight is 0.
    np.testing.assert_allclose(second.action[0, :, 0], [3, 4, 5, 6, 7, 7, 7, 7])
    # Of the second chunk the first action came too late: the old one stands in its place, and is not left over.
    np.testing.assert_allclose(third.action[0, :5, 0], np.arange(6, 11) + 0.003, atol=1e-6)


def test_inpainting_holds_only_what_is_run_meanwhile(scripted, labelled, execute):
    inner = scripted(labelled(8))
    execute(RealtimeChunking(delay=2, exec_horizon=4, method="inpaint").wrap(inner), 5)
    np.testing.assert_array_equal(inner.guides[1].weight, [1, 1, 0, 0, 0, 0, 0, 0])
    assert inner.guides[1].method == "inpaint"


def test_an_entry_that_begins_is_not_guided_by_its_neighbours(scripted, execute):
    inner = scripted(lambda step, entry, seed: np.full((8, 2), 10.0 * entry) + np.arange(8)[:, None])
    policy = RealtimeChunking(delay=1, exec_horizon=4).wrap(inner)
    execute(policy, 4, batch=3)
    policy.reset([1], seeds=[5])
    execute(policy, 4, batch=3)
    guided, plain = inner.guides[-2:]
    assert plain is None and guided.action.shape == (2, 8, 2)
    np.testing.assert_array_equal(guided.action[:, 0, 0], [4, 24])


@pytest.mark.parametrize(("delay", "every"), [(4, 3), (3, 6), (-1, 4), (0, 0), (5, 5), (0, 9)])
def test_delay_and_horizons_must_fit(scripted, labelled, delay, every):
    with pytest.raises(KinemaError, match=rf"delay {delay} and exec_horizon {every} do not fit a chunk of 8 steps"):
        RealtimeChunking(delay=delay, exec_horizon=every).wrap(scripted(labelled(8)))


@pytest.mark.parametrize(("delay", "every"), [(4, 4), (0, 8), (2, 6), (1, 1)])
def test_the_bounds_themselves_are_fine(scripted, labelled, execute, delay, every):
    rule = RealtimeChunking(delay=delay, exec_horizon=every)
    assert len(execute(rule.wrap(scripted(labelled(8))), 20)) == 20


def test_a_policy_that_cannot_be_guided_is_refused_at_once(scripted, labelled):
    inner = scripted(labelled(16))
    inner.guidable = False
    for method in ("guided", "inpaint"):
        with pytest.raises(KinemaError, match="Scripted cannot follow a guide"):
            RealtimeChunking(method=method).wrap(inner)
    RealtimeChunking(method="none").wrap(inner)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_a_guidance_weight_outside_its_range_is_refused(scripted, labelled, limit):
    with pytest.raises(KinemaError, match="a guidance weight is finite and above 0"):
        RealtimeChunking(limit=limit).wrap(scripted(labelled(16)))


class TwoWays(ChunkSampler):
    """An exact flow: all of a chunk near 0.5, or all near -0.5, whatever is observed."""

    obs_horizon, pred_horizon, exec_horizon = 1, 16, 4
    spec = RobotSpec(
        embodiment="test",
        rate_hz=10.0,
        observation=ObservationSpec(
            vectors=(Vector(name="state", components=("a", "b"), units=("1", "1"), frame="world"),)
        ),
        action=ActionSpec(
            components=("x",), units=("1",), frame="world", kind="test", integrator="test", low=(-1.0,), high=(1.0,)
        ),
    )

    def __init__(self):
        from two_modes import TwoModes

        means = torch.stack([torch.full((16, 1), 0.5), torch.full((16, 1), -0.5)])
        self.flow = TwoModes(means=means, weights=torch.tensor([0.5, 0.5]), std=0.05)

    def reset(self, which=None, *, seeds=None): ...

    def act(self, observation): ...

    def check_guide(self, method, held): ...

    def draw(self, observation, *, seeds, guide=None):
        noise = torch.stack([torch.randn(16, 1, generator=torch.Generator().manual_seed(s % 2**62)) for s in seeds])
        velocity = self.flow.velocity
        if guide is not None:
            target, weight = torch.from_numpy(guide.action), torch.from_numpy(guide.weight)
            velocity = pulled(velocity, target, weight, limit=guide.limit)
        return integrate(velocity, noise, steps=10).numpy()


def seams(method, execute):
    """Return how often the side changes where chunks meet, and the mean jump there."""
    policy = RealtimeChunking(delay=4, exec_horizon=4, method=method).wrap(TwoWays())
    policy.reset(range(64), seeds=range(64))
    done = execute(policy, 28, batch=64)[:, :, 0]
    before, after = done[7:-1:4], done[8::4]  # the second chunk begins to be run at step 8
    return float((np.sign(before) != np.sign(after)).mean()), float(np.abs(after - before).mean())


def test_a_robot_that_does_not_wait_keeps_its_way(execute):
    flips, jump = seams("none", execute)
    assert 0.4 < flips < 0.6 and jump > 0.4
    flips, jump = seams("guided", execute)
    assert flips < 0.05 and jump < 0.1


def test_an_unknown_method_is_refused():
    with pytest.raises(KinemaError, match="unknown method of agreement 'inpiant'; did you mean 'inpaint'"):
        RealtimeChunking(method="inpiant")
