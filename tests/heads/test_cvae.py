"""ACT against LeRobot's, its KL against torch's, its size against the published, and what z is for on the Fork."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from kinema.core.errors import KinemaError
from kinema.core.rng import generator
from kinema.core.spec import ActionSpec, ObservationSpec, RobotSpec, Vector
from kinema.heads._losses import entry_mean
from kinema.heads.cvae import Cvae, CvaeHead, kl
from kinema.nets.base import Context
from kinema.nets.detr import fixed_positions
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.trunks.transformer import Transformer
from kinema.policies.base import PolicyConfig
from kinema.policies.network import Network
from kinema.sim.fork import Fork

GOLDEN = Path(__file__).resolve().parents[1] / "goldens" / "act" / "act.npz"
NAMES = (
    (r"^vae_encoder_cls_embed", "head.read_out"),
    (r"^vae_encoder_robot_state_input_proj", "encoders.style.layers"),
    (r"^vae_encoder_action_input_proj", "head.read_action"),
    (r"^vae_encoder_latent_output_proj", "head.to_latent"),
    (r"^vae_encoder\.layers", "head.posterior"),
    (r"^encoder_robot_state_input_proj", "encoders.state.layers"),
    (r"^encoder_env_state_input_proj", "encoders.environment.layers"),
    (r"^encoder_latent_input_proj", "head.from_latent"),
    (r"^encoder_1d_feature_pos_embed", "trunk.positions"),
    (r"^encoder\.layers", "trunk.layers"),
    (r"^decoder\.layers\.(\d+)\.norm2", r"head.decoder.\1.norm_memory"),
    (r"^decoder\.layers\.(\d+)\.norm3", r"head.decoder.\1.norm_mlp"),
    (r"^decoder\.layers", "head.decoder"),
    (r"^decoder\.norm", "head.norm"),
    (r"^decoder_pos_embed", "head.queries"),
    (r"^action_head", "head.project"),
    (r"self_attn", "attend_self"),
    (r"multihead_attn", "attend_memory"),
    (r"linear1", "mlp.0"),
    (r"linear2", "mlp.3"),
    (r"\.norm1", ".norm_self"),
    (r"\.norm2", ".norm_mlp"),
)
"""LeRobot's names as patterns, in order, to kinema's."""


def vector(name: str, size: int) -> Vector:
    components = tuple(f"{name}{i}" for i in range(size))
    return Vector(name=name, components=components, units=("rad",) * size, frame="base")


def robot(state: int, environment: int, actions: int) -> RobotSpec:
    vectors = (vector("state", state),) + ((vector("environment", environment),) if environment else ())
    action = ActionSpec(
        components=tuple(f"j{i}" for i in range(actions)),
        units=("rad",) * actions,
        frame="base",
        kind="joint position",
        integrator="none",
        low=(-9.0,) * actions,
        high=(9.0,) * actions,
    )
    return RobotSpec(embodiment="arms", rate_hz=50.0, observation=ObservationSpec(vectors=vectors), action=action)


def act(*, width: int, horizon: int, environment: bool, sizes: Mapping[str, Any], **head: Any) -> PolicyConfig:
    """Return ACT without cameras: the state is projected once for the trunk and once for the posterior."""
    linear = {
        "style": Proprioception(vector="state", hidden=None),
        "state": Proprioception(vector="state", hidden=None),
        "environment": Proprioception(vector="environment", hidden=None),
    }
    return PolicyConfig(
        encoders={name: encoder for name, encoder in linear.items() if environment or name != "environment"},
        trunk=Transformer(layers=head.pop("layers", 4), **sizes),
        head=Cvae(state="style", **sizes, **head),
        width=width,
        pred_horizon=horizon,
        exec_horizon=1,
    )


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(value) if value.ndim else float(value) for name, value in arrays.items()}


def renamed(golden: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    found = {}
    for name, value in golden.items():
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            for pattern, ours in NAMES:
                name = re.sub(pattern, ours, name)
            found[name] = value
    return found


def lerobot_sized(golden: Mapping[str, Any], **changes: Any) -> Network:
    """Return the network with LeRobot's weights."""
    sizes = {"heads": 2, "hidden": 24, "dropout": 0.0}
    config = act(width=16, horizon=5, environment=True, sizes=sizes, layers=2, posterior_layers=2, latent=3, **changes)
    network = Network(config, robot(4, 3, 2))
    network.load_state_dict(renamed(golden, "before/"))
    return network


def sample_of(golden: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        "vector.state": golden["observation.state"][:, None],
        "vector.environment": golden["observation.environment_state"][:, None],
        "action": golden["action"],
        "mask": ~golden["action_is_pad"],
    }


@pytest.fixture
def lerobots_noise(golden: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinema.heads.cvae.normal", lambda shape, rng, device: golden["noise"])


def test_forward_is_lerobots(golden: dict[str, Any], lerobots_noise: None) -> None:
    network, sample, rng = lerobot_sized(golden), sample_of(golden), torch.Generator()
    acting = network.head.sample(network.context(sample, rng), rng=rng)
    assert (acting - golden["chunk"]).abs().max() <= 1e-5
    trained = network.context(sample, rng, action=sample["action"], mask=sample["mask"])
    assert (trained.posterior - torch.cat([golden["mean"], golden["log_variance"]], -1)).abs().max() <= 1e-5
    assert (network.head.sample(trained, rng=rng) - golden["chunk_of_posterior"]).abs().max() <= 1e-5
    assert (golden["chunk"] - golden["chunk_of_posterior"]).abs().max() > 0.05, "z matters in this golden"


def test_loss_and_one_step_are_lerobots(golden: dict[str, Any], lerobots_noise: None) -> None:
    network, sample = lerobot_sized(golden), sample_of(golden)
    per_step = network.loss(sample, torch.Generator())
    assert (per_step[~sample["mask"]] == 0).all()
    loss = per_step.sum() / sample["mask"].sum()
    assert loss.item() == pytest.approx(float(golden["loss"]), abs=1e-5)
    assert golden["loss"] == pytest.approx(golden["l1"] + 10 * golden["kl"], abs=1e-5) and golden["kl"] > 0.1
    loss.backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    stepped, before = renamed(golden, "after/"), renamed(golden, "before/")
    for name, parameter in network.named_parameters():
        assert (parameter - stepped[name]).abs().max() <= 1e-5, name
    assert max((stepped[n] - before[n]).abs().max() for n in stepped) > 0.05, "the step moves the parameters"


def test_the_two_reductions(golden: dict[str, Any], lerobots_noise: None) -> None:
    """9 of 15 steps are real: over all entries the absolute error counts 9/15, over the real ones in full."""
    sample = sample_of(golden)
    mask = sample["mask"]
    assert mask.sum() == 9 and mask.numel() == 15

    def mean(**changes: Any) -> float:
        network = lerobot_sized(golden, **changes)
        return float((network.loss(sample, torch.Generator()).sum() / mask.sum()).detach())

    l1 = mean(reduction="real_steps", beta=0.0)
    assert l1 * 9 / 15 == pytest.approx(golden["l1"], abs=1e-5)
    assert mean(reduction="real_steps") == pytest.approx(l1 + 10 * golden["kl"], abs=1e-5)


def test_kl_is_torchs() -> None:
    rng = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 5, 32, generator=rng)
    ours = kl(mean, log_variance)
    theirs = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(-1)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert kl(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0
    by_hand = kl(torch.tensor([[2.0]]), torch.tensor([[0.0]])).item()
    assert by_hand == 2.0, "log sigma^2, not log sigma: KL(N(2, 1) || N(0, 1)) = 2"


def test_what_belongs_to_a_chunk_is_spread_over_its_real_steps() -> None:
    mask = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    spread = entry_mean(torch.tensor([3.0, 5.0, 7.0]), mask)
    assert (spread[~mask] == 0).all()
    assert spread[0].tolist() == pytest.approx([2.0] * 3) and spread[1, 0].item() == pytest.approx(10.0)
    assert spread.sum() / mask.sum() == 4.0, "the mean of 3 and 5: entry 2 has no real step"


def test_positions_are_those_of_the_transformer() -> None:
    table = fixed_positions(7, 6, torch.device("cpu")).double().numpy()
    for place in range(7):
        for pair in range(3):
            angle = place / 10000 ** (2 * pair / 6)
            assert table[place, 2 * pair : 2 * pair + 2] == pytest.approx([np.sin(angle), np.cos(angle)], abs=1e-6)


def test_the_state_goes_to_the_head_alone_and_only_in_training() -> None:
    sizes = {"heads": 2, "hidden": 8, "dropout": 0.0}
    config = act(width=8, horizon=3, environment=False, sizes=sizes, posterior_layers=1, layers=1, latent=2)
    torch.manual_seed(0)
    network = Network(config, robot(4, 0, 2)).eval()
    sample = {"vector.state": torch.randn(2, 1, 4), "action": torch.randn(2, 3, 2), "mask": torch.ones(2, 3) > 0}
    rng = torch.Generator()
    acting = network.context(sample, rng)
    assert acting.tokens.shape == (2, 2, 8) and acting.posterior is None, "z and the state: the style token stays out"
    with torch.no_grad():
        network.encoders["style"].layers.weight.add_(1.0)
    assert torch.equal(network.context(sample, rng).tokens, acting.tokens)
    drawn = replace(config, head=replace(config.head, prior="normal"))
    torch.manual_seed(0)
    other = Network(drawn, robot(4, 0, 2)).eval()
    chunks = [other.head.sample(other.context(sample, rng), rng=rng) for _ in range(2)]
    assert (chunks[0] - chunks[1]).abs().max() > 1e-3


def test_meta_size_is_lerobots(golden: dict[str, Any]) -> None:
    """At the published size, 52 M with the camera's ResNet-18, of which nothing but the camera is missing here."""
    with torch.device("meta"):
        sizes = {"heads": 8, "hidden": 3200, "dropout": 0.1}
        config = act(width=512, horizon=100, environment=False, sizes=sizes)
        network = Network(config, robot(14, 0, 14))
    count = sum(p.numel() for p in network.parameters())
    assert count == golden["parameters"] - golden["parameters_of_images"] == 40_184_014
    assert golden["parameters"] == pytest.approx(52e6, rel=0.02)


def test_wrong_settings_are_named() -> None:
    def build(**changes: Any) -> CvaeHead:
        return Cvae(**{"heads": 2, **changes}).build(action_width=2, pred_horizon=3, width=8)

    with pytest.raises(KinemaError, match="unknown cvae prior 'nomal'; did you mean 'normal'"):
        build(prior="nomal")
    with pytest.raises(KinemaError, match="unknown cvae reduction 'mean'"):
        build(reduction="mean")
    with pytest.raises(KinemaError, match="beta -1"):
        build(beta=-1)
    with pytest.raises(KinemaError, match="width 8 in 3 heads"):
        build(heads=3)
    head, tokens = build(), torch.zeros(1, 2, 8)
    context = Context(tokens=tokens, mask=torch.ones(1, 2, dtype=torch.bool), readout={})
    with pytest.raises(KinemaError, match="its own posterior has conditioned"):
        head.loss(context, torch.zeros(1, 3, 2), torch.ones(1, 3, dtype=torch.bool), rng=torch.Generator())
    config = act(width=8, horizon=3, environment=False, sizes={"heads": 2, "hidden": 8, "dropout": 0.0})
    with pytest.raises(KinemaError, match="reads encoder 'stile', which is not there; did you mean 'style'"):
        Network(replace(config, head=Cvae(state="stile", heads=2)), robot(4, 0, 2))


FORK = Cvae(latent=8, prior="normal", posterior_layers=1, heads=4, hidden=64, dropout=0.0)


def trained(beta: float, steps: int) -> tuple[Fork, Any]:
    """Return the fork and a head trained alone on it, at a rate that stays high: z comes into use late."""
    import fork_fit

    fork = Fork(horizon=8)
    torch.manual_seed(0)
    alone = fork_fit.Alone(replace(FORK, beta=beta), fork, 32)
    optimiser = torch.optim.Adam(alone.parameters(), lr=3e-3)
    data, rng = generator("cvae", "data"), torch.Generator().manual_seed(0)
    for _ in range(steps):
        optimiser.zero_grad()
        alone.loss(torch.from_numpy(fork.chunks(64, data)), rng).backward()
        optimiser.step()
    return fork, alone.eval()


@torch.no_grad()
def sampled(alone: Any, count: int) -> np.ndarray:
    return alone.sample(count, torch.Generator().manual_seed(0)).numpy()


def test_z_holds_the_way_on_the_fork() -> None:
    """With a small beta draws of z are draws of the way; z = 0 is one smooth chunk."""
    fork, alone = trained(0.03, 250)
    assert fork.judge(sampled(alone, 500)).cover >= 0.3
    alone.head.config = replace(alone.head.config, prior="zero")
    chunks = sampled(alone, 5)
    assert np.ptp(chunks, axis=0).max() < 1e-5
    assert np.linalg.norm(np.diff(chunks[0], axis=0), axis=-1).max() < 0.5, "steps of the demonstrations reach 0.3"


def test_a_large_beta_leaves_nothing_in_z() -> None:
    """The authors' beta of 10 at this size: the posterior is the prior, draws are one chunk through the obstacle."""
    fork, alone = trained(10.0, 100)
    chunks = torch.from_numpy(fork.chunks(64, generator("cvae", "test")))
    _, posterior = alone.head.condition(None, chunks, torch.ones(64, 8, dtype=torch.bool), rng=torch.Generator())
    assert kl(*posterior.chunk(2, -1)).mean() < 0.01
    assert fork.judge(sampled(alone, 500)).cover <= 0.05


def test_the_loss_is_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinema.heads.cvae.normal", lambda shape, rng, device: torch.randn(*shape, device=device))
    head, rng = replace(FORK, reduction="all_steps").build(action_width=2, pred_horizon=4, width=8), torch.Generator()
    tokens, action, mask = torch.randn(3, 2, 8), torch.randn(3, 4, 2), torch.ones(3, 4, dtype=torch.bool)

    def loss() -> Tensor:
        token, posterior = head.condition(None, action, mask, rng=rng)
        joined = torch.cat([token, tokens], dim=1)
        present = torch.ones(joined.shape[:2], dtype=torch.bool)
        return head.loss(Context(joined, present, {}, posterior=posterior), action, mask, rng=rng)

    torch._dynamo.reset()
    explained = torch._dynamo.explain(loss)()
    assert explained.graph_count == 1 and explained.graph_break_count == 0, explained.break_reasons
