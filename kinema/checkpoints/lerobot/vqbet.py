"""VQ-BeT of LeRobot as a policy of kinema."""

from __future__ import annotations

from kinema.checkpoints.lerobot import parts
from kinema.checkpoints.lerobot.directory import Directory
from kinema.checkpoints.lerobot.scaling import normalise
from kinema.core.errors import CheckpointError
from kinema.heads.vq_bet import VqBet
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.trunks.gpt import Gpt
from kinema.policies.base import PolicyConfig

KEYS = "vq_bet"


def policy(found: Directory) -> PolicyConfig:
    """Return VQ-BeT; of the chunks that LeRobot predicts kinema has the one that begins now, which alone acts."""
    said = found.settings
    said.expect(sequentially_select=False, use_group_norm=True)
    said.skip("n_action_pred_token")
    widths = {said.take(f"gpt_{name}_dim", int) for name in ("input", "hidden", "output")}
    if len(widths) > 1:
        raise CheckpointError(
            f"{said.where}: gpt_input_dim, gpt_hidden_dim and gpt_output_dim differ: {sorted(widths)}"
        )
    if found.state is None:
        raise CheckpointError(f"{said.where}: no observation.state, which LeRobot's vqbet reads")
    keypoints, steps = said.take("spatial_softmax_num_keypoints", int), said.take("action_chunk_size", int)
    images = parts.resnet(found, readout="spatial_softmax", keypoints=keypoints)
    weights = (said.take("primary_code_loss_weight", float), said.take("secondary_code_loss_weight", float))
    return PolicyConfig(
        encoders={"images": images, "state": Proprioception(vector=found.state, per_step=True, hidden=None)},
        trunk=Gpt(
            layers=said.take("gpt_n_layer", int),
            heads=said.take("gpt_n_head", int),
            dropout=said.take("dropout", float),
            places=said.take("gpt_block_size", int),
        ),
        head=VqBet(
            quantiser_steps=said.take("n_vqvae_training_steps", int),
            codes=said.take("vqvae_n_embed", int),
            code_weights=weights,
            latent=said.take("vqvae_embedding_dim", int),
            hidden=said.take("vqvae_enc_hidden_dim", int),
            offset_weight=said.take("offset_loss_weight", float),
            offset_for="sampled",
            temperature=said.take("bet_softmax_temperature", float),
            revive=0.0,
        ),
        transforms=(*parts.crop(said), *normalise(found)),
        width=widths.pop(),
        obs_horizon=said.take("n_obs_steps", int),
        pred_horizon=steps,
        exec_horizon=steps,
    )
