"""ACT, Diffusion Policy and VQ-BeT with images are LeRobot's: every weight has its name, every number its value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kinema.checkpoints.lerobot.keys import constants, from_lerobot, renaming, to_lerobot
from kinema.core.errors import KinemaError
from kinema.core.spec import RobotSpec
from kinema.nets.denoisers.unet1d import Unet1d
from kinema.policies.act import act
from kinema.policies.base import PolicyConfig
from kinema.policies.diffusion_policy import diffusion_policy
from kinema.policies.network import Network
from kinema.policies.vq_bet import vq_bet

PRESETS = {"act": act, "diffusion_policy": diffusion_policy, "vq_bet": vq_bet}
MILLIONS = {"act": 52, "diffusion_policy": 263, "vq_bet": 38}
"""Parameters with one camera of 96 px; of ACT the authors say about 80 with four cameras, LeRobot has 52."""


def published(policy: str, cameras: int, **changes: Any) -> PolicyConfig:
    names = tuple(f"camera{number}" for number in range(cameras))
    return PRESETS[policy](cameras=names, state="state", size="published", **changes)


def without_dropout(config: PolicyConfig) -> PolicyConfig:
    """Return the configuration as the goldens have it."""
    head = replace(config.head, dropout=0.0) if "dropout" in vars(config.head) else config.head
    return replace(config, trunk=replace(config.trunk, dropout=0.0), head=head)  # type: ignore[type-var]


def compare_gradients(policy: str, network: Network, golden: Mapping[str, Any]) -> None:
    names = renaming(policy)
    ours = {names.theirs(n): p.grad.norm() for n, p in network.named_parameters() if p.grad is not None}
    theirs = {name.removeprefix("gradient/"): value for name, value in golden.items() if name.startswith("gradient/")}
    assert set(ours) == set(theirs)
    largest = max(value.item() for value in theirs.values())
    worst = max((ours[name] - value).abs().item() / max(value.item(), 1e-3 * largest) for name, value in theirs.items())
    assert worst <= 1e-4


@pytest.mark.parametrize("policy", PRESETS)
def test_every_weight_has_one_name_there_and_back(
    policy: str, lerobots: Any, lerobots_state: Any, image_spec: Callable[[int, int], RobotSpec]
) -> None:
    golden = lerobots(policy)
    prefix = "published/" if policy == "diffusion_policy" else ""
    shapes = dict(zip(golden[f"{prefix}names"], golden[f"{prefix}shapes"], strict=True))
    theirs = {
        name: torch.empty([int(size) for size in shape.split(",") if size], device="meta")
        for name, shape in shapes.items()
        if not name.endswith(constants(policy))
    }
    if policy == "vq_bet":
        theirs |= {name: torch.tensor(True) for name in theirs if name.endswith("discretized")}
    with torch.device("meta"):
        network = Network(published(policy, 1 if policy == "vq_bet" else 2), image_spec(2, 64))
    ours = {name: value.shape for name, value in network.state_dict().items()}
    here = from_lerobot(policy, theirs)
    assert {name: value.shape for name, value in here.items()} == ours
    assert {n: v.shape for n, v in to_lerobot(policy, here).items()} == {n: v.shape for n, v in theirs.items()}
    if policy != "vq_bet":
        assert len(here) == len(theirs)


def test_codebooks_come_back_as_they_were(lerobots: Any, lerobots_state: Any) -> None:
    state = lerobots_state("vq_bet", lerobots("vq_bet"))
    back = to_lerobot("vq_bet", from_lerobot("vq_bet", state))
    assert set(back) == set(state) and all(torch.equal(back[name], value) for name, value in state.items())


@pytest.mark.parametrize("policy", PRESETS)
def test_published_size(policy: str, lerobots: Any, image_spec: Callable[[int, int], RobotSpec]) -> None:
    with torch.device("meta"):
        network = Network(published(policy, 1), image_spec(1, 96))
    count = sum(p.numel() for p in network.parameters())
    assert count == int(lerobots(policy)["parameters"])
    assert count / 1e6 == pytest.approx(MILLIONS[policy], rel=0.02)


def test_act_is_lerobots(
    lerobots: Any, lerobots_network: Any, lerobots_sample: Any, by_formula: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden, sample, rng = lerobots("act"), lerobots_sample(2, 1, 100), torch.Generator()
    network = lerobots_network("act", without_dropout(published("act", 2)), golden)
    sample["mask"][1, 60:] = False
    monkeypatch.setattr("kinema.heads.cvae.normal", lambda shape, rng, device: by_formula("noise", *shape))

    def chunk() -> Tensor:
        with torch.no_grad():
            return network.head.sample(network.context(sample, rng), rng=rng)

    before = chunk()
    assert (before - golden["chunk"]).abs().max() <= 1e-5
    loss = network.loss(sample, rng).sum() / sample["mask"].sum()
    assert loss.item() == pytest.approx(golden["loss"].item(), rel=1e-5) and golden["kl"] > 0.1
    loss.backward()
    compare_gradients("act", network, golden)
    torch.optim.SGD(network.parameters(), lr=1e-3).step()
    assert (chunk() - golden["after"]).abs().max() <= 1e-4
    assert (before - golden["after"]).abs().max() > 1e-2, "the step changes something"
    sample["image.camera1"] = sample["image.camera0"]
    assert (chunk() - golden["after"]).abs().max() > 1e-3, "both cameras are seen"


def lerobots_draws(monkeypatch: pytest.MonkeyPatch, by_formula: Any) -> tuple[Tensor, Tensor]:
    """Let the head draw what the golden's did; returns the noise and the time."""
    noise, k = by_formula("noise", 2, 16, 2), torch.tensor([7, 63])
    monkeypatch.setattr("kinema.heads.diffusion.normal", lambda *_: noise)
    monkeypatch.setattr("kinema.heads.diffusion.uniform", lambda *_: (k[:, None] + 0.5) / 100)
    return noise, k / 100


def test_diffusion_policy_is_lerobots(
    lerobots: Any, lerobots_network: Any, lerobots_sample: Any, by_formula: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden, sample, rng = lerobots("diffusion_policy"), lerobots_sample(2, 2, 16), torch.Generator()
    config = published("diffusion_policy", 2)
    denoiser = Unet1d(channels=(32, 64), time_width=16)
    head = replace(config.head, denoiser=denoiser, sampler="ddim", steps=10)  # type: ignore[type-var]
    network = lerobots_network("diffusion_policy", replace(config, head=head), golden)
    noise, t = lerobots_draws(monkeypatch, by_formula)

    def denoised() -> Tensor:
        with torch.no_grad():
            return network.head.net.denoiser(noise, t, network.context(sample, rng))

    with torch.no_grad():
        context = network.context(sample, rng)
        assert (context.readout["action"][:, 0] - golden["known"]).abs().max() <= 1e-5
        assert (network.head.sample(context, rng=rng) - golden["chunk"]).abs().max() <= 1e-4, "ten passes"
    before = denoised()
    assert (before - golden["denoised"]).abs().max() <= 1e-5
    loss = network.loss(sample, rng).mean()
    assert loss.item() == pytest.approx(golden["loss"].item(), rel=1e-5)
    loss.backward()
    compare_gradients("diffusion_policy", network, golden)
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert (denoised() - golden["after"]).abs().max() <= 1e-4
    assert (before - golden["after"]).abs().max() > 1e-2, "the step changes something"


@pytest.mark.slow
def test_diffusion_policy_is_lerobots_at_published_size(
    lerobots: Any, lerobots_network: Any, lerobots_sample: Any, by_formula: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = {n.removeprefix("published/"): v for n, v in lerobots("diffusion_policy").items() if "published/" in n}
    network = lerobots_network("diffusion_policy", published("diffusion_policy", 2), golden)
    noise, t = lerobots_draws(monkeypatch, by_formula)
    sample, rng = lerobots_sample(2, 2, 16), torch.Generator()
    with torch.no_grad():
        denoised = network.head.net.denoiser(noise, t, network.context(sample, rng))
        assert (denoised - golden["denoised"]).abs().max() <= 1e-4
        assert network.loss(sample, rng).mean().item() == pytest.approx(golden["loss"].item(), rel=1e-5)


def test_vq_bet_is_lerobots(lerobots: Any, lerobots_network: Any, lerobots_sample: Any) -> None:
    golden, rng = lerobots("vq_bet"), torch.Generator()
    config = without_dropout(published("vq_bet", 1))
    config = replace(config, head=replace(config.head, temperature=0.0))  # type: ignore[type-var]
    network = lerobots_network("vq_bet", config, golden).eval()
    with torch.no_grad():
        chunk = network.head.sample(network.context(lerobots_sample(1, 5, 5), rng), rng=rng)
    assert (chunk - golden["chunk"]).abs().max() <= 1e-4
    one = lerobots_network("vq_bet", replace(config, obs_horizon=1), golden)
    loss = one.loss(lerobots_sample(1, 1, 5), rng).mean()
    assert loss.item() == pytest.approx(golden["loss"].item(), rel=1e-5) and golden["focal"] > 0.1
    loss.backward()
    compare_gradients("vq_bet", one, golden)


def test_what_has_no_name_is_refused(lerobots: Any, lerobots_state: Any) -> None:
    with pytest.raises(KinemaError, match="unknown policy that LeRobot has as well 'atc'; did you mean 'act'"):
        renaming("atc")
    with pytest.raises(KinemaError, match=r"no name for the weight 'diffusion\.rgb_encoder\.0\.out\.weight' is known"):
        from_lerobot("diffusion_policy", {"diffusion.rgb_encoder.0.out.weight": torch.zeros(1)})
    state = lerobots_state("vq_bet", lerobots("vq_bet"))
    state["vqbet.action_head.vqvae_model.discretized"] = torch.tensor(False)
    with pytest.raises(KinemaError, match="still training its quantiser"):
        from_lerobot("vq_bet", state)
