from dataclasses import replace

import numpy as np
import pytest

from kinema.actions.end_effector import CHUNK_START
from kinema.core.errors import KinemaError
from kinema.core.names import find, members
from kinema.core.rng import seed_of
from kinema.deploy.chunking.base import batch_size, distance, draws, take
from kinema.deploy.chunking.bidirectional import Bidirectional
from kinema.deploy.chunking.ensemble import Ensemble
from kinema.deploy.chunking.receding_horizon import RecedingHorizon


def test_rows_of_an_observation():
    observation = {"vector.state": np.arange(6.0).reshape(3, 1, 2), "instruction": ["a", "b", "c"]}
    assert batch_size(observation) == 3
    taken = take(observation, [2, 0, 2])
    np.testing.assert_array_equal(taken["vector.state"][:, 0, 0], [4, 0, 4])
    assert taken["instruction"] == ["c", "a", "c"]
    with pytest.raises(KinemaError, match="the observation is empty"):
        batch_size({})


def test_the_first_of_several_draws_is_that_of_the_seed_alone(scripted):
    inner = scripted(lambda step, entry, seed: np.full((4, 2), seed % 1000))
    observation = {"vector.state": np.zeros((2, 1, 2), np.float32)}
    drawn = draws(inner, observation, [5, 6], 3)
    assert drawn.shape == (3, 2, 4, 2)
    np.testing.assert_array_equal(drawn[0, :, 0, 0], [5, 6])
    assert drawn[1, 0, 0, 0] == seed_of("draw", 5, 1) % 1000 and drawn[2, 1, 0, 0] == seed_of("draw", 6, 2) % 1000


def test_distance_is_in_halves_of_the_ranges(scripted):
    action = scripted(lambda step, entry, seed: np.zeros((4, 2))).spec.action
    action = replace(action, low=(-1.0, 0.0), high=(1.0, 20.0))
    assert distance(np.array([1.0, 10.0]), np.array([0.0, 10.0]), action) == pytest.approx(np.sqrt(0.5))
    assert distance(np.array([1.0, 10.0]), np.array([0.0, 0.0]), action) == pytest.approx(1.0)
    with pytest.raises(KinemaError, match="needs finite low and high"):
        distance(np.zeros(2), np.zeros(2), replace(action, high=(1.0, float("inf"))))


def test_noise_is_that_of_the_episode_and_the_count_of_its_chunks(scripted, labelled, execute):
    def seeds_of(entry: int, batch: int) -> list[int]:
        inner = scripted(labelled(4))
        policy = Bidirectional(samples=2, exec_horizon=4).wrap(inner)
        policy.reset([entry], seeds=[77])
        execute(policy, 8, batch=batch)
        return [inner.seeds[entry], inner.seeds[2 * batch + entry]]

    assert seeds_of(0, 1) == seeds_of(2, 3) == [seed_of("chunk", 77, 0), seed_of("chunk", 77, 1)]


def test_a_reset_needs_a_seed_for_each_entry(scripted, labelled):
    policy = Bidirectional(exec_horizon=4).wrap(scripted(labelled(4)))
    with pytest.raises(KinemaError, match="reset: 1 seeds for 2 batch entries"):
        policy.reset([0, 1], seeds=[3])


@pytest.mark.parametrize("name", members("chunking"))
def test_actions_seen_from_the_chunks_start_are_not_cut(scripted, labelled, name):
    inner = scripted(labelled(16))
    rule = find("chunking", name)()
    assert rule.wrap(inner).spec == inner.spec
    inner.spec = replace(inner.spec, action=replace(inner.spec.action, frame=CHUNK_START))
    with pytest.raises(KinemaError, match=r"from another start[^$]*fix: actions in a fixed frame.*RelativeAction"):
        rule.wrap(inner)


@pytest.mark.parametrize("outer", [Ensemble(), RecedingHorizon(exec_horizon=4)])
def test_a_rule_that_counts_its_steps_is_not_wrapped(scripted, labelled, outer):
    inner = Bidirectional(exec_horizon=4).wrap(scripted(labelled(16)))
    with pytest.raises(KinemaError, match="BidirectionalPolicy decides itself how much of a chunk is run"):
        outer.wrap(inner)
    outer.wrap(RecedingHorizon(exec_horizon=4).wrap(scripted(labelled(16))))
