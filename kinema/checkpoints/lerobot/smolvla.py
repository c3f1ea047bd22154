"""SmolVLA of LeRobot as a policy of kinema, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from kinema.checkpoints.foreign import Choices
from kinema.checkpoints.layouts import read
from kinema.checkpoints.lerobot import vla
from kinema.checkpoints.lerobot.directory import ACTION, Directory
from kinema.checkpoints.settings import pair
from kinema.checkpoints.shards import read_json
from kinema.core.errors import CheckpointError
from kinema.heads.flow import Flow
from kinema.nets.denoisers.interleaved_expert import InterleavedExpert, beside
from kinema.nets.encoders.prompt import Prompt
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.encoders.vision_language import VisionLanguage
from kinema.nets.language.sizes import Decoder
from kinema.nets.renaming import Renaming
from kinema.nets.towers.sizes import Tower
from kinema.nets.trunks.language_model import LanguageModel
from kinema.policies.base import PolicyConfig
from kinema.policies.smolvla import SIZES
from kinema.transforms.letterbox import Letterbox
from kinema.transforms.pad import Pad

PUBLISHED = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"
ROPE_THETA = 10_000.0
"""LeRobot turns keys so, whatever the language model says."""
_INSIDE = "model.vlm_with_expert."
NAMES = Renaming(
    [
        *((ours, "model." + theirs) for ours, theirs in vla.ACTIONS),
        ("encoders.images.towers.0.model.", _INSIDE + "vlm.model.vision_model."),
        ("encoders.images.projector.", _INSIDE + "vlm.model.connector.modality_projection."),
        ("trunk.model.", _INSIDE + "vlm.model.text_model."),
        ("trunk.lm_head.", _INSIDE + "vlm.lm_head."),
        ("head.net.denoiser.model.", _INSIDE + "lm_expert."),
    ]
)
_SCALED = ("encoders.images.projector.proj.weight", "trunk.model.embed_tokens.weight")
"""LeRobot multiplies what they make by the square root of its width, kinema nothing."""
FIXED: dict[str, Any] = {
    "n_obs_steps": 1,
    "adapt_to_pi_aloha": False,
    "use_delta_joint_actions_aloha": False,
    "add_image_special_tokens": False,
    "attention_mode": "cross_attn",
    "prefix_length": -1,
    "min_period": 4e-3,
    "max_period": 4.0,
}
_TRAINS = (
    "freeze_vision_encoder",
    "train_state_proj",
    "load_vlm_weights",
    "pad_language_to",
    "rtc_config",
    "empty_cameras",
)


def policy(found: Directory, choices: Choices) -> PolicyConfig:
    """Return SmolVLA; of a language model other than the published the config.json beside its words says the sizes."""
    said = found.settings
    said.expect(**FIXED)
    said.skip(*_TRAINS)
    name = said.take("vlm_model_name", str)
    words = vla.tokenizer(choices, name)
    tower, shuffle, whole = _sizes(name, words)
    layers = said.take("num_vlm_layers", int)
    trunk = replace(whole, rope_theta=ROPE_THETA).truncated(layers if layers > 0 else whole.layers)
    if (own := said.take("num_expert_layers", int, default=-1)) not in (-1, 0, trunk.layers):
        raise CheckpointError(
            f"{said.where}: num_expert_layers is {own}, expected one beside each of {trunk.layers} layers"
        )
    expert = beside(trunk, share=said.take("expert_width_multiplier", float))
    frozen = said.take("train_expert_only", bool)
    wide, high = pair(said.take("resize_imgs_with_padding", list), "resize_imgs_with_padding")
    return PolicyConfig(
        encoders={
            "images": VisionLanguage(
                cameras=vla.cameras(found), towers=(tower,), projector="pixel_shuffle", shuffle=shuffle,
                frozen="all" if frozen else "nothing",
            ),
            "instruction": Prompt(tokenizer=str(words), length=said.take("tokenizer_max_length", int)).pinned(),
            "state": Proprioception(vector=found.state or "", hidden=None),
        },
        trunk=LanguageModel(size=trunk, apart=("state",), frozen=frozen),
        head=Flow(
            denoiser=InterleavedExpert(size=expert, joint_every=said.take("self_attn_every_n_layers", int)),
            steps=said.take("num_steps", int),
            draws=1,
        ),
        transforms=vla.transforms(found, Letterbox(height=high, width=wide, place="end"), said),
        width=trunk.width,
        pred_horizon=said.take("chunk_size", int),
        exec_horizon=said.take("n_action_steps", int),
    )  # fmt: skip


def weights(config: PolicyConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return LeRobot's weights as they are here."""
    made = vla.negated({NAMES.ours(name): value for name, value in state.items()})
    factor = math.sqrt(config.width)
    return made | {name: vla.times(made[name], factor) for name in _SCALED if name in made}


def state(config: PolicyConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights as they are in LeRobot."""
    factor = math.sqrt(config.width)
    made = {name: vla.divided(value, factor) if name in _SCALED else value for name, value in weights.items()}
    return {NAMES.theirs(name): value for name, value in vla.negated(made).items()}


def _sizes(name: str, words: Path) -> tuple[Tower, int, Decoder]:
    if name == PUBLISHED:
        tower, shuffle, whole, _, _ = SIZES["published"]
        return tower, shuffle, whole
    said = read(read_json(words / "config.json"))
    if len(said.towers) != 1 or said.shuffle is None:
        raise CheckpointError(f"{words / 'config.json'} is not of a SmolVLM, as the checkpoint's {name!r} is")
    return said.towers[0], said.shuffle, said.size


def entries(config: PolicyConfig) -> dict[str, Any]:
    """Return what config.json of LeRobot says of it; whoever calls makes sure that `policy` returns `config` of it."""
    images, words = config.encoders.get("images"), config.encoders.get("instruction")
    trunk, head = config.trunk, config.head
    boxes = [transform for transform in config.transforms if isinstance(transform, Letterbox)]
    pads = [transform for transform in config.transforms if isinstance(transform, Pad)]
    if not (isinstance(images, VisionLanguage) and isinstance(words, Prompt) and isinstance(trunk, LanguageModel)):
        raise CheckpointError("LeRobot's SmolVLA has images, an instruction and a language model; this policy has not")
    if not (isinstance(head, Flow) and isinstance(head.denoiser, InterleavedExpert) and boxes and pads):
        raise CheckpointError(
            "LeRobot's SmolVLA has a flow of an interleaved expert, images in a letterbox and padding"
        )
    tower, shuffle, whole, _, _ = SIZES["published"]
    published = (images.towers, images.shuffle) == ((tower,), shuffle) and trunk.size.width == whole.width
    state_width = next(width for key, width in pads[0].widths.items() if key != ACTION)
    return {
        **FIXED,
        "chunk_size": config.pred_horizon,
        "n_action_steps": config.exec_horizon,
        "max_state_dim": state_width,
        "max_action_dim": pads[0].widths[ACTION],
        "resize_imgs_with_padding": [boxes[0].width, boxes[0].height],
        "empty_cameras": 0,
        "tokenizer_max_length": words.length,
        "num_steps": head.steps,
        "freeze_vision_encoder": trunk.frozen,
        "train_expert_only": trunk.frozen,
        "vlm_model_name": PUBLISHED if published else words.tokenizer,
        "load_vlm_weights": False,
        "num_expert_layers": -1,
        "num_vlm_layers": trunk.size.layers,
        "self_attn_every_n_layers": head.denoiser.joint_every,
        "expert_width_multiplier": head.denoiser.size.width / trunk.size.width,
    }


def steps(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what LeRobot's processor does with the instruction."""
    words = {
        "max_length": said["tokenizer_max_length"],
        "task_key": "task",
        "padding_side": "right",
        "padding": "longest",
    }
    words |= {"truncation": True, "tokenizer_name": said["vlm_model_name"]}
    return [
        {"registry_name": "smolvla_new_line_processor", "config": {}},
        {"registry_name": "tokenizer_processor", "config": words},
    ]
