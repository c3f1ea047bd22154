"""Write what Diffusion Policy's `TransformerForDiffusion` says, before and after one step of SGD.

    PYTHONPATH=path/to/diffusion_policy python tests/goldens/denoisers/make_transformer.py \
        tests/goldens/denoisers/transformer.npz 1

The number is that of observed steps; transformer_steps.npz has 2. Needs a checkout of real-stanford/diffusion_policy
(4bf419a) and torch. Weights are stored under their names there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from diffusion_policy.model.diffusion.transformer_for_diffusion import TransformerForDiffusion

BATCH, HORIZON, ACTIONS, WIDTH = 3, 5, 2, 6


def main(path: Path, steps: int) -> None:
    """Write the golden to `path`; with one observed step all of the chunk see all that is known."""
    torch.manual_seed(0)
    network = TransformerForDiffusion(
        input_dim=ACTIONS,
        output_dim=ACTIONS,
        horizon=HORIZON,
        n_obs_steps=steps,
        cond_dim=WIDTH,
        n_layer=2,
        n_head=2,
        n_emb=16,
        p_drop_emb=0.0,
        p_drop_attn=0.0,
        causal_attn=True,
    )
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1 or name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    x, noise = torch.randn(2, BATCH, HORIZON, ACTIONS)
    readout = torch.randn(BATCH, steps, WIDTH)
    k = torch.tensor([0, 37, 99])
    skipped = ("mask", "memory_mask", "_dummy_variable")
    kept = {f"weights/{n}": v.clone() for n, v in network.state_dict().items() if n not in skipped}
    before = network(x, k, cond=readout)
    loss = torch.nn.functional.mse_loss(before, noise)
    loss.backward()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
        after = network(x, k, cond=readout)
    values = {"x": x, "noise": noise, "readout": readout, "k": k, "before": before, "loss": loss, "after": after}
    np.savez_compressed(path, **{name: value.detach().numpy() for name, value in (kept | values).items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
