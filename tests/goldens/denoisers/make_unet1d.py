"""Write what LeRobot's `DiffusionConditionalUnet1d` says, before and after one step of SGD, and a chunk it denoises.

    python tests/goldens/denoisers/make_unet1d.py tests/goldens/denoisers/unet1d.npz

Needs an environment with lerobot 0.4.4 and diffusers. Weights are stored under their names in LeRobot.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import lerobot_shim  # noqa: F401 - must come before lerobot
import numpy as np
import torch
from lerobot.policies.diffusion.modeling_diffusion import DiffusionConditionalUnet1d, _make_noise_scheduler

BATCH, HORIZON, ACTIONS, WIDTH = 3, 8, 2, 6
SAMPLER = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "squaredcos_cap_v2", "clip_sample": True}


def sized(channels: tuple[int, ...], time_width: int) -> SimpleNamespace:
    """Return the part of LeRobot's configuration that the U-Net reads."""
    return SimpleNamespace(
        action_feature=SimpleNamespace(shape=(ACTIONS,)),
        down_dims=channels,
        kernel_size=5,
        n_groups=8,
        diffusion_step_embed_dim=time_width,
        use_film_scale_modulation=True,
    )


def main(path: Path) -> None:
    """Write the golden to `path`."""
    with torch.device("meta"):
        published = DiffusionConditionalUnet1d(sized((256, 512, 1024), 256), global_cond_dim=40)
    parameters = torch.tensor(sum(p.numel() for p in published.parameters()))
    torch.manual_seed(0)
    unet = DiffusionConditionalUnet1d(sized((8, 16), 8), global_cond_dim=WIDTH)
    x, noise = torch.randn(2, BATCH, HORIZON, ACTIONS)
    readout = torch.randn(BATCH, WIDTH)
    k = torch.tensor([0, 37, 99])
    kept = {f"weights/{name}": value.clone() for name, value in unet.state_dict().items()}
    ddim = _make_noise_scheduler("DDIM", num_train_timesteps=100, prediction_type="epsilon", **SAMPLER)
    ddim.set_timesteps(10)
    chunk = noise
    with torch.no_grad():
        for step in ddim.timesteps:
            chunk = ddim.step(unet(chunk, step.expand(BATCH), global_cond=readout), step, chunk).prev_sample
    before = unet(x, k, global_cond=readout)
    loss = torch.nn.functional.mse_loss(before, noise)
    loss.backward()
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter -= 0.1 * parameter.grad
        after = unet(x, k, global_cond=readout)
    values = {"x": x, "noise": noise, "readout": readout, "k": k, "before": before, "loss": loss, "after": after}
    values |= {"chunk": chunk, "published_parameters": parameters}
    np.savez_compressed(path, **{name: value.detach().numpy() for name, value in (kept | values).items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
