"""VQ-BeT: its two stages in one run, and what codes and offsets are each for."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.heads.vq_bet import VqBet, VqBetHead, focal, held
from kinema.nets.base import Context
from kinema.nets.vq import perplexity
from kinema.sim.fork import Fork
from kinema.train import loop as train
from kinema.train.config import TrainConfig
from kinema.train.dry_run import dry_run
from kinema.train.optim import OptimConfig, build_optimizer
from kinema.train.weights import load_weights


def context_of(readout: Tensor) -> Context:
    mask = torch.ones(readout.shape[:2], dtype=torch.bool)
    return Context(tokens=readout, mask=mask, readout={"action": readout})


def test_focal_loss_by_hand() -> None:
    logits = torch.tensor([[0.25, 0.75]]).log()
    assert focal(logits, torch.tensor([0]), 2.0).item() == pytest.approx(0.75**2 * -np.log(0.25), rel=1e-5)
    assert focal(logits, torch.tensor([1]), 2.0).item() == pytest.approx(0.25**2 * -np.log(0.75), rel=1e-5)
    cross = torch.nn.functional.cross_entropy(logits, torch.tensor([1]))
    assert torch.allclose(focal(logits, torch.tensor([1]), 0.0)[0], cross)


def test_padding_holds_the_last_real_step() -> None:
    action = torch.tensor([[[1.0, 5.0], [2.0, 6.0], [99.0, 99.0], [99.0, 99.0]]])
    steps = torch.tensor([[True, True, False, False]])
    assert held(action, steps)[0].tolist() == [[1.0, 5.0], [2.0, 6.0], [2.0, 6.0], [2.0, 6.0]]
    components = steps[..., None] & torch.tensor([True, False])
    assert held(action, components)[0].tolist() == [[1.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]]


SMALL = VqBet(quantiser_steps=3, codes=4, latent=6, hidden=8)
STEPS, WIDTH = 8, 16


def small_head(config: VqBet = SMALL) -> VqBetHead:
    torch.manual_seed(0)
    return config.build(action_width=2, pred_horizon=STEPS, width=WIDTH)


def batch(number: int, count: int = 32) -> tuple[Context, Tensor, Tensor]:
    """Return a context, chunks and a mask with padding."""
    state, action = demonstrations(count, torch.Generator().manual_seed(number))
    mask = torch.arange(STEPS) < torch.arange(count)[:, None] % STEPS + 1
    return seen(state), action, mask


def demonstrations(count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return states (N, 2) in [-1, 1] and chunks (N, 8, 2) past an obstacle on either side, bent by the state."""
    state = 2 * torch.rand(count, 2, generator=rng) - 1
    side = 2.0 * torch.randint(0, 2, (count, 1), generator=rng) - 1
    t = torch.arange(1, STEPS + 1) / STEPS
    y = 0.6 * side * (math.pi * t).sin() + 0.3 * state[:, 1:] * (2 * math.pi * t).sin()
    return state, torch.stack([t + 0.3 * state[:, :1] * t**2, y], dim=-1)


def seen(state: Tensor) -> Context:
    """Return a readout that knows the state, not the side."""
    project = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(9))
    return context_of((state @ project).tanh()[:, None])


def run(head: VqBetHead, numbers: range) -> list[float]:
    """Return the losses of steps of SGD on the batches `numbers`."""
    losses = []
    for number in numbers:
        head.zero_grad()
        context, action, mask = batch(number)
        loss = head.loss(context, action, mask, rng=torch.Generator().manual_seed(number)).sum() / mask.sum()
        loss.backward()
        torch.optim.SGD(head.parameters(), lr=1e-5, weight_decay=0.1).step()
        losses.append(loss.item())
    return losses


def largest_gradient(part: torch.nn.Module) -> float:
    return max([p.grad.abs().max().item() for p in part.parameters() if p.grad is not None], default=0.0)


def test_two_stages_in_one_run() -> None:
    head = small_head()
    losses = run(head, range(3))
    assert head.steps.item() == 3 and max(losses) < 10
    assert largest_gradient(head.autoencoder) > 0 == largest_gradient(head.predict_offsets)
    losses = run(head, range(3, 5))
    assert min(losses) > 100, "the offset's weight"
    assert largest_gradient(head.autoencoder) == 0 < largest_gradient(head.predict_codes)
    fixed = {name: value.clone() for name, value in head.fixed.named_buffers()}
    assert "encoder.0.weight" in fixed and not list(head.fixed.parameters())
    books = head.autoencoder.quantiser.codebook.clone()
    run(head, range(5, 8))
    assert all(torch.equal(value, fixed[name]) for name, value in head.fixed.named_buffers())
    assert torch.equal(head.autoencoder.quantiser.codebook, books)
    assert torch.equal(head.autoencoder.encoder[0].weight, fixed["encoder.0.weight"]), "no decay of what rests"


def test_what_rests_is_left_alone_and_its_moments_begin_with_its_stage() -> None:
    """The first update of Adam is the learning rate times the gradient's sign, whenever it comes."""
    head, config = small_head(), OptimConfig(learning_rate=1e-3, weight_decay=0.1, eps=1e-20)
    optimiser, before = build_optimizer(head, config), copy.deepcopy(head.state_dict())
    for number in range(4):
        optimiser.zero_grad()
        context, action, mask = batch(number)
        context.readout["action"].requires_grad_()
        head.loss(context, action, mask, rng=torch.Generator().manual_seed(number)).mean().backward()
        if number < 3:
            assert context.readout["action"].grad is None, "nor does anything before the head move"
            assert torch.equal(head.predict_codes.weight, before["predict_codes.weight"])
        optimiser.step()
    moved = head.predict_codes.bias.detach() - before["predict_codes.bias"]
    assert head.predict_codes.bias.grad is not None
    assert torch.allclose(moved, -1e-3 * head.predict_codes.bias.grad.sign(), rtol=1e-3)


@pytest.mark.parametrize("quantiser_steps", [1, 3])
def test_a_dry_run_knows_that_parameters_learn_in_stages(quantiser_steps: int) -> None:
    network = Alone()
    network.head = small_head(replace(SMALL, quantiser_steps=quantiser_steps))
    config = TrainConfig(steps=8, batch_size=8, optim=OptimConfig(warmup_steps=1), precision="fp32")
    before = copy.deepcopy(network.state_dict())
    found = dry_run(network, next(stream(0)), config)
    assert found.without_gradient == ()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network.head.spare = torch.nn.Linear(2, 2)
    assert dry_run(network, next(stream(0)), config).without_gradient == ("head.spare.weight", "head.spare.bias")


def test_before_its_second_stage_it_does_not_act() -> None:
    head = small_head()
    run(head, range(3))
    with pytest.raises(KinemaError, match="after 3 training steps the head cannot act yet: the first 3 train"):
        head.sample(batch(0)[0], rng=torch.Generator())
    run(head, range(3, 4))
    assert torch.isfinite(head.sample(batch(0)[0], rng=torch.Generator())).all()
    SMALL.check_steps(4)
    with pytest.raises(KinemaError, match="quantiser_steps 3 leave the predictor none of the run's 3 steps"):
        SMALL.check_steps(3)


def test_measuring_counts_no_step_and_moves_nothing() -> None:
    head = small_head()
    run(head, range(2))
    before = {name: value.clone() for name, value in head.state_dict().items()}
    context, action, mask = batch(9)
    head.eval().loss(context, action, mask, rng=torch.Generator())
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("ended", [False, True])
def test_between_the_stages_the_quantiser_is_the_one_that_stage_1_left(ended: bool, compiled: bool) -> None:
    """The next step copies it, and with a gradient that nobody applies measures the same."""
    head = small_head()
    run(head, range(1 if ended else 3))
    if ended:
        head.end_stage()
    context, action, mask = batch(9)

    def measured() -> Tensor:
        head.eval()
        return loss(context, action, mask, rng=torch.Generator()).detach()

    loss = torch.compile(head.loss, backend="eager") if compiled else head.loss
    before, fresh = measured(), head.fixed.get_buffer("encoder.0.weight").clone()
    head.train().loss(context, action, mask, rng=torch.Generator())
    assert head.steps.item() == 4
    assert torch.equal(measured(), before)
    assert not torch.equal(head.fixed.get_buffer("encoder.0.weight"), fresh)


@pytest.mark.parametrize("stop", [2, 4])
def test_a_run_goes_on_where_it_was_stopped(stop: int) -> None:
    """The weights hold all that a stage needs: before the switch at step 3, and after it."""
    whole, first = small_head(), small_head()
    run(whole, range(6))
    run(first, range(stop))
    second = small_head()
    second.load_state_dict(first.state_dict())
    run(second, range(stop, 6))
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in second.state_dict().items())


class Alone(torch.nn.Module):
    """The head as a network of its own, for the training loop."""

    def __init__(self) -> None:
        super().__init__()
        self.head = small_head()

    def loss(self, given: Mapping[str, Tensor], rng: torch.Generator) -> Tensor:
        return self.head.loss(seen(given["state"]), given["action"], given["mask"], rng=rng)


def stream(first: int, stop: int = 100) -> Iterator[dict[str, Tensor]]:
    for number in range(first, stop):
        state, action = demonstrations(8, torch.Generator().manual_seed(number))
        yield {"state": state, "action": action, "mask": torch.ones(8, STEPS, dtype=torch.bool)}


def test_training_goes_on_through_checkpoints_and_the_average_keeps_the_fixed_quantiser(tmp_path: Path) -> None:
    optim = OptimConfig(warmup_steps=1, weight_decay=0.1)
    config = TrainConfig(steps=8, batch_size=8, optim=optim, ema_decay=0.9, checkpoint_every=2, precision="fp32")
    whole = train.fit(Alone(), stream, config, tmp_path / "whole")
    with pytest.raises(KinemaError, match="the batches end at step 5"):
        train.fit(Alone(), lambda first: stream(first, 5), config, tmp_path / "halted")
    halted = train.fit(Alone(), stream, config, tmp_path / "halted")
    assert whole.weights.read_bytes() == halted.weights.read_bytes()
    averaged = Alone()
    load_weights(averaged, whole.weights)
    trained = Alone()
    load_weights(trained, whole.checkpoint / "model.safetensors")
    assert averaged.head.steps.item() == 8
    for name, value in trained.head.fixed.named_buffers():
        assert torch.equal(value, averaged.head.fixed.get_buffer(name)), "codes of the average are those it learnt"


def test_padding_changes_nothing_in_the_first_stage() -> None:
    context, action, mask = batch(1)
    found = []
    for padding in (0.0, 50.0):
        head = small_head()
        filled = torch.where(mask[..., None], action, torch.tensor(padding))
        loss = head.loss(context, filled, mask, rng=torch.Generator().manual_seed(1))
        found.append((loss, *head.state_dict().values()))
    assert all(torch.equal(first, second) for first, second in zip(*found, strict=True))


def test_codes_are_drawn_at_the_temperature() -> None:
    """softmax((1, 0) / 0.5) = (0.881, 0.119)."""
    head = small_head(VqBet(quantiser_steps=1, codes=2, code_weights=(1.0,), temperature=0.5))
    logits = torch.tensor([1.0, 0.0]).expand(20_000, 1, 2)
    drawn = head._draw(logits, torch.Generator().manual_seed(0)).float().mean().item()
    assert drawn == pytest.approx(1 / (1 + math.exp(2)), abs=0.01)


def test_both_ways_of_the_fork_are_kept(fit: Callable[..., Any]) -> None:
    config = VqBet(quantiser_steps=160, latent=32, hidden=64)
    fork = Fork()
    modes = fork.judge(fit(config, fork, steps=320, seed=0, batch=64).sample(500, 0))
    assert modes.cover >= 0.35 and modes.invalid <= 0.05, modes


def test_offsets_for_codes_that_were_not_demonstrated_mix_the_ways(fit: Callable[..., Any]) -> None:
    """The published code trains the offset on drawn codes: half of the time it pulls one way towards the other."""
    config = VqBet(quantiser_steps=160, latent=32, hidden=64, offset_for="sampled")
    fork = Fork()
    modes = fork.judge(fit(config, fork, steps=320, seed=0, batch=64).sample(500, 0))
    assert modes.cover <= 0.1, modes


def test_offsets_carry_what_codes_cannot() -> None:
    """Codes name the side and roughly the bend; the offset adds the rest, which the readout knows."""
    head = small_head(VqBet(quantiser_steps=100, latent=16, hidden=64))
    optimiser, rng = torch.optim.Adam(head.parameters()), torch.Generator().manual_seed(1)
    mask = torch.ones(128, STEPS, dtype=torch.bool)
    for step in range(400):
        begin, length = (0, 100) if step < 100 else (100, 300)
        optimiser.param_groups[0]["lr"] = 2.5e-3 * (1 + math.cos(math.pi * (step - begin) / length))
        state, action = demonstrations(128, rng)
        optimiser.zero_grad()
        head.loss(seen(state), action, mask, rng=rng).mean().backward()
        optimiser.step()
    state, action = demonstrations(1000, torch.Generator().manual_seed(2))
    chunk, readout = action.flatten(1), seen(state).readout["action"][:, 0]
    with torch.no_grad():
        codes = head.fixed.codes(chunk)
        alone = (head.fixed.decode(codes) - chunk).abs().mean()
        together = (head.fixed.decode(codes) + head._offset(readout, codes) - chunk).abs().mean()
    assert (perplexity(codes, 16) > 4).all()
    assert alone > 0.02, "the quantisation floor: without offsets it stays"
    assert together <= alone / 3, f"{alone:.4f} -> {together:.4f}"


def test_wrong_settings_are_named() -> None:
    with pytest.raises(KinemaError, match="unknown vq_bet offset_for 'sample'; did you mean 'sampled'"):
        small_head(VqBet(quantiser_steps=1, offset_for="sample"))  # type: ignore[arg-type]
    with pytest.raises(KinemaError, match="quantiser_steps 0"):
        small_head(VqBet(quantiser_steps=0))
    with pytest.raises(KinemaError, match=r"code_weights \(\)"):
        small_head(VqBet(quantiser_steps=1, code_weights=()))
    with pytest.raises(KinemaError, match=r"gamma 0\.5 \(0, from 1\)"):
        small_head(VqBet(quantiser_steps=1, gamma=0.5))
    for gamma in (0.0, 1.0):
        sure = torch.tensor([[200.0, 0.0]], requires_grad=True)
        focal(sure, torch.tensor([0]), gamma).sum().backward()
        assert sure.grad is not None and torch.isfinite(sure.grad).all()
    with pytest.raises(KinemaError, match="of 1 codes"):
        small_head(VqBet(quantiser_steps=1, codes=1))
