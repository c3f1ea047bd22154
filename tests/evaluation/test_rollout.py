"""The ordering and pairing laws of `rollout`, with a deterministic simulator and policy as doubles of the protocols."""

from dataclasses import dataclass

import numpy as np
import pytest

from kinema.core.episode import Start
from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.policy import Chunk, Policy
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.evaluation.baselines import NoiseCameras
from kinema.evaluation.rollout import Trial, policy_seed, rollout

ACTION = ActionSpec(
    components=("x", "gripper"), units=("m", "1"), frame="world", kind="test", integrator="test",
    low=(-1.0, -1.0), high=(1.0, 1.0),
)  # fmt: skip
SPEC = RobotSpec(
    embodiment="counter",
    rate_hz=10.0,
    observation=ObservationSpec(
        cameras=(Camera(name="front", height=2, width=3),),
        vectors=(Vector(name="state", components=("episode", "step"), units=("1", "1"), frame="world"),),
        instruction=True,
    ),
    action=ACTION,
)


@dataclass(frozen=True, kw_only=True)
class Step:
    observation: dict
    success: np.ndarray
    done: np.ndarray
    executed: np.ndarray


class Counter:
    """Episode e ends after 3 + 2 e steps (mod 11) and succeeds when e is even; done slots stay still."""

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.episode = np.zeros(num_envs, int)
        self.count = np.zeros(num_envs, int)
        self.begun = []

    def length(self, slot):
        return 3 + 2 * self.episode[slot] % 11

    def observe(self):
        state = np.stack([self.episode, self.count], -1).astype(np.float32)
        history = np.stack([state - 100, state], 1)
        return {
            "image.front": np.zeros((self.num_envs, 2, 2, 3, 3), np.uint8),
            "image.unused": np.zeros((self.num_envs, 2, 2, 3, 3), np.uint8),
            "vector.state": history,
        }

    def reset(self, starts):
        for slot, start in starts.items():
            self.episode[slot], self.count[slot] = start.episode, 0
            self.begun.append((slot, start.episode))
        return self.observe()

    def step(self, action):
        left = np.array([self.length(slot) for slot in range(self.num_envs)]) - self.count
        executed = np.minimum(action.shape[1], left)
        self.count += executed
        done = executed == left
        return Step(observation=self.observe(), success=done & (self.episode % 2 == 0), done=done, executed=executed)


class Echo(Policy):
    """Acts by (episode number, the first draw of its own episode's randomness): 4 steps predicted, 2 executed."""

    spec = SPEC
    obs_horizon = 1

    def __init__(self):
        self.draw = {}
        self.seen = []

    def reset(self, which=None, *, seeds=None):
        for slot, seed in zip(which, seeds, strict=True):
            self.draw[slot] = np.random.default_rng(seed).random()

    def act(self, observation):
        state = observation["vector.state"]
        assert state.shape == (len(observation["instruction"]), 1, 2)
        assert "image.unused" not in observation
        self.seen.append([(int(s[0, 0]), text) for s, text in zip(state, observation["instruction"], strict=True)])
        action = np.zeros((len(state), 4, 2), np.float32)
        action[..., 0] = state[:, :, 0]
        action[..., 1] = [[self.draw[slot]] for slot in range(len(state))]
        return Chunk(action=action, exec_horizon=2)


def trials(n):
    return [
        Trial(start=Start(task="count", seed=7, episode=e), instruction=f"count {e}", variant="seen") for e in range(n)
    ]


@pytest.mark.parametrize("num_envs", [1, 2, 3, 8])
def test_results_do_not_depend_on_the_batch(num_envs):
    finished = []
    results = rollout(
        Echo(), Counter(num_envs), trials(6), progress=lambda result, done, total: finished.append((done, total))
    )
    assert [r.trial.start.episode for r in results] == [0, 1, 2, 3, 4, 5]
    assert [r.steps for r in results] == [3, 5, 7, 9, 11, 13]
    assert [r.success for r in results] == [True, False, True, False, True, False]
    assert finished == [(i + 1, 6) for i in range(6)]
    for episode, result in enumerate(results):
        draw = np.random.default_rng(policy_seed(result.trial.start)).random()
        assert result.actions.dtype == np.float32
        np.testing.assert_array_equal(result.actions[:, 0], np.full(result.steps, episode))
        np.testing.assert_array_equal(result.actions[:, 1], np.full(result.steps, np.float32(draw)))
        assert len(result.seconds_inference) == -(-result.steps // 2)
        assert result.batch == num_envs
        assert min(result.seconds_inference.values()) > 0


def test_a_free_slot_takes_the_next_trial_and_its_instruction():
    simulator, policy = Counter(2), Echo()
    rollout(policy, simulator, trials(4))
    assert simulator.begun == [(0, 0), (1, 1), (0, 2), (1, 3)]
    assert all(text == f"count {episode}" for batch in policy.seen for episode, text in batch)


def test_later_episodes_finish_first_without_changing_the_order():
    order = []
    reverse = list(reversed(trials(4)))
    results = rollout(Echo(), Counter(4), reverse, progress=lambda r, done, total: order.append(r.trial.start.episode))
    assert order == [0, 1, 2, 3]
    assert [r.trial for r in results] == reverse


def test_calls_are_shared_by_the_batch():
    results = rollout(Echo(), Counter(2), trials(2))
    assert [sorted(r.seconds_inference) for r in results] == [[0, 1], [0, 1, 2]]
    assert results[0].seconds_inference[1] == results[1].seconds_inference[1]


class Faulty(Echo):
    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def act(self, observation):
        return self.fault(super().act(observation).action)


def _nan(action):
    action[1, 3, 1] = np.nan
    return Chunk(action=action, exec_horizon=2)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (_nan, r"Faulty returned nan for 'gripper' \(batch entry 1, step 3"),
        (lambda a: Chunk(action=a[:1], exec_horizon=2), r"Faulty .* shape \(1, 4, 2\), expected \(2, H, 2\)"),
        (lambda a: Chunk(action=a[..., :1], exec_horizon=2), r"shape \(2, 4, 1\)"),
        (lambda a: Chunk(action=a[:, 0], exec_horizon=1), r"shape \(2, 2\)"),
        (lambda a: Chunk(action=a, exec_horizon=5), r"Faulty returned exec_horizon 5, expected 1 to 4"),
        (lambda a: Chunk(action=a, exec_horizon=0), r"exec_horizon 0"),
    ],
)  # fmt: skip
def test_a_faulty_policy_is_named(fault, message):
    with pytest.raises(KinemaError, match=message):
        rollout(Faulty(fault), Counter(2), trials(2))


def test_a_missing_camera_is_named():
    class Renamed(Counter):
        def observe(self):
            given = super().observe()
            given["image.frnt"] = given.pop("image.front")
            return given

    with pytest.raises(SpecMismatch, match=r"Echo observes 'image.front'.*did you mean 'image.frnt'"):
        rollout(Echo(), Renamed(1), trials(1))


def test_too_short_a_history_is_named():
    policy = Echo()
    policy.obs_horizon = 3
    with pytest.raises(SpecMismatch, match="the simulator gives 2 steps, the policy observes 3"):
        rollout(policy, Counter(1), trials(1))


def test_a_simulator_that_stands_still_is_an_error_not_an_endless_loop():
    class Stuck(Counter):
        def length(self, slot):
            return self.count[slot]

        def step(self, action):
            step = super().step(action)
            return Step(observation=step.observation, success=step.success, done=~step.done, executed=step.executed)

    with pytest.raises(KinemaError, match="ran 0 of 2 steps in slot 0"):
        rollout(Echo(), Stuck(1), trials(1))


def test_no_trials():
    with pytest.raises(KinemaError, match="no trials"):
        rollout(Echo(), Counter(1), [])


class Watcher(Echo):
    """Acts by the mean brightness it sees."""

    def act(self, observation):
        images = observation["image.front"]
        assert images.dtype == np.uint8
        brightness = images.reshape(len(images), -1).mean(1, dtype=np.float64)
        return Chunk(action=np.tile(brightness[:, None, None], (1, 4, 2)).astype(np.float32), exec_horizon=2)


def test_noise_cameras_replace_every_image_by_noise_of_the_episode_alone():
    def brightness(num_envs, seed):
        results = rollout(NoiseCameras(Watcher(), seed), Counter(num_envs), trials(5))
        return [result.actions[:, 0].tolist() for result in results]

    alone, batch = brightness(1, seed=3), brightness(4, seed=3)
    assert alone == batch
    assert alone != brightness(1, seed=4)
    drawn = np.array([step for actions in alone for step in actions[::2]])
    assert len(np.unique(drawn)) > 15
    assert 90 < drawn.mean() < 165


def test_noise_is_uniform_over_all_byte_values():
    policy = NoiseCameras(Watcher(), 0)
    images = policy._images((4, 1, 64, 64, 3))
    counts = np.bincount(images.ravel(), minlength=256)
    assert counts.min() > 100
    assert abs(images.mean() - 127.5) < 1.5


def test_noise_cameras_need_cameras():
    class Sightless(Echo):
        spec = RobotSpec(embodiment="counter", rate_hz=10.0, observation=ObservationSpec(), action=ACTION)

    with pytest.raises(KinemaError, match="Sightless has no cameras"):
        NoiseCameras(Sightless(), 0)
