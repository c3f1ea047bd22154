"""SmolVLA's expert: which layers do what, their sizes, causal actions, and LeRobot's numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.heads.flow import Flow, FlowHead
from kinema.nets.base import Context, Group, Tokens
from kinema.nets.conditioning import repeated
from kinema.nets.denoisers.interleaved_expert import InterleavedExpert, InterleavedExpertDenoiser, beside
from kinema.nets.language.sizes import SMOLLM2_360M, Decoder
from kinema.nets.trunks.language_model import LanguageModel, LanguageModelTrunk

TRUNK = Decoder(
    family="llama",
    layers=3,
    width=32,
    hidden=48,
    heads=4,
    kv_heads=2,
    head_width=8,
    vocabulary=24,
    rope_theta=10_000.0,  # LeRobot's, whatever the configuration of the language model says
    norm_eps=1e-5,
)
GOLDEN = Path(__file__).resolve().parents[2] / "goldens" / "smolvla.npz"
HORIZON, ACTIONS = 6, 32


def test_sizes_beside_a_trunk_are_those_of_lerobot() -> None:
    """`get_intermediate_size`: 720 -> 480 x 4 = 1920 -> 2048, and 480 -> 320 x 4 = 1280, which is 5 x 256."""
    expert = beside(SMOLLM2_360M)
    assert (expert.width, expert.hidden, expert.layers, expert.vocabulary) == (720, 2048, 32, 0)
    assert (expert.heads, expert.kv_heads, expert.head_width) == (15, 5, 64)
    half = beside(SMOLLM2_360M, share=0.5)
    assert (half.width, half.hidden) == (480, 1280)


def test_every_second_layer_crosses() -> None:
    size = beside(replace(SMOLLM2_360M, layers=16))
    with torch.device("meta"):
        denoiser = InterleavedExpert(size=size).build(action_width=32, pred_horizon=50, width=960)
    kept = size.kv_heads * size.head_width
    for index, layer in enumerate(denoiser.model.layers):
        shape = (kept, kept) if index % 2 else (kept, size.width)
        assert layer.self_attn.k_proj.weight.shape == layer.self_attn.v_proj.weight.shape == shape
        assert layer.self_attn.q_proj.weight.shape == (size.heads * size.head_width, size.width)
    assert len(denoiser.model.layers) == 16
    with pytest.raises(KinemaError, match="joint_every 0 must be at least 1"):
        InterleavedExpert(joint_every=0).build(action_width=2, pred_horizon=4, width=128)


def built(**options: int) -> tuple[Context, InterleavedExpertDenoiser]:
    torch.manual_seed(0)
    trunk = LanguageModel(size=TRUNK).build([Group(name="seen", tokens=7)], width=TRUNK.width)
    denoiser = InterleavedExpert(size=beside(TRUNK), **options).build(
        action_width=ACTIONS, pred_horizon=HORIZON, width=TRUNK.width
    )
    for module in (trunk, denoiser):
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.3)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[0, 4:] = False
    with torch.no_grad():
        return trunk.eval()(Tokens(torch.randn(2, 7, TRUNK.width), mask)), denoiser.eval()


def given() -> tuple[Tensor, Tensor]:
    return torch.randn(2, HORIZON, ACTIONS, generator=torch.Generator().manual_seed(4)), torch.tensor([0.3, 0.7])


@torch.no_grad()
def test_an_action_reads_itself_and_those_before_it() -> None:
    (context, denoiser), (x, t) = built(), given()
    plain = denoiser(x, t, context)
    for step in range(HORIZON):
        changed = x.clone()
        changed[:, step] += 1.0
        difference = (denoiser(changed, t, context) - plain).abs().amax((0, 2))
        assert (difference[:step] == 0).all() and (difference[step:] > 1e-5).all()
    assert (
        denoiser(x.repeat_interleave(2, 0), t.repeat_interleave(2), repeated(context, 2))[::2] - plain
    ).abs().max() < 1e-5


@torch.no_grad()
def test_which_layers_read_keys_as_they_are_and_which_through_projections() -> None:
    """With projections of 0 the values of cross layers are gone, those of joint layers still arrive."""
    (context, denoiser), (x, t) = built(), given()
    assert context.kv is not None
    for index, layer in enumerate(denoiser.model.layers):
        if index % 2:
            nn.init.zeros_(layer.self_attn.v_proj.weight)
    plain = denoiser(x, t, context)
    for index in range(TRUNK.layers):
        kv = [*context.kv]
        kv[index] = (kv[index][0], kv[index][1] + 1.0)
        same = torch.equal(denoiser(x, t, replace(context, kv=tuple(kv))), plain)
        assert same == bool(index % 2)


def golden_parts() -> tuple[dict[str, Tensor], LanguageModelTrunk, FlowHead, nn.Linear]:
    with np.load(GOLDEN) as stored:
        arrays = {name: torch.from_numpy(stored[name]) for name in stored.files}
    arrays = {name: value.float() if value.dtype == torch.float16 else value for name, value in arrays.items()}
    groups = [Group(name="images", tokens=10), Group(name="words", tokens=7), Group(name="state", tokens=1)]
    trunk = LanguageModel(size=TRUNK, apart=("state",)).build(groups, width=TRUNK.width)
    head = Flow(denoiser=InterleavedExpert(size=beside(TRUNK))).build(
        action_width=ACTIONS, pred_horizon=HORIZON, width=TRUNK.width
    )
    denoiser = head.net.denoiser
    assert isinstance(denoiser, InterleavedExpertDenoiser)
    own = {"action_in_proj": "enter", "action_time_mlp_in": "mix.0", "action_time_mlp_out": "mix.2"}
    actions = {f"{ours}.{kind}": arrays[f"{name}.{kind}"] for name, ours in own.items() for kind in ("weight", "bias")}
    # LeRobot predicts noise - action.
    actions |= {f"leave.{kind}": -arrays[f"action_out_proj.{kind}"] for kind in ("weight", "bias")}
    denoiser.actions.load_state_dict(actions)
    denoiser.model.load_state_dict({k[7:]: v for k, v in arrays.items() if k.startswith("expert.")})
    weights = {k[6:]: v for k, v in arrays.items() if k.startswith("trunk.")}
    # LeRobot scales what enters the language model by the root of its width; an importer scales the weights.
    weights["embed_tokens.weight"] = weights["embed_tokens.weight"] * TRUNK.width**0.5
    trunk.model.load_state_dict(weights)
    project = nn.Linear(32, TRUNK.width)
    project.load_state_dict({kind: arrays[f"state_proj.{kind}"] for kind in ("weight", "bias")})
    return arrays, trunk.eval(), head.eval(), project


@torch.no_grad()
def test_loss_and_samples_are_lerobots() -> None:
    arrays, trunk, head, project = golden_parts()
    images, words, present = (arrays[f"given.{name}"] for name in ("images", "words", "present"))
    shown = arrays["given.shown"].T.repeat_interleave(images.shape[2], dim=1)
    state = project(arrays["given.state"])[:, None]
    seen = images.transpose(0, 1).flatten(1, 2) * TRUNK.width**0.5
    values = torch.cat([seen, torch.zeros(2, 7, TRUNK.width), state], dim=1)
    ids = torch.cat([torch.full((2, 10), -1), torch.where(present, words, -1), torch.full((2, 1), -1)], dim=1)
    context = trunk(Tokens(values, torch.cat([shown, present, torch.ones_like(present[:, :1])], dim=1), ids=ids))

    action, noise, t = arrays["given.action"], arrays["given.noise"], 1 - arrays["given.time"]
    velocity = head.velocity(torch.lerp(noise, action, t[:, None, None]), t, context)
    # Components of the loss are up to 30 here; LeRobot's time features are of float64 on a CPU, ours of float32.
    loss = (velocity - (action - noise)).square().mean(-1)
    assert (loss - arrays["loss"].mean(-1)).abs().max() <= 1e-4 and loss.min() > 1
    sampled = head.carry(noise, context)
    assert (sampled - arrays["sampled"]).abs().max() <= 1e-4
    assert (sampled - noise).abs().mean() > 0.1
