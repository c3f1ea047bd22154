import pytest

from kinema.core.errors import KinemaError
from kinema.deploy.asynchronous import idle_steps, latency_steps, minimum_threshold


@pytest.mark.parametrize("horizon", [8, 15, 16, 50])
def test_the_smallest_threshold_is_found_by_simulation(horizon):
    for steps in range(horizon // 2 + 1):
        enough = [share for share in range(horizon + 1) if idle_steps(share / horizon, steps, horizon) == 0]
        assert enough[0] / horizon == minimum_threshold(steps, horizon) == steps / horizon
        assert enough == list(range(steps, horizon + 1)), "more is never worse"


@pytest.mark.parametrize("horizon", [8, 15, 16])
def test_a_long_latency_cannot_be_bridged(horizon):
    for steps in range(horizon // 2 + 1, horizon):
        assert all(idle_steps(share / horizon, steps, horizon) > 0 for share in range(horizon + 1))
        with pytest.raises(KinemaError, match=f"at most {horizon // 2} steps can be bridged"):
            minimum_threshold(steps, horizon)


def test_latency_is_rounded_up():
    assert [latency_steps(seconds, 50.0) for seconds in (0.0, 0.001, 0.02, 0.021, 0.3)] == [0, 1, 1, 2, 15]
    # 0.061 s at 50 Hz is 3.05 steps: with the fraction 3.05 / 16 the robot would wait.
    assert idle_steps(3.05 / 16, latency_steps(0.061, 50.0), 16) > 0
    assert idle_steps(minimum_threshold(latency_steps(0.061, 50.0), 16), latency_steps(0.061, 50.0), 16) == 0


@pytest.mark.parametrize(("latency_s", "rate_hz"), [(-0.1, 50.0), (0.1, 0.0), (float("nan"), 50.0)])
def test_impossible_latencies_are_refused(latency_s, rate_hz):
    with pytest.raises(KinemaError, match="expected 0 or more, at a rate above 0"):
        latency_steps(latency_s, rate_hz)


def test_the_smallest_threshold_is_enough_whatever_its_rounding():
    """1 / 49 * 49 is 0.9999999999999999."""
    for horizon in range(1, 101):
        for steps in range(horizon // 2 + 1):
            assert idle_steps(minimum_threshold(steps, horizon), steps, horizon) == 0, (steps, horizon)


def test_a_chunk_of_no_steps_is_refused():
    with pytest.raises(KinemaError, match="chunks of 0 steps: expected at least 1"):
        minimum_threshold(0, 0)
