"""One trunk, several robots: own widths and horizons, zero gradients for the others, unknown robots by name."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinema.actions.fast import FAST
from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.spec import ActionSpec, ObservationSpec, RobotSpec, Vector
from kinema.heads.autoregressive import Autoregressive
from kinema.heads.cvae import Cvae
from kinema.heads.flow import Flow
from kinema.heads.per_embodiment import Part, PerEmbodiment, PerEmbodimentHead
from kinema.heads.regression import Regression
from kinema.heads.vq_bet import VqBet
from kinema.nets.base import Context
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.trunks.fusion import Fusion
from kinema.policies.base import ComposedPolicy, PolicyConfig
from kinema.policies.network import Network

BATCH, HORIZON, ACTIONS, WIDTH = 6, 5, 3, 8
PARTS = {
    "arm": Part(head=Regression(blocks=1), action_width=3, pred_horizon=5),
    "hand": Part(head=Flow(steps=2), action_width=2, pred_horizon=2),
    "rover": Part(head=VqBet(quantiser_steps=1), action_width=1, pred_horizon=4),
}


def head_of(parts: dict[str, Part] = PARTS) -> PerEmbodimentHead:
    torch.manual_seed(0)
    return PerEmbodiment(parts=parts).build(action_width=ACTIONS, pred_horizon=HORIZON, width=WIDTH)


def context_of(head: PerEmbodimentHead, robots: list[str]) -> Context:
    tokens = torch.randn(len(robots), 1, WIDTH, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(len(robots), 1, dtype=torch.bool)
    return Context(tokens=tokens, mask=mask, readout={"action": tokens}, embodiment=head.pick(robots))


def loss_of(head: PerEmbodimentHead, robots: list[str]) -> Tensor:
    action = torch.randn(len(robots), HORIZON, ACTIONS, generator=torch.Generator().manual_seed(2))
    mask = torch.ones(len(robots), HORIZON, dtype=torch.bool)
    return head.loss(context_of(head, robots), action, mask, rng=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("robot", list(PARTS))
def test_training_one_leaves_the_gradients_of_the_others_at_zero(robot: str) -> None:
    head = head_of()
    for _ in range(2):  # the second step is past the rover's first stage
        head.zero_grad()
        loss_of(head, [robot] * BATCH).sum().backward()
        for name, part in zip(PARTS, head.parts, strict=True):
            largest = max(0.0 if p.grad is None else p.grad.abs().max().item() for p in part.parameters())
            assert largest > 0 if name == robot else largest == 0.0, name


def test_a_robot_without_entries_moves_no_codebook() -> None:
    head = head_of()
    before = head.parts[2].autoencoder.quantiser.codebook.clone()
    loss_of(head, ["arm", "hand", "hand"])
    assert torch.equal(head.parts[2].autoencoder.quantiser.codebook, before)
    head = head_of()
    loss_of(head, ["arm", "rover", "rover"])
    assert not torch.equal(head.parts[2].autoencoder.quantiser.codebook, before)


def test_a_part_counts_the_batches_with_its_own_robot() -> None:
    head = head_of()
    for robots in (["arm", "hand"], ["arm", "rover"], ["hand"]):
        loss_of(head, robots)
    assert head.parts[2].steps.item() == 1
    config = PerEmbodiment(parts=PARTS)
    config.check_steps(2)
    with pytest.raises(KinemaError, match="quantiser_steps 1 leave the predictor none of the run's 1 steps"):
        config.check_steps(1)


def test_what_cannot_be_read_is_counted_among_the_robots_own_rows() -> None:
    """Tokens drawn at random are seldom a chunk of FAST; those of other robots are nobody's chunk."""
    codec = FAST.fit(list(np.random.default_rng(0).normal(size=(50, 5, 2))), scale=4.0, vocabulary=64)
    part = Part(head=Autoregressive(codec=codec, blocks=1, heads=2), action_width=2, pred_horizon=5)
    head = head_of({"wordy": part, "arm": PARTS["arm"]}).eval()
    with pytest.warns(UserWarning, match=r"2 of 2 sampled rows of tokens are no chunk"):
        head.sample(context_of(head, ["arm", "wordy", "arm", "wordy"]), rng=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head.sample(context_of(head, ["arm", "arm"]), rng=torch.Generator().manual_seed(0))


def test_losses_are_those_of_the_parts_and_an_entry_counts_as_a_whole() -> None:
    parts = {
        "long": Part(head=Regression(blocks=1), action_width=3, pred_horizon=5),
        "short": Part(head=Regression(blocks=1), action_width=2, pred_horizon=2),
    }
    head = head_of(parts)
    robots = ["long", "short", "long"]
    loss = loss_of(head, robots)
    context, action = context_of(head, robots), torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(2))
    rng = torch.Generator()
    long, short = (part.sample(context, rng=rng) for part in head.parts)
    for entry in (0, 2):
        assert torch.allclose(loss[entry], (long[entry] - action[entry]).square().mean(-1), atol=1e-6)
    error = (short[1] - action[1, :2, :2]).square().mean(-1)
    assert torch.allclose(loss[1, :2], error * 5 / 2, atol=1e-6) and (loss[1, 2:] == 0).all()
    assert loss[1].mean().item() == pytest.approx(error.mean().item(), rel=1e-5)


def test_samples_have_each_robots_width_and_hold_its_last_step() -> None:
    head = head_of()
    for _ in range(2):  # the rover acts after its first stage
        loss_of(head, ["rover"])
    head.eval()
    robots = ["hand", "arm", "rover"]
    chunk = head.sample(context_of(head, robots), rng=torch.Generator().manual_seed(4))
    assert chunk.shape == (3, HORIZON, ACTIONS)
    assert (chunk[0, :, 2:] == 0).all() and (chunk[0, :, :2] != 0).all() and (chunk[1] != 0).all()
    assert (chunk[2, :, 1:] == 0).all() and (chunk[2, :, 0] != 0).all()
    assert (chunk[0, 2:] == chunk[0, 1]).all() and not torch.equal(chunk[0, 0], chunk[0, 1])
    assert (chunk[2, 4] == chunk[2, 3]).all() and not torch.equal(chunk[2, 2], chunk[2, 3])


def test_wrong_robots_and_parts_are_named() -> None:
    head = head_of()
    with pytest.raises(SpecMismatch, match=r"no head for embodiment 'hnd'; did you mean 'hand'\?\nknown: arm, hand"):
        head.pick(["arm", "hnd"])
    with pytest.raises(KinemaError, match="which embodiment each entry is of"):
        head.sample(replace(context_of(head, ["arm"]), embodiment=None), rng=torch.Generator())
    for name, part, said in (
        ("wide", Part(head=Regression(), action_width=4, pred_horizon=5), "'wide' predicts 5 steps of 4 components"),
        ("long", Part(head=Regression(), action_width=3, pred_horizon=6), "the policy has 5 steps of 3"),
        ("styled", Part(head=Cvae(), action_width=3, pred_horizon=5), "'styled' has a Cvae head, which conditions"),
    ):
        with pytest.raises(KinemaError, match=said):
            head_of({name: part})
    with pytest.raises(KinemaError, match="no part is named"):
        head_of({})


def test_the_network_picks_by_the_samples_robot_and_acts_as_its_own() -> None:
    vector = Vector(name="proprioception", components=("x",), units=("m",), frame="world")
    action = ActionSpec(
        components=("a", "b", "c"),
        units=("m",) * 3,
        frame="world",
        kind="joint position",
        integrator="none",
        low=(-9.0,) * 3,
        high=(9.0,) * 3,
    )
    spec = RobotSpec(embodiment="hand", rate_hz=10.0, observation=ObservationSpec(vectors=(vector,)), action=action)
    config = PolicyConfig(
        encoders={"proprioception": Proprioception(hidden=8)},
        trunk=Fusion(blocks=1),
        head=PerEmbodiment(parts=PARTS),
        width=WIDTH,
        pred_horizon=HORIZON,
        exec_horizon=1,
    )
    torch.manual_seed(0)
    network = Network(config, spec)
    sample: dict[str, Any] = {"vector.proprioception": torch.zeros(2, 1, 1)}
    rng = torch.Generator()
    assert network.context({**sample, "embodiment": ["rover", "arm"]}, rng).embodiment.tolist() == [2, 0]
    assert network.context(sample, rng).embodiment.tolist() == [1, 1]
    with pytest.raises(SpecMismatch, match="no head for embodiment 'arms'"):
        network.context({**sample, "embodiment": ["arms", "arm"]}, rng)
    policy = ComposedPolicy(config, spec, network)
    chunk = policy.act({"vector.proprioception": np.zeros((1, 1, 1), np.float32)})
    assert (chunk.action[..., 2] == 0).all() and (chunk.action[..., :2] != 0).all()


def test_loss_and_sample_are_one_graph_whatever_robots_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_torch(shape: Any, rng: Any, device: torch.device) -> Tensor:
        return torch.randn(*shape, device=device)

    for module in ("nets.noise", "heads.flow"):
        monkeypatch.setattr(f"kinema.{module}.normal", of_torch)
    # The rover's head learns in stages, each a graph of its own.
    head, rng = head_of({name: PARTS[name] for name in ("arm", "hand")}), torch.Generator()
    context = context_of(head, ["arm", "arm", "hand"])
    action, mask = torch.randn(3, HORIZON, ACTIONS), torch.ones(3, HORIZON, dtype=torch.bool)
    torch._dynamo.reset()
    for call in (lambda: head.loss(context, action, mask, rng=rng), lambda: head.sample(context, rng=rng)):
        explained = torch._dynamo.explain(call)()
        assert explained.graph_count == 1 and explained.graph_break_count == 0, explained.break_reasons
