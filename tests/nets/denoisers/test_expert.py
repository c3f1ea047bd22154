"""pi0's expert: what reads what, the trunk untouched by actions, cached as uncached, and LeRobot's numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.heads.consistency import Consistency
from kinema.heads.flow import Flow, FlowHead
from kinema.heads.rectified import Rectified
from kinema.nets.attention import after, block_mask
from kinema.nets.base import Context, Group, Tokens
from kinema.nets.conditioning import Guidance, repeated
from kinema.nets.denoisers.expert import Expert, ExpertDenoiser
from kinema.nets.denoisers.mlp import Mlp
from kinema.nets.language.decoder import DecoderModel
from kinema.nets.language.sizes import Decoder
from kinema.nets.trunks.language_model import LanguageModel, LanguageModelTrunk

TRUNK = Decoder(family="gemma", layers=3, width=32, hidden=48, heads=8, kv_heads=1, head_width=8, vocabulary=24)
SIZE = replace(TRUNK, width=16, hidden=40, vocabulary=0)
GOLDEN = Path(__file__).resolve().parents[2] / "goldens" / "pi0.npz"
HORIZON, ACTIONS = 6, 32


@pytest.mark.parametrize("begins", ["111111", "000111", "1010100100"])
def test_blocks_are_read_as_in_the_examples_of_openpi(begins: str) -> None:
    """Causal, prefix-LM, and four blocks: a token reads another unless a block begins after it, up to itself."""
    expected = [
        [not any(begins[k] == "1" for k in range(reader + 1, read + 1)) for read in range(len(begins))]
        for reader in range(len(begins))
    ]
    assert block_mask(torch.tensor([c == "1" for c in begins])).tolist() == expected


def test_state_and_actions_read_what_openpi_lets_them_read() -> None:
    """Against the rule of one sequence: prefix of which some is absent, one state, three actions."""
    present = torch.tensor([[True, False, True, True], [True, True, False, False]])
    begins = [False] * 4 + [True] + [True, False, False]
    mask, positions = after(present, torch.tensor(begins[4:]))
    for entry in range(2):
        there = [*present[entry].tolist(), *[True] * 4]
        for reader in range(4, 8):
            allowed = [there[k] and sum(begins[: k + 1]) <= sum(begins[: reader + 1]) for k in range(8)]
            assert mask[entry, reader - 4].tolist() == allowed
            assert positions[entry, reader - 4] == sum(there[: reader + 1]) - 1


def prefix(batch: int = 2, seed: int = 3) -> Tokens:
    rng = torch.Generator().manual_seed(seed)
    mask = torch.ones(batch, 9, dtype=torch.bool)
    mask[0, 5:] = False
    mask[1, 2:4] = False
    return Tokens(torch.randn(batch, 9, TRUNK.width, generator=rng), mask)


def built(seed: int = 0) -> tuple[LanguageModelTrunk, ExpertDenoiser]:
    torch.manual_seed(seed)
    trunk = LanguageModel(size=TRUNK).build([Group(name="seen", tokens=9)], width=TRUNK.width)
    denoiser = Expert(size=SIZE).build(action_width=ACTIONS, pred_horizon=HORIZON, width=TRUNK.width)
    for module in (trunk, denoiser):
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.2)
    return trunk.eval(), denoiser.eval()


def given(seed: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(2, HORIZON, ACTIONS, generator=rng)
    return x, torch.tensor([0.25, 0.8]), torch.randn(2, 1, SIZE.width, generator=rng)


def turned(values: Tensor, positions: Tensor) -> Tensor:
    """Turn pairs (i, i + half) one by one as complex numbers (Su et al. 2021)."""
    half = values.shape[-1] // 2
    rate = torch.tensor([10_000.0 ** (-i / half) for i in range(half)], dtype=torch.float64)
    turn = torch.polar(torch.ones(1, dtype=torch.float64), positions[..., None].double() * rate)
    made = torch.complex(values[..., :half].double(), values[..., half:].double()) * turn[:, :, None]
    return torch.cat([made.real, made.imag], dim=-1).float()


def joint(models: Sequence[DecoderModel], values: list[Tensor], mask: Tensor, present: Tensor) -> list[Tensor]:
    """Return the outputs of one uncached pass over both sequences, each in its own layers, with one attention."""
    positions, cut = (present.cumsum(1) - 1).clamp(min=0), values[0].shape[1]
    for layers in zip(*(model.layers for model in models), strict=True):
        made: list[list[Tensor]] = [[], [], []]
        for layer, own in zip(layers, values, strict=True):
            attention, normed = layer.self_attn, layer.input_layernorm(own)
            for part, project in zip(made, (attention.q_proj, attention.k_proj, attention.v_proj), strict=True):
                part.append(project(normed).unflatten(-1, (-1, TRUNK.head_width)))
        query, key, value = (torch.cat(part, dim=1) for part in made)
        scores = torch.einsum("bqhd,bkd->bhqk", turned(query, positions), turned(key, positions)[:, :, 0])
        scores = (scores / math.sqrt(TRUNK.head_width)).masked_fill(~mask[:, None], -1e30)
        read = torch.einsum("bhqk,bkd->bqhd", scores.softmax(-1), value[:, :, 0]).flatten(2)
        passed = []
        for layer, own, part in zip(layers, values, read.split([cut, read.shape[1] - cut], dim=1), strict=True):
            own = own + layer.self_attn.o_proj(part)
            passed.append(own + layer.mlp(layer.post_attention_layernorm(own)))
        values = passed
    return [model.norm(own) for model, own in zip(models, values, strict=True)]


def joint_velocity(
    trunk: LanguageModelTrunk, denoiser: ExpertDenoiser, x: Tensor, t: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    tokens = prefix()
    suffix = torch.cat([state, denoiser.actions(x, t)], dim=1)
    begins = torch.tensor([False] * 9 + [True, True] + [False] * (HORIZON - 1))
    present = torch.cat([tokens.mask, torch.ones(2, HORIZON + 1, dtype=torch.bool)], dim=1)
    mask = block_mask(begins) & present[:, None] | torch.eye(len(begins), dtype=torch.bool)
    before, after_it = joint((trunk.model, denoiser.model), [tokens.values, suffix], mask, present)
    return before, denoiser.actions.leave(after_it[:, -HORIZON:])


@torch.no_grad()
def test_cached_equals_one_pass_over_everything() -> None:
    (trunk, denoiser), (x, t, state) = built(), given()
    context = replace(trunk(prefix()), private=state)
    _, velocity = joint_velocity(trunk, denoiser, x, t, state)
    assert velocity.abs().mean() > 0.05
    assert (denoiser(x, t, context) - velocity).abs().max() <= 1e-5
    twice = denoiser(x.repeat_interleave(3, 0), t.repeat_interleave(3), repeated(context, 3))
    assert (twice - velocity.repeat_interleave(3, 0)).abs().max() <= 1e-5


@torch.no_grad()
def test_actions_change_nothing_before_them() -> None:
    (trunk, denoiser), (x, t, state) = built(), given()
    first, _ = joint_velocity(trunk, denoiser, x, t, state)
    second, _ = joint_velocity(trunk, denoiser, x + 1.0, t * 0.5, state - 1.0)
    assert torch.equal(first, second)
    context = replace(trunk(prefix()), private=state)
    assert context.kv is not None
    before = [kept.clone() for pair in context.kv for kept in pair]
    once = denoiser(x, t, context)
    denoiser(x + 1.0, t, context)
    assert all(map(torch.equal, [kept for pair in context.kv for kept in pair], before))
    assert torch.equal(once, denoiser(x, t, context))


@torch.no_grad()
def test_every_action_reads_every_other_and_the_state() -> None:
    (trunk, denoiser), (x, t, state) = built(), given()
    context = replace(trunk(prefix()), private=state)
    plain = denoiser(x, t, context)
    for step in (0, HORIZON - 1):
        changed = x.clone()
        changed[:, step] += 1.0
        assert ((denoiser(changed, t, context) - plain).abs().amax((0, 2)) > 1e-5).all()
    assert ((denoiser(x, t, replace(context, private=state + 1)) - plain).abs().amax((0, 2)) > 1e-5).all()
    assert denoiser(x, t, replace(context, private=None)).shape == x.shape


def golden_parts() -> tuple[dict[str, Tensor], LanguageModelTrunk, FlowHead, nn.Linear]:
    with np.load(GOLDEN) as stored:
        arrays = {name: torch.from_numpy(stored[name]) for name in stored.files}
    arrays = {name: value.float() if value.dtype == torch.float16 else value for name, value in arrays.items()}
    groups = [Group(name="images", tokens=10), Group(name="words", tokens=7)]
    trunk = LanguageModel(size=TRUNK).build(groups, width=TRUNK.width)
    head = Flow(denoiser=Expert(size=SIZE), state="state").build(
        action_width=ACTIONS, pred_horizon=HORIZON, width=TRUNK.width
    )
    denoiser = head.net.denoiser
    assert isinstance(denoiser, ExpertDenoiser)
    own = {"action_in_proj": "enter", "action_time_mlp_in": "mix.0", "action_time_mlp_out": "mix.2"}
    actions = {f"{ours}.{kind}": arrays[f"{name}.{kind}"] for name, ours in own.items() for kind in ("weight", "bias")}
    # LeRobot predicts noise - action.
    actions |= {f"leave.{kind}": -arrays[f"action_out_proj.{kind}"] for kind in ("weight", "bias")}
    denoiser.actions.load_state_dict(actions)
    denoiser.model.load_state_dict({k[7:]: v for k, v in arrays.items() if k.startswith("expert.")})
    trunk.model.load_state_dict({k[6:]: v for k, v in arrays.items() if k.startswith("trunk.")})
    project = nn.Linear(32, SIZE.width)
    project.load_state_dict({kind: arrays[f"state_proj.{kind}"] for kind in ("weight", "bias")})
    return arrays, trunk.eval(), head.eval(), project


@torch.no_grad()
def test_loss_and_samples_are_lerobots() -> None:
    arrays, trunk, head, project = golden_parts()
    images, words, present = (arrays[f"given.{name}"] for name in ("images", "words", "present"))
    shown = arrays["given.shown"].T.repeat_interleave(images.shape[2], dim=1)
    values = torch.cat([images.transpose(0, 1).flatten(1, 2), torch.zeros(2, 7, TRUNK.width)], dim=1)
    ids = torch.cat([torch.full((2, 10), -1), torch.where(present, words, -1)], dim=1)
    tokens = Tokens(values, torch.cat([shown, present], dim=1), ids=ids)
    context: Context = replace(trunk(tokens), private=project(arrays["given.state"])[:, None])

    action, noise, t = arrays["given.action"], arrays["given.noise"], 1 - arrays["given.time"]
    velocity = head.velocity(torch.lerp(noise, action, t[:, None, None]), t, context)
    # Components of the loss are up to 30 here; LeRobot's time features are of float64 on a CPU, ours of float32.
    loss = (velocity - (action - noise)).square().mean(-1)
    assert (loss - arrays["loss"].mean(-1)).abs().max() <= 1e-4 and loss.min() > 1
    sampled = head.carry(noise, context)
    assert (sampled - arrays["sampled"]).abs().max() <= 1e-4
    assert (sampled - noise).abs().mean() > 0.1


def test_trunks_that_do_not_fit_are_refused() -> None:
    (trunk, denoiser), (x, t, state) = built(), given()
    context = replace(trunk(prefix()), private=state)
    with pytest.raises(KinemaError, match="keeps its keys and values, such as language-model"):
        denoiser(x, t, replace(context, kv=None))
    assert context.kv is not None
    with pytest.raises(KinemaError, match=r"3 layers with 1 heads of keys, 8 wide, .* 2 layers with 1, 8 wide"):
        denoiser(x, t, replace(context, kv=context.kv[:2]))


def test_a_state_that_nothing_reads_and_guidance_are_refused() -> None:
    sizes = {"action_width": 2, "pred_horizon": 4, "width": 32}
    with pytest.raises(KinemaError, match="Mlp reads no tokens beside the trunk's, so the state 'joints'"):
        Flow(denoiser=Mlp(), state="joints").build(**sizes)
    with pytest.raises(KinemaError, match=r"dropout 0\.1 replaces the trunk's tokens"):
        Flow(denoiser=Expert(size=SIZE), guidance=Guidance(dropout=0.1)).build(**sizes)
    flow = Flow(denoiser=Expert(size=SIZE), state="joints")
    for head in (flow, Rectified(teacher=flow), Consistency(teacher=flow)):
        assert (head.private, head.private_width) == ("joints", SIZE.width)
