"""VQ-BeT against LeRobot's head: both stages' losses, what a step of SGD makes of it, and its chunks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinema.heads.vq_bet import VqBet, VqBetHead
from kinema.nets.base import Context

GOLDEN = Path(__file__).resolve().parents[1] / "goldens" / "vq_bet" / "vq_bet.npz"
NAMES = (
    (r"^vqvae_model\.(encoder|decoder)\.", r"autoencoder.\1."),
    (r"^map_to_cbet_preds_bin\.0\.", "predict_codes."),
    (r"^map_to_cbet_preds_offset\.0\.", "predict_offsets."),
)
BOOKS = {"embed": "codebook", "cluster_size": "count", "embed_avg": "total"}


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(value) if value.ndim else float(value) for name, value in arrays.items()}


def renamed(golden: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    """Return LeRobot's weights and codebooks under kinema's names."""
    found: dict[str, Tensor] = {}
    for name, value in golden.items():
        if name.startswith(prefix) and "_codebook" not in name:
            name = name.removeprefix(prefix)
            for pattern, ours in NAMES:
                name = re.sub(pattern, ours, name)
            found[name] = value
    for theirs, ours in BOOKS.items():
        path = f"{prefix}vqvae_model.vq_layer.layers.{{}}._codebook.{theirs}"
        found[f"autoencoder.quantiser.{ours}"] = torch.cat([golden[path.format(layer)] for layer in range(2)])
    return found


def context_of(readout: Tensor) -> Context:
    mask = torch.ones(readout.shape[:2], dtype=torch.bool)
    return Context(tokens=readout, mask=mask, readout={"action": readout})


def lerobots(golden: Mapping[str, Any], **changes: Any) -> VqBetHead:
    """Return the head with LeRobot's weights, at the first step of a run that trains the quantiser for one."""
    settings = {"temperature": 0.0, "offset_for": "sampled", "revive": 0.0, **changes}
    config = VqBet(quantiser_steps=1, codes=5, latent=8, hidden=10, **settings)
    head = config.build(action_width=2, pred_horizon=4, width=12)
    missing, unexpected = head.load_state_dict(renamed(golden, "before/"), strict=False)
    assert not unexpected and all(name.startswith(("fixed.", "steps")) for name in missing)
    return head


def train_step(head: VqBetHead, golden: Mapping[str, Any]) -> float:
    """Return the loss of one step of SGD on the golden's batch."""
    mask = torch.ones(golden["action"].shape[:2], dtype=torch.bool)
    head.zero_grad()
    loss = head.loss(context_of(golden["readout"]), golden["action"], mask, rng=torch.Generator()).mean()
    loss.backward()
    torch.optim.SGD(head.parameters(), lr=1e-4).step()
    return loss.item()


def worst(head: VqBetHead, stored: Mapping[str, Tensor]) -> float:
    state = head.state_dict()
    return max(((state[name] - value).abs() / value.abs().clamp(min=1)).max().item() for name, value in stored.items())


def test_both_stages_are_lerobots(golden: dict[str, Any]) -> None:
    head = lerobots(golden)
    with torch.no_grad():
        assert torch.equal(head.autoencoder.codes(golden["action"].flatten(1)), golden["codes"])
    assert train_step(head, golden) == pytest.approx(golden["loss_1"], rel=1e-5)
    assert golden["loss_1"] == pytest.approx(golden["l1"] + 5 * golden["commitment"], rel=1e-5)
    assert worst(head, renamed(golden, "after_1/")) <= 1e-5
    assert worst(head, renamed(golden, "before/")) > 1e-2, "the codebooks have moved"

    assert train_step(head, golden) == pytest.approx(golden["loss_2"], rel=1e-5)
    assert golden["loss_2"] == pytest.approx(golden["focal"] + 1e4 * golden["offset"], rel=1e-5)
    assert worst(head, renamed(golden, "after_2/")) <= 1e-5
    assert worst(head, renamed(golden, "after_1/")) > 1e-2, "the predictor has moved"


def test_chunks_are_lerobots(golden: dict[str, Any]) -> None:
    head = lerobots(golden)
    train_step(head, golden)
    head._fix()
    head.steps.add_(1)
    context, rng = context_of(golden["readout"]), torch.Generator()
    assert (head.eval().sample(context, rng=rng) - golden["chunk"]).abs().max() <= 1e-5
    codes = head._logits(golden["readout"][:, 0]).argmax(-1)
    assert (head.fixed.decode(codes).view(6, 4, 2) - golden["decoded"]).abs().max() <= 1e-5
    assert (golden["chunk"] - golden["decoded"]).abs().max() > 0.1
