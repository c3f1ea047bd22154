"""LeRobot's side of the heads' speed benchmark; runs in LeRobot's environment, started by heads.py with a JSON."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import torch
from heads_timing import BATCH, Subject, measured
from torch import Tensor, nn

# The wheel of torchvision is a CUDA build that cannot load its operators here; LeRobot imports it, but these modules do
# not use them. Declared, they do no harm.
_LIBRARY = torch.library.Library("torchvision", "DEF")
_LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from lerobot.configs.types import FeatureType, PolicyFeature  # noqa: E402
from lerobot.policies.act.configuration_act import ACTConfig  # noqa: E402
from lerobot.policies.act.modeling_act import ACTPolicy  # noqa: E402
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig  # noqa: E402
from lerobot.policies.diffusion.modeling_diffusion import DiffusionModel  # noqa: E402
from lerobot.policies.vqbet.configuration_vqbet import VQBeTConfig  # noqa: E402
from lerobot.policies.vqbet.modeling_vqbet import VQBeTHead  # noqa: E402


def act(sizes: dict[str, int], compiled: bool) -> Subject:
    """Return the whole policy ACT, which sees two vectors."""
    config = ACTConfig(
        **_features(sizes),
        chunk_size=sizes["pred_horizon"],
        n_action_steps=sizes["pred_horizon"],
        dim_model=sizes["width"],
        n_heads=sizes["heads"],
        dim_feedforward=sizes["hidden"],
        device="cpu",
    )
    policy = ACTPolicy(config)
    if compiled:
        policy.model.compile()
    batch = _batch(sizes, BATCH)

    def sample(count: int) -> Callable[[], Tensor]:
        seen = {name: value for name, value in _batch(sizes, count).items() if name.startswith("observation")}
        return lambda: policy.predict_action_chunk(seen)

    return Subject(policy, _step(policy, policy.get_optim_params(), config, lambda: policy(batch)[0]), sample)


def diffusion(sizes: dict[str, int], compiled: bool) -> Subject:
    """Return Diffusion Policy's U-Net with DDIM."""
    config = DiffusionConfig(
        **_features(sizes),
        n_obs_steps=1,
        horizon=sizes["pred_horizon"],
        n_action_steps=sizes["pred_horizon"],
        down_dims=tuple(sizes["channels"]),
        diffusion_step_embed_dim=sizes["time_width"],
        noise_scheduler_type="DDIM",
        num_inference_steps=sizes["steps"],
        compile_model=compiled,
        compile_mode="default",
        device="cpu",
    )
    model = DiffusionModel(config)
    batch = _batch(sizes, BATCH, time=True)

    def sample(count: int) -> Callable[[], Tensor]:
        seen = _batch(sizes, count, time=True)
        return lambda: _without_gradient(lambda: model.generate_actions(seen))

    return Subject(model, _step(model, model.parameters(), config, lambda: model.compute_loss(batch)), sample)


def vq_bet(sizes: dict[str, int], compiled: bool) -> Subject:
    """Return VQ-BeT's head, in the stage that `sizes` names."""
    config = VQBeTConfig(
        input_features={},
        output_features=_features(sizes)["output_features"],
        action_chunk_size=sizes["pred_horizon"],
        gpt_output_dim=sizes["width"],
        device="cpu",
    )
    head = VQBeTHead(config)
    vqvae = head.vqvae_model
    action = torch.randn(BATCH, sizes["pred_horizon"], sizes["action_width"])
    for _ in range(2):  # the codebooks are there from the first batch on
        vqvae.vqvae_forward(action)
    if sizes["stage"] == 2:
        vqvae.discretized, vqvae.vq_layer.freeze_codebook = torch.tensor(True), torch.tensor(True)
        for parameter in vqvae.vq_layer.parameters():
            parameter.requires_grad = False
    if compiled:
        head.compile()  # not loss_fn, which asks for a dozen numbers on the way
        vqvae.vqvae_forward = torch.compile(vqvae.vqvae_forward)
    readout = torch.randn(BATCH, 1, sizes["width"])

    def loss() -> Tensor:
        if sizes["stage"] == 1:
            return vqvae.vqvae_forward(action)[0]
        vqvae.eval()  # as LeRobot keeps it once it is trained
        return head.loss_fn(head(readout), action[:, None])["loss"]

    def sample(count: int) -> Callable[[], Tensor]:
        seen = torch.randn(count, 1, sizes["width"])
        return lambda: _without_gradient(lambda: head(seen)["predicted_action"])

    return Subject(head, _step(head, head.parameters(), config, loss), sample)


def _without_gradient(call: Callable[[], Tensor]) -> Tensor:
    with torch.no_grad():
        return call()


def _features(sizes: dict[str, int]) -> dict[str, Any]:
    state = PolicyFeature(type=FeatureType.STATE, shape=(sizes["state"],))
    environment = PolicyFeature(type=FeatureType.ENV, shape=(sizes["environment"],))
    action = PolicyFeature(type=FeatureType.ACTION, shape=(sizes["action_width"],))
    return {
        "input_features": {"observation.state": state, "observation.environment_state": environment},
        "output_features": {"action": action},
    }


def _batch(sizes: dict[str, int], count: int, *, time: bool = False) -> dict[str, Tensor]:
    steps = (1,) if time else ()
    return {
        "observation.state": torch.randn(count, *steps, sizes["state"]),
        "observation.environment_state": torch.randn(count, *steps, sizes["environment"]),
        "action": torch.randn(count, sizes["pred_horizon"], sizes["action_width"]),
        "action_is_pad": torch.zeros(count, sizes["pred_horizon"], dtype=torch.bool),
    }


def _step(module: nn.Module, parameters: Any, config: Any, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Return a training step as `lerobot-train` takes it, with the policy's own optimiser."""
    preset = config.get_optimizer_preset()
    optimizer = preset.build(parameters)

    def step() -> None:
        loss().backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), preset.grad_clip_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


def main(options: str) -> None:
    """Measure what the options ask for and write it to stdout."""
    logging.disable(logging.WARNING)
    asked = json.loads(options)
    make = {"act": act, "diffusion": diffusion, "vq_bet": vq_bet}[asked["kind"]]
    found = measured(lambda compiled: make(asked["sizes"], compiled), asked)
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
