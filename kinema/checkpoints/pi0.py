"""pi0 as openpi's PyTorch model and LeRobot's have it: one composition, one set of names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from kinema.checkpoints.lerobot import vla
from kinema.core.transform import Transform
from kinema.nets.encoders.prompt import Prompt
from kinema.nets.renaming import Renaming
from kinema.policies.base import PolicyConfig
from kinema.policies.pi0 import pi0

VARIANTS = {"paligemma_variant": "gemma_2b", "action_expert_variant": "gemma_300m"}
_INSIDE = "paligemma_with_expert."
_EMBEDDING = _INSIDE + "paligemma.model.language_model.embed_tokens.weight"
_TIED = (_EMBEDDING, _INSIDE + "paligemma.lm_head.weight")
_UNUSED = _INSIDE + "gemma_expert.lm_head.weight"
"""Logits of words that the expert never says."""
NAMES = Renaming(
    [
        *vla.ACTIONS,
        ("encoders.images.towers.0.model.", _INSIDE + "paligemma.model.vision_tower.vision_model."),
        ("encoders.images.projector.", _INSIDE + "paligemma.model.multi_modal_projector."),
        ("trunk.model.", _INSIDE + "paligemma.model.language_model."),
        ("head.net.denoiser.model.", _INSIDE + "gemma_expert.model."),
    ]
)
_OLDER = (
    (r"^model\.", ""),
    (r"paligemma\.language_model\.model\.", "paligemma.model.language_model."),
    (r"paligemma\.language_model\.lm_head\.", "paligemma.lm_head."),
    (r"paligemma\.(vision_tower|multi_modal_projector)\.", r"paligemma.model.\1."),
    (r"^time_mlp_(in|out)\.", r"action_time_mlp_\1."),
)


def composition(
    *,
    cameras: tuple[str, ...],
    state: str,
    tokenizer: str,
    words: int,
    steps: int,
    transforms: tuple[Transform, ...],
    horizons: tuple[int, int],
) -> PolicyConfig:
    """Return pi0 of the published size that predicts and executes `horizons` steps."""
    made = pi0(
        cameras=cameras, state=state, size="published", tokenizer=tokenizer, draws=1,
        pred_horizon=horizons[0], exec_horizon=horizons[1],
    )  # fmt: skip
    prompt = Prompt(tokenizer=tokenizer, length=words).pinned()
    head = replace(made.head, steps=steps)  # type: ignore[type-var]
    return replace(made, encoders={**made.encoders, "instruction": prompt}, head=head, transforms=transforms)


def weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights as they are here, whichever version saved them; one without a name is a KinemaError."""
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in _OLDER:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    renamed.pop(_UNUSED, None)
    vla.first_of(_TIED, renamed)
    return vla.negated({NAMES.ours(name): value for name, value in renamed.items()})
