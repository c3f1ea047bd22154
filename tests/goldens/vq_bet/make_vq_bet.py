"""Write vq_bet.npz: a small VQ-BeT head of LeRobot 0.4.4, both stages' losses and its weights after a step of SGD each.

    python tests/goldens/vq_bet/make_vq_bet.py tests/goldens/vq_bet/vq_bet.npz

Codes are the most likely ones instead of drawn ones. Under `before/`, `after_1/` and `after_2/` are all parameters and
codebooks by LeRobot's names: at first, after a step on stage 1, and after one on stage 2 from there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import lerobot_shim  # noqa: F401 - must come before lerobot
import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.vqbet.configuration_vqbet import VQBeTConfig
from lerobot.policies.vqbet.modeling_vqbet import VQBeTHead

BATCH, STEPS, ACTIONS, WIDTH = 6, 4, 2, 12
LEARNING_RATE = 1e-4
"""Small, as the offset's loss is weighted by 1e4."""


def head() -> VQBeTHead:
    """Return the head with random weights and codebooks that have been in use."""
    torch.manual_seed(0)
    made = VQBeTHead(
        VQBeTConfig(
            input_features={},
            output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(ACTIONS,))},
            action_chunk_size=STEPS,
            gpt_output_dim=WIDTH,
            vqvae_n_embed=5,
            vqvae_embedding_dim=8,
            vqvae_enc_hidden_dim=10,
            device="cpu",
        )
    )
    for layer in made.vqvae_model.vq_layer.layers:
        book = layer._codebook
        book.cluster_size.copy_(0.5 + torch.rand(book.cluster_size.shape))
        book.embed.copy_(0.2 * torch.randn(book.embed.shape))
        book.embed_avg.copy_(book.embed * book.cluster_size[..., None])
    return made


def state(made: VQBeTHead, prefix: str) -> dict[str, torch.Tensor]:
    """Return all weights and codebooks."""
    return {f"{prefix}/{name}": value.clone() for name, value in made.state_dict().items() if value.ndim}


def main(path: str) -> None:
    """Write the golden."""
    rng = torch.Generator().manual_seed(1)
    action = torch.randn(BATCH, STEPS, ACTIONS, generator=rng)
    readout = torch.randn(BATCH, 1, WIDTH, generator=rng)
    made = head()
    sgd = torch.optim.SGD(made.parameters(), lr=LEARNING_RATE)
    saved = {"action": action, "readout": readout, **state(made, "before")}
    made.train()
    saved["loss_1"], (saved["l1"], saved["commitment"], saved["codes"], _) = made.vqvae_model.vqvae_forward(action)
    saved["loss_1"].backward()
    sgd.step()
    saved |= state(made, "after_1")
    made.vqvae_model.eval()
    sgd.zero_grad()
    with mock.patch("torch.multinomial", lambda share, num_samples: share.argmax(-1, keepdim=True)):
        predicted = made(readout)
        losses = made.loss_fn(predicted, action[:, None])
    saved["chunk"] = predicted["predicted_action"].view(BATCH, STEPS, ACTIONS)
    saved["decoded"] = predicted["decoded_action"]
    saved["loss_2"] = losses["loss"]
    losses["loss"].backward()
    sgd.step()
    saved |= state(made, "after_2")
    arrays = {name: value.detach().numpy() for name, value in saved.items()}
    np.savez_compressed(path, focal=losses["classification_loss"], offset=losses["offset_loss"], **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
