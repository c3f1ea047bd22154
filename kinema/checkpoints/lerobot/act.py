"""ACT of LeRobot as a policy of kinema, and back."""

from __future__ import annotations

from typing import Any

from kinema.checkpoints.lerobot import parts
from kinema.checkpoints.lerobot.directory import Directory
from kinema.checkpoints.lerobot.scaling import normalise
from kinema.core.errors import CheckpointError
from kinema.heads.cvae import Cvae
from kinema.nets.base import EncoderConfig
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.encoders.resnet import ResNet
from kinema.nets.trunks.transformer import Transformer
from kinema.policies.base import PolicyConfig

KEYS = "act"
FIXED: dict[str, Any] = {
    "n_obs_steps": 1,
    "replace_final_stride_with_dilation": False,
    "pre_norm": False,
    "feedforward_activation": "relu",
    "use_vae": True,
}


def policy(found: Directory) -> PolicyConfig:
    """Return ACT; how LeRobot averages chunks, if it does, is `Directory.averaged`."""
    said = found.settings
    said.expect(**FIXED)
    if said.maybe("replace_final_stride_with_dilation", int):
        raise CheckpointError(f"{said.where}: replace_final_stride_with_dilation is true, expected false")
    attention: dict[str, Any] = {
        "heads": said.take("n_heads", int),
        "hidden": said.take("dim_feedforward", int),
        "dropout": said.take("dropout", float),
    }
    encoders: dict[str, EncoderConfig] = {}
    if found.state is not None:
        encoders = {name: Proprioception(vector=found.state, hidden=None) for name in ("style", "state")}
    encoders["images"] = parts.resnet(found, norm="frozen")
    return PolicyConfig(
        encoders=encoders,
        trunk=Transformer(layers=said.take("n_encoder_layers", int), **attention),
        head=Cvae(
            state=None if found.state is None else "style",
            latent=said.take("latent_dim", int),
            beta=said.take("kl_weight", float),
            posterior_layers=said.take("n_vae_encoder_layers", int),
            decoder_layers=said.take("n_decoder_layers", int),
            **attention,
        ),
        transforms=normalise(found),
        width=said.take("dim_model", int),
        pred_horizon=said.take("chunk_size", int),
        exec_horizon=said.take("n_action_steps", int),
    )


def entries(config: PolicyConfig) -> dict[str, Any]:
    """Return what config.json of LeRobot says of ACT; whoever calls makes sure that `policy` returns `config` of it."""
    kinds = {"style": Proprioception, "state": Proprioception, "images": ResNet}
    encoders, head, trunk = parts.only(config.encoders, kinds, "ACT"), config.head, config.trunk
    if not isinstance(head, Cvae) or not isinstance(trunk, Transformer) or "images" not in encoders:
        raise CheckpointError("LeRobot's ACT has images, a transformer trunk and a head cvae; this policy has not")
    return {
        **FIXED,
        "chunk_size": config.pred_horizon,
        "n_action_steps": config.exec_horizon,
        "vision_backbone": parts.backbone_name(encoders["images"]),
        "pretrained_backbone_weights": None,
        "dim_model": config.width,
        "n_heads": head.heads,
        "dim_feedforward": head.hidden,
        "n_encoder_layers": trunk.layers,
        "n_decoder_layers": head.decoder_layers,
        "latent_dim": head.latent,
        "n_vae_encoder_layers": head.posterior_layers,
        "temporal_ensemble_coeff": None,
        "dropout": head.dropout,
        "kl_weight": head.beta,
    }
