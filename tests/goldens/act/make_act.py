"""Write act.npz: a small ACT of LeRobot 0.4.4, its outputs, its loss and its parameters after one step of SGD.

    python tests/goldens/act/make_act.py tests/goldens/act/act.npz

Observations are the robot's state and the environment's state; two entries are padded. Under `before/` and `after/` are
all parameters by LeRobot's names. `parameters` counts those of the published size with one camera, and
`parameters_of_images` those of them that belong to the camera.
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
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACT, ACTPolicy

BATCH, STEPS, LATENT = 3, 5, 3
SIZES = {"observation.state": 4, "observation.environment_state": 3, "action": 2}
LEARNING_RATE = 0.1


def policy() -> ACTPolicy:
    """Return the policy with random weights, no dropout."""
    torch.manual_seed(0)
    inputs = {
        "observation.state": PolicyFeature(type=FeatureType.STATE, shape=(SIZES["observation.state"],)),
        "observation.environment_state": PolicyFeature(
            type=FeatureType.ENV, shape=(SIZES["observation.environment_state"],)
        ),
    }
    config = ACTConfig(
        input_features=inputs,
        output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(SIZES["action"],))},
        chunk_size=STEPS,
        n_action_steps=STEPS,
        dim_model=16,
        n_heads=2,
        dim_feedforward=24,
        n_encoder_layers=2,
        n_decoder_layers=1,
        n_vae_encoder_layers=2,
        latent_dim=LATENT,
        dropout=0.0,
        device="cpu",
    )
    made = ACTPolicy(config)
    with torch.no_grad():
        for parameter in made.parameters():  # biases begin at zero: a golden with zeros would not see them
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def published() -> dict[str, int]:
    """Return the numbers of parameters of the published size: two arms of seven joints and one camera."""
    inputs = {
        "observation.state": PolicyFeature(type=FeatureType.STATE, shape=(14,)),
        "observation.images.top": PolicyFeature(type=FeatureType.VISUAL, shape=(3, 480, 640)),
    }
    outputs = {"action": PolicyFeature(type=FeatureType.ACTION, shape=(14,))}
    config = ACTConfig(input_features=inputs, output_features=outputs, pretrained_backbone_weights=None, device="cpu")
    with torch.device("meta"):
        sizes = {name: p.numel() for name, p in ACT(config).named_parameters()}
    images = sum(size for name, size in sizes.items() if name.startswith(("backbone", "encoder_img")))
    return {"parameters": sum(sizes.values()), "parameters_of_images": images}


def main(path: str) -> None:
    """Write the golden."""
    rng = torch.Generator().manual_seed(1)
    batch = {name: torch.randn(BATCH, size, generator=rng) for name, size in SIZES.items() if name != "action"}
    batch["action"] = torch.randn(BATCH, STEPS, SIZES["action"], generator=rng)
    batch["action_is_pad"] = torch.zeros(BATCH, STEPS, dtype=torch.bool)
    batch["action_is_pad"][1, 3:] = True
    batch["action_is_pad"][2, 1:] = True
    noise = torch.randn(BATCH, LATENT, generator=rng)
    act = policy()
    saved = {f"before/{name}": p.detach().clone() for name, p in act.model.named_parameters()}
    saved["chunk"] = act.predict_action_chunk(batch)
    act.train()
    with mock.patch("torch.randn_like", return_value=noise):
        saved["chunk_of_posterior"], (saved["mean"], saved["log_variance"]) = act.model(batch)
        loss, parts = act(batch)
    loss.backward()
    torch.optim.SGD(act.parameters(), lr=LEARNING_RATE).step()
    saved |= {f"after/{name}": p for name, p in act.model.named_parameters()}
    saved |= {"loss": loss, "noise": noise, **batch}
    arrays = {name: value.detach().numpy() for name, value in saved.items()}
    np.savez_compressed(path, l1=parts["l1_loss"], kl=parts["kld_loss"], **published(), **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
