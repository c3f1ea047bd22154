"""What SmolVLA and pi0 share: their transforms, and the weights around language model and expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from kinema.checkpoints.foreign import Choices
from kinema.checkpoints.lerobot.directory import ACTION, Directory
from kinema.checkpoints.lerobot.scaling import normalise
from kinema.checkpoints.settings import Settings
from kinema.core.errors import CheckpointError, KinemaError
from kinema.core.transform import Transform
from kinema.transforms.letterbox import Letterbox
from kinema.transforms.pad import Pad
from kinema.transforms.prompt_template import PromptTemplate

EMPTY = "empty_camera_"
LEAVE = "head.net.denoiser.actions.leave."
ACTIONS = [
    ("head.net.denoiser.actions.enter.", "action_in_proj."),
    ("head.net.denoiser.actions.mix.0.", "action_time_mlp_in."),
    ("head.net.denoiser.actions.mix.2.", "action_time_mlp_out."),
    (LEAVE, "action_out_proj."),
    ("encoders.state.layers.", "state_proj."),
]
"""The output is negated: theirs is noise - action, and the velocity here action - noise."""


def tokenizer(choices: Choices, name: str) -> Path:
    """Return the directory with the tokenizer of the language model `name`; raises KinemaError where none is given."""
    if choices.tokenizer is None:
        raise KinemaError(
            f"the words are those of {name}, which the checkpoint does not hold\nfix: --tokenizer DIRECTORY of it"
        )
    return choices.tokenizer.resolve()


def cameras(found: Directory) -> tuple[str, ...]:
    """Return the cameras, but for those that LeRobot fills with black and hides."""
    return tuple(name for name in found.cameras if not name.startswith(EMPTY))


def transforms(found: Directory, box: Letterbox, said: Settings) -> tuple[Transform, ...]:
    """Return the transforms: images, scale, padding and words."""
    if found.state is None:
        raise CheckpointError(f"{found.path}: no observation.state, which LeRobot's {found.kind} reads")
    if found.modes.get("VISUAL", "IDENTITY") != "IDENTITY":
        raise CheckpointError(f"{found.path}: images are scaled by {found.modes['VISUAL']}, expected IDENTITY")
    widths = {f"vector.{found.state}": said.take("max_state_dim", int), ACTION: said.take("max_action_dim", int)}
    pad = Pad(widths=widths, own=found.action)
    return (box, *normalise(found), pad, PromptTemplate(template="smolvla" if found.kind == "smolvla" else "pi0"))


def negated(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with the sign of the denoiser's output turned."""
    return {name: -value if name.startswith(LEAVE) else value for name, value in weights.items()}


def times(value: Tensor, factor: float) -> Tensor:
    """Return `value` times `factor`, in float32."""
    return value.float() * torch.tensor(factor, dtype=torch.float32)


def divided(value: Tensor, factor: float) -> Tensor:
    """Return what `times` makes `value` of: of the neighbours of the quotient the one whose product is exact."""
    quotient = value / torch.tensor(factor, dtype=torch.float32)
    found = quotient.clone()
    for direction in (-torch.inf, torch.inf):
        near = torch.nextafter(quotient, torch.full_like(quotient, direction))
        exact = (times(found, factor) != value) & (times(near, factor) == value)
        found = torch.where(exact, near, found)
    return found


def first_of(names: Sequence[str], weights: dict[str, Tensor]) -> None:
    """Leave of tied weights, held once or twice, the first name; raises CheckpointError where they differ."""
    there = [name for name in names if name in weights]
    if not there:
        return
    kept = weights[there[0]]
    for name in there:
        other = weights.pop(name)
        if other.shape != kept.shape or (not kept.is_meta and not torch.equal(other, kept)):
            raise CheckpointError(f"{there[0]!r} and {name!r} are one weight in the model, but differ in the file")
    weights[names[0]] = kept
