"""The U-Net is LeRobot's, weight for weight, and refuses sizes that it cannot halve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.heads.diffusion import Diffusion
from kinema.nets.base import Context
from kinema.nets.denoisers.unet1d import Unet1d, Unet1dDenoiser

GOLDEN = Path(__file__).resolve().parents[2] / "goldens" / "denoisers" / "unet1d.npz"
TINY = Unet1d(channels=(8, 16), time_width=8)
NAMES = (
    ("diffusion_step_encoder.1.", "time.0."),
    ("diffusion_step_encoder.3.", "time.2."),
    ("down_modules.", "down."),
    ("mid_modules.", "middle."),
    ("up_modules.", "up."),
    ("final_conv.0.block.", "leave.0."),
    ("final_conv.1.", "leave.1."),
    (".conv1.block.", ".enter."),
    (".conv2.block.", ".leave."),
    (".cond_encoder.", ".film."),
    (".residual_conv.", ".shortcut."),
)
"""LeRobot's names -> ours; in `down` and `up` the parts of a level are numbered there."""


def ours(name: str) -> str:
    for there, here in NAMES:
        name = name.replace(there, here)
    parts = name.split(".")
    if parts[0] in ("down", "up"):
        parts[2] = ("first", "second", "resize")[int(parts[2])]
    return ".".join(parts)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def load(unet: Unet1dDenoiser, golden: dict[str, Tensor]) -> None:
    weights = {n.removeprefix("weights/"): value for n, value in golden.items() if n.startswith("weights/")}
    unet.load_state_dict({ours(name): value for name, value in weights.items()}, strict=True)


def context_of(readout: Tensor) -> Context:
    tokens = readout[:, None]
    return Context(tokens=tokens, mask=torch.ones(len(tokens), 1, dtype=torch.bool), readout={"action": tokens})


def test_forward_and_a_step_of_training_are_lerobots(golden: dict[str, Tensor]) -> None:
    unet = TINY.build(action_width=2, pred_horizon=8, width=6)
    load(unet, golden)
    context, t = context_of(golden["readout"]), golden["k"] / 100
    before = unet(golden["x"], t, context)
    assert (before - golden["before"]).abs().max() < 1e-5
    loss = torch.nn.functional.mse_loss(before, golden["noise"])
    assert loss.item() == pytest.approx(golden["loss"].item(), abs=1e-6)
    loss.backward()
    torch.optim.SGD(unet.parameters(), lr=0.1).step()
    assert (unet(golden["x"], t, context) - golden["after"]).abs().max() < 1e-5
    assert (golden["after"] - golden["before"]).abs().max() > 1e-2, "the step changes something"


def test_ten_steps_of_ddim_are_lerobots(golden: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    config = Diffusion(denoiser=TINY, prediction="epsilon", clip=1.0, spacing="leading", steps=10)
    head = config.build(action_width=2, pred_horizon=8, width=6).eval()
    load(head.net.denoiser, golden)
    monkeypatch.setattr("kinema.heads.diffusion.normal", lambda *_: golden["noise"])
    with torch.no_grad():
        chunk = head.sample(context_of(golden["readout"]), rng=torch.Generator())
    assert (chunk - golden["chunk"]).abs().max() < 1e-5


def test_without_modulation_the_observation_is_ignored(golden: dict[str, Tensor]) -> None:
    unet = TINY.build(action_width=2, pred_horizon=8, width=6)
    load(unet, golden)
    readout, t = golden["readout"], golden["k"] / 100
    told = unet(golden["x"], t, context_of(readout)), unet(golden["x"], t, context_of(-readout))
    assert (told[0] - told[1]).abs().max() > 1e-2
    for name, parameter in unet.named_parameters():
        if ".film." in name and name.endswith("weight"):
            torch.nn.init.zeros_(parameter)
    blind = unet(golden["x"], t, context_of(readout)), unet(golden["x"], t, context_of(-readout))
    assert torch.equal(*blind)


def test_published_size(golden: dict[str, Tensor]) -> None:
    """Two steps of 20 observed numbers, as Diffusion Policy has for Push-T; LeRobot's class has this many as well."""
    with torch.device("meta"):
        unet = Unet1d().build(action_width=2, pred_horizon=16, width=40)
    assert sum(p.numel() for p in unet.parameters()) == int(golden["published_parameters"]) > 60e6


def test_levels_of_equal_width_change_the_length_too() -> None:
    unet = Unet1d(channels=(8, 8, 8), time_width=8).build(action_width=2, pred_horizon=8, width=6)
    lengths = []
    for level in unet.middle:
        level.register_forward_hook(lambda module, given, result: lengths.append(result.shape[-1]))
    x = torch.randn(1, 8, 2, generator=torch.Generator().manual_seed(1))
    assert unet(x, torch.zeros(1), context_of(torch.zeros(1, 6))).shape == x.shape
    assert lengths == [2, 2]


@pytest.mark.parametrize(
    ("config", "horizon", "message"),
    [
        (Unet1d(), 10, "pred_horizon 10 cannot be halved 2 times.*multiple of 4, such as 8"),
        (Unet1d(channels=(8, 16)), 5, "pred_horizon 5 cannot be halved 1 times.*multiple of 2, such as 4"),
        (Unet1d(channels=(8, 12)), 8, r"channels \(8, 12\) must be multiples of groups 8"),
        (Unet1d(groups=0), 8, "must be multiples of groups 0, at least 1"),
        (Unet1d(kernel=4), 8, "kernel 4 must be odd"),
        (Unet1d(time_width=7), 8, "time_width 7 even and at least 4"),
    ],
)
def test_impossible_sizes_are_refused(config: Unet1d, horizon: int, message: str) -> None:
    with pytest.raises(KinemaError, match=message):
        config.build(action_width=2, pred_horizon=horizon, width=4)


def test_levels_of_equal_width_are_halved_too() -> None:
    unet = Unet1d(channels=(8, 16, 16), time_width=8).build(action_width=2, pred_horizon=8, width=6)
    context = context_of(torch.randn(3, 6))
    assert unet(torch.randn(3, 8, 2), torch.zeros(3), context).shape == (3, 8, 2)
    assert [type(level.resize).__name__ for level in unet.down] == ["Conv1d", "Conv1d", "Identity"]
