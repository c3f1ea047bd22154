"""The weights of ACT, Diffusion Policy and VQ-BeT under kinema's names and under LeRobot's (0.4), both ways.

Ours are those of `Network` of the presets without an instruction, theirs those of `ACTPolicy`, `DiffusionPolicy` and
`VQBeTPolicy`. What LeRobot stores though it is computed from the configuration (`constants`) is not in kinema: it is
left out on the way here, and LeRobot's loader keeps its own on the way back.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kinema.core.errors import KinemaError, unknown
from kinema.nets.renaming import Renaming
from kinema.nets.resnet_backbone import name_pairs

Pairs = list[tuple[str, str]]
_BOOKS = (("codebook", "embed"), ("count", "cluster_size"), ("total", "embed_avg"))
_VQ = "vqbet.action_head.vqvae_model."
_LATER = 2**62
"""More training steps than any quantiser has: VQ-BeT's head is past its first stage."""


def _within(ours: str, theirs: str, pairs: Pairs) -> Pairs:
    return [(ours + here, theirs + there) for here, there in pairs]


def _act() -> Pairs:
    layer = [
        ("attend_self.", "self_attn."),
        ("mlp.0.", "linear1."),
        ("mlp.3.", "linear2."),
        ("norm_self.", "norm1."),
    ]
    decoder = [*layer, ("attend_memory.", "multihead_attn."), ("norm_memory.", "norm2."), ("norm_mlp.", "norm3.")]
    encoder = [*layer, ("norm_mlp.", "norm2.")]
    rest = [
        ("head.read_out.", "vae_encoder_cls_embed."),
        ("encoders.style.layers.", "vae_encoder_robot_state_input_proj."),
        ("head.read_action.", "vae_encoder_action_input_proj."),
        ("head.to_latent.", "vae_encoder_latent_output_proj."),
        ("encoders.state.layers.", "encoder_robot_state_input_proj."),
        ("encoders.environment.layers.", "encoder_env_state_input_proj."),
        ("encoders.images.read.project.", "encoder_img_feat_input_proj."),
        ("head.from_latent.", "encoder_latent_input_proj."),
        ("trunk.positions.", "encoder_1d_feature_pos_embed."),
        ("head.norm.", "decoder.norm."),
        ("head.queries.", "decoder_pos_embed."),
        ("head.project.", "action_head."),
    ]
    return [
        *_within("encoders.images.backbone.", "model.backbone.", name_pairs()),
        *_within("head.posterior.{l}.", "model.vae_encoder.layers.{l}.", encoder),
        *_within("trunk.layers.{l}.", "model.encoder.layers.{l}.", encoder),
        *_within("head.decoder.{l}.", "model.decoder.layers.{l}.", decoder),
        *_within("", "model.", rest),
    ]


def _images(theirs: str) -> Pairs:
    """Return the pairs of the image encoder that Diffusion Policy and VQ-BeT share: there a sequence of modules."""
    return [
        *_within(
            "encoders.images.backbone.", theirs + "backbone.", name_pairs(convolution="0.", norm="1.", stage="{s+4}.")
        ),
        ("encoders.images.read.heatmaps.", theirs + "pool.nets."),
        ("encoders.images.read.out.", theirs + "out."),
    ]


def _diffusion_policy() -> Pairs:
    block = [
        ("enter.", "conv1.block."),
        ("film.", "cond_encoder."),
        ("leave.", "conv2.block."),
        ("shortcut.", "residual_conv."),
    ]
    pairs = [("time.0.", "diffusion_step_encoder.1."), ("time.2.", "diffusion_step_encoder.3.")]
    for ours, theirs in (("down.{l}.", "down_modules.{l}."), ("up.{l}.", "up_modules.{l}.")):
        for place, part in enumerate(("first.", "second.")):
            pairs += _within(ours + part, f"{theirs}{place}.", block)
        pairs.append((ours + "resize.", theirs + "2."))
    pairs += _within("middle.{l}.", "mid_modules.{l}.", block)
    pairs += [("leave.0.", "final_conv.0.block."), ("leave.1.", "final_conv.1.")]
    return [*_images("diffusion.rgb_encoder."), *_within("head.net.denoiser.", "diffusion.unet.", pairs)]


def _vq_bet() -> Pairs:
    layer = [
        ("norm_attention.", "ln_1."),
        ("attention.enter.", "attn.c_attn."),
        ("attention.leave.", "attn.c_proj."),
        ("norm_mlp.", "ln_2."),
        ("mlp.", "mlp."),
    ]
    return [
        *_images("vqbet.rgb_encoder."),
        ("encoders.images.read.project.", "vqbet.rgb_feature_projector.0."),
        ("encoders.state.layers.", "vqbet.state_projector.0."),
        ("trunk.query", "vqbet.action_token"),
        ("trunk.enter.", "vqbet.policy.transformer.wte."),
        ("trunk.positions.", "vqbet.policy.transformer.wpe."),
        *_within("trunk.layers.{l}.", "vqbet.policy.transformer.h.{l}.", layer),
        ("trunk.norm.", "vqbet.policy.transformer.ln_f."),
        ("trunk.leave.", "vqbet.policy.lm_head."),
        ("head.predict_codes.", "vqbet.action_head.map_to_cbet_preds_bin.0."),
        ("head.predict_offsets.", "vqbet.action_head.map_to_cbet_preds_offset.0."),
        ("head.fixed.encoder.", _VQ + "encoder."),
        ("head.fixed.decoder.", _VQ + "decoder."),
    ]


_RENAMINGS = {
    "act": Renaming(_act()),
    "diffusion_policy": Renaming(_diffusion_policy()),
    "vq_bet": Renaming(_vq_bet()),
}
_CONSTANTS = {
    "act": ("model.vae_encoder_pos_enc",),
    "diffusion_policy": ("diffusion.rgb_encoder.pool.pos_grid",),
    "vq_bet": ("vqbet.rgb_encoder.pool.pos_grid", ".attn.bias", "vqbet.select_target_actions_indices"),
}


def renaming(policy: str) -> Renaming:
    """Return the names of the preset `policy` ("act", "diffusion_policy", "vq_bet") here and in LeRobot."""
    if policy not in _RENAMINGS:
        raise unknown("policy that LeRobot has as well", policy, _RENAMINGS)
    return _RENAMINGS[policy]


def constants(policy: str) -> tuple[str, ...]:
    """Return how the names end of what LeRobot stores though its configuration decides it."""
    renaming(policy)
    return _CONSTANTS[policy]


def from_lerobot(policy: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return LeRobot's `state` of a policy as that of the preset's network; an unknown name is a KinemaError."""
    names = renaming(policy)
    rest = {name: value for name, value in state.items() if not name.endswith(constants(policy))}
    books = _books_here(rest) if policy == "vq_bet" else {}
    made = {names.ours(name): value for name, value in rest.items()} | books
    # Training goes on with the quantiser's weights in `autoencoder`, acting with the copy in `fixed`.
    live = {name.replace("head.fixed.", "head.autoencoder."): v for name, v in made.items() if "head.fixed." in name}
    return made | live


def to_lerobot(policy: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the `state` of the preset's network as LeRobot's policy has it, but for `constants`."""
    names = renaming(policy)
    rest = {name: value for name, value in state.items() if not name.startswith("head.autoencoder.")}
    books = _books_there(rest) if policy == "vq_bet" else {}
    return {names.theirs(name): value for name, value in rest.items()} | books


def _books_here(rest: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take the codebooks, one module a layer, out of `rest` and return them stacked."""
    if not bool(rest.pop(_VQ + "discretized")):
        raise KinemaError("vq_bet: LeRobot's policy is still training its quantiser; expected one that can act")
    rest.pop(_VQ + "vq_layer.freeze_codebook")
    made = {}
    for ours, theirs in _BOOKS:
        own = sorted(name for name in rest if name.endswith(f"._codebook.{theirs}"))
        made[f"head.fixed.quantiser.{ours}"] = torch.cat([rest.pop(name) for name in own])
    for name in [name for name in rest if name.endswith("._codebook.initted")]:
        rest.pop(name)
    return made | {"head.steps": torch.tensor(_LATER)}


def _books_there(rest: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take the codebooks out of `rest` and return them by layer."""
    made = {_VQ + "discretized": torch.tensor(True), _VQ + "vq_layer.freeze_codebook": torch.tensor(True)}
    rest.pop("head.steps")
    for ours, theirs in _BOOKS:
        for layer, book in enumerate(rest.pop(f"head.fixed.quantiser.{ours}").unbind()):
            made[f"{_VQ}vq_layer.layers.{layer}._codebook.{theirs}"] = book[None]
            made[f"{_VQ}vq_layer.layers.{layer}._codebook.initted"] = torch.tensor([True])
    return made
