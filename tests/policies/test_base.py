"""The composition: order of conditions, noise that belongs to an episode, and horizons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinema.actions.bins import Bins
from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.heads.autoregressive import Autoregressive
from kinema.heads.base import HeadConfig
from kinema.heads.categorical import Categorical
from kinema.heads.consistency import Consistency
from kinema.heads.diffusion import Diffusion
from kinema.heads.energy import Energy
from kinema.heads.flow import Flow
from kinema.heads.gmm import Gmm
from kinema.heads.per_embodiment import Part, PerEmbodiment
from kinema.heads.regression import Regression
from kinema.nets.base import Encoder, EncoderConfig, Tokens
from kinema.nets.denoisers.mlp import Mlp
from kinema.nets.encoders.film_cnn import FilmCnn
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.encoders.words import Words
from kinema.nets.trunks.fusion import Fusion
from kinema.policies.base import ComposedPolicy, PolicyConfig, to_tensor
from kinema.policies.film_flow import film_flow
from kinema.policies.network import Network, fingerprint
from kinema.transforms.normalise import Normalise

ROBOT = RobotSpec(
    embodiment="arm",
    rate_hz=10.0,
    observation=ObservationSpec(
        cameras=(Camera(name="front", height=16, width=16), Camera(name="spare", height=16, width=16)),
        vectors=(Vector(name="proprioception", components=("x",), units=("m",), frame="world"),),
        instruction=True,
    ),
    action=ActionSpec(
        components=("dx", "dy"),
        units=("cm", "cm"),
        frame="world",
        kind="delta",
        integrator="controller",
        low=(-1.0, -0.1),
        high=(1.0, 0.1),
    ),
)
CONFIG = PolicyConfig(
    encoders={
        "instruction": Words(buckets=32),
        "front": FilmCnn(camera="front", channels=(8, 8), strides=(2, 1), keypoints=4),
        "proprioception": Proprioception(hidden=8),
    },
    trunk=Fusion(blocks=1),
    head=Flow(denoiser=Mlp(hidden=16, blocks=1), steps=3),
    width=16,
    pred_horizon=4,
    exec_horizon=2,
)

BOUNDED: list[HeadConfig] = [
    Gmm(), Energy(), Categorical(), Autoregressive(), Diffusion(clip=1.0), Consistency(teacher=Diffusion(clip=1.0)),
    PerEmbodiment(parts={"arm": Part(head=Gmm(), action_width=2, pred_horizon=4)}),
]  # fmt: skip


def policy_of(config: PolicyConfig = CONFIG) -> ComposedPolicy:
    torch.manual_seed(0)
    return ComposedPolicy(config, ROBOT, Network(config, config.needs(ROBOT)))


def observation(*seeds: int) -> dict[str, Any]:
    rngs = [np.random.default_rng(seed) for seed in seeds]
    return {
        "image.front": np.stack([rng.integers(0, 256, (1, 16, 16, 3), np.uint8) for rng in rngs]),
        "vector.proprioception": np.stack([rng.normal(size=(1, 1)).astype(np.float32) for rng in rngs]),
        "instruction": [f"push number {seed}" for seed in seeds],
    }


def test_the_noise_of_an_episode_does_not_depend_on_the_batch() -> None:
    policy = policy_of()
    policy.reset([0, 1, 2], seeds=[5, 6, 7])
    first, second = (policy.act(observation(1, 2, 3)).action for _ in range(2))
    policy.reset([0], seeds=[6])
    assert np.allclose(policy.act(observation(2)).action[0], first[1], atol=1e-6)
    assert np.allclose(policy.act(observation(2)).action[0], second[1], atol=1e-6)
    assert not np.allclose(first[1], second[1], atol=1e-3), "every chunk has its own noise"
    # Only the entries that are named begin anew; the others go on.
    policy.reset([0, 1, 2], seeds=[5, 6, 7])
    policy.act(observation(1, 2, 3))
    policy.reset([2], seeds=[5])
    again = policy.act(observation(1, 2, 1)).action
    assert np.allclose(again[0], second[0], atol=1e-6) and np.allclose(again[2], first[0], atol=1e-6)


def test_reset_without_seeds_repeats_itself() -> None:
    policy = policy_of()
    first = policy.act(observation(1, 2)).action
    assert not np.array_equal(policy.act(observation(1, 2)).action, first)
    policy.reset()
    assert np.array_equal(policy.act(observation(1, 2)).action, first)
    with pytest.raises(KinemaError, match="reset: 1 seeds for 2 batch entries"):
        policy.reset([0, 1], seeds=[3])


def test_actions_are_clipped_to_the_bounds_of_each_component() -> None:
    wide = {"action": {"mean": np.array([0.0, 5.0]), "std": np.array([50.0, 1.0])}}
    config = replace(CONFIG, transforms=(Normalise(modes={"action": "mean_std"}),)).fit(lambda before: wide)
    chunk = policy_of(config).act(observation(1, 2, 3))
    assert chunk.action.shape == (3, 4, 2) and chunk.exec_horizon == 2
    assert (np.abs(chunk.action[..., 0]) <= 1).all() and np.abs(chunk.action[..., 0]).max() == 1
    assert (chunk.action[..., 1] == np.float32(0.1)).all()


def test_only_what_the_policy_reads_is_asked_for() -> None:
    policy = policy_of()
    assert policy.spec.observation.keys == ("image.front", "vector.proprioception", "instruction")
    extra = {**observation(1), "image.spare": np.zeros((1, 1, 16, 16, 3), np.uint8)}
    with pytest.raises(SpecMismatch, match=r"unexpected observation 'image\.spare'"):
        policy.act(extra)
    with pytest.raises(SpecMismatch, match="the observation is empty"):
        policy.act({})


@dataclass(frozen=True, kw_only=True)
class Probe(EncoderConfig):
    """Two constant tokens; remembers what it was conditioned on."""

    value: float
    condition: str | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        return ("vector.proprioception",)

    def build(self, spec: ObservationSpec, *, obs_horizon: int, width: int) -> ProbeEncoder:
        return ProbeEncoder(self.value, width)


class ProbeEncoder(Encoder):
    tokens = 2

    def __init__(self, value: float, width: int) -> None:
        super().__init__()
        self.values = torch.tensor([value, value + 1.0])[:, None].expand(2, width)
        self.given: Tensor | None = None

    def forward(self, sample: Mapping[str, Any], condition: Tensor | None) -> Tokens:
        self.given = condition
        return Tokens.present(self.values.expand(len(sample["vector.proprioception"]), -1, -1))


def test_conditions_are_the_mean_tokens_of_the_named_encoder_and_tokens_keep_their_order() -> None:
    probes = {"a": Probe(value=1.0), "b": Probe(value=10.0, condition="a"), "c": Probe(value=100.0, condition="b")}
    config = replace(CONFIG, encoders=probes, head=Regression(blocks=1))
    network = Network(config, config.needs(ROBOT))
    context = network.context({"vector.proprioception": torch.zeros(3, 1, 1)}, torch.Generator())
    assert network.encoders["a"].given is None
    assert torch.equal(network.encoders["b"].given, torch.full((3, 16), 1.5))
    assert torch.equal(network.encoders["c"].given, torch.full((3, 16), 10.5))
    assert context.tokens[0, :, 0].tolist() == [1.0, 2.0, 10.0, 11.0, 100.0, 101.0]
    assert context.mask.all() and context.readout["action"].shape == (3, 1, 16)
    with pytest.raises(KinemaError, match="'b' is conditioned on 'a', which is not an earlier encoder; earlier: none"):
        replace(CONFIG, encoders={"b": probes["b"], "a": probes["a"]})
    with pytest.raises(KinemaError, match="conditioned on 'aaa', which is not an earlier encoder; did you mean 'aa'"):
        replace(CONFIG, encoders={"aa": Probe(value=0.0), "b": Probe(value=0.0, condition="aaa")})


@pytest.mark.parametrize("change", [{"exec_horizon": 5}, {"exec_horizon": 0}, {"obs_horizon": 0}])
def test_impossible_horizons(change: dict[str, int]) -> None:
    with pytest.raises(KinemaError, match="expected obs >= 1 and 1 <= exec <= pred"):
        replace(CONFIG, **change)


def test_needs_and_reads() -> None:
    assert CONFIG.reads == ("instruction", "image.front", "vector.proprioception")
    lacking = replace(ROBOT, observation=replace(ROBOT.observation, vectors=()))
    with pytest.raises(SpecMismatch, match=r"no observation 'vector\.proprioception'"):
        CONFIG.needs(lacking)


def test_loss_carries_the_mask() -> None:
    network = policy_of().network
    batch = {key: to_tensor(value, torch.device("cpu")) for key, value in observation(1, 2).items()}
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    loss = network.loss({**batch, "action": torch.zeros(2, 4, 2), "mask": mask}, torch.Generator().manual_seed(0))
    assert loss.shape == (2, 4) and torch.equal(loss != 0, mask)


def test_a_number_of_its_own_counts_in_a_fingerprint() -> None:
    """A buffer without axes, such as a count of steps, cannot be looked at as bytes before it is flat."""
    policy = policy_of()
    policy.network.register_buffer("count", torch.zeros((), dtype=torch.int64))
    before = fingerprint(policy.config, policy.spec, policy.network)
    policy.network.count += 1
    assert fingerprint(policy.config, policy.spec, policy.network) != before


@pytest.mark.parametrize("head", BOUNDED, ids=lambda head: type(head).__name__)
def test_heads_that_end_at_one_are_not_given_more(head: HeadConfig) -> None:
    def scaled(mode: str, **changes: Any) -> PolicyConfig:
        return replace(CONFIG, transforms=(Normalise(modes={"action": mode}),), **changes)

    assert film_flow(cameras=("front",), head=head).transforms[0].modes["action"] == "min_max"
    for mode in ("min_max", "quantile_clipped"):
        scaled(mode, head=head)
    for mode in ("mean_std", "quantile"):
        with pytest.raises(KinemaError, match=rf"needs actions in \[-1, 1\]; normalising them by '{mode}' leaves"):
            scaled(mode, head=head)


@pytest.mark.parametrize("head", [Flow(), Regression(), Categorical(codec=Bins(convention="rt1", low=-5, high=5))])
def test_other_heads_take_any_scale(head: HeadConfig) -> None:
    assert film_flow(cameras=("front",), head=head).transforms[0].modes["action"] == "mean_std"


def test_fingerprints_tell_weights_and_configurations_apart() -> None:
    first, second = policy_of(), policy_of()

    def identity(policy: ComposedPolicy) -> str:
        return fingerprint(policy.config, policy.spec, policy.network)

    assert identity(first) == identity(second) and len(identity(first)) == 64
    other = replace(first.config, exec_horizon=1)
    assert fingerprint(other, first.spec, first.network) != identity(first)
    with torch.no_grad():
        next(second.network.parameters()).flatten()[0] += 1e-6
    assert identity(first) != identity(second)
