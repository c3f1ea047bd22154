"""What presets share: sizes by name, horizons that come with them, and what a policy of a state scales and reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from kinema.core.errors import KinemaError, unknown
from kinema.core.spec import ACTION
from kinema.core.transform import Transform
from kinema.nets.base import EncoderConfig
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.language.tokenizers import BYTES
from kinema.transforms.letterbox import Letterbox
from kinema.transforms.normalise import Normalise
from kinema.transforms.pad import Pad
from kinema.transforms.prompt_template import PromptTemplate, Template

Size = TypeVar("Size")


def sized(preset: str, sizes: Mapping[str, Size], name: str) -> Size:
    """Return the size `name` of `preset`; raises KinemaError for another than there are."""
    if name not in sizes:
        raise unknown(f"size of {preset}", name, sizes)
    return sizes[name]


def worded(preset: str, sizes: Mapping[str, Size], name: str, *, tokenizer: str, of: str) -> Size:
    """Return the size `name`; raises KinemaError where it is the published one without the words `of` its model."""
    found = sized(preset, sizes, name)
    if name == "published" and tokenizer == BYTES:
        raise KinemaError(f"{preset} of the published size: `tokenizer` must be a directory with {of}'s tokenizer")
    return found


def horizons(default: tuple[int, int], pred: int | None, execute: int | None) -> dict[str, int]:
    """Return the horizons of a policy: those given, else of the `default` pair no more than is predicted."""
    predicted = pred or default[0]
    return {"pred_horizon": predicted, "exec_horizon": execute or min(predicted, default[1])}


def numbers(state: str | None) -> tuple[str, ...]:
    """Return the keys of a sample that are scaled: the action, and the vector `state` if there is one."""
    return (ACTION,) if state is None else (ACTION, f"vector.{state}")


def linear(state: str | None) -> dict[str, EncoderConfig]:
    """Return the encoder `state`, one linear layer, if there is a state."""
    return {} if state is None else {"state": Proprioception(vector=state, hidden=None)}


def padded_to(width: int, *, state: str | None, size: tuple[int, int], template: Template) -> tuple[Transform, ...]:
    """Return the transforms of policies of one width for all robots: action and state scaled, padded with zeros."""
    return (
        Letterbox(height=size[0], width=size[1], place="end" if template == "smolvla" else "centre"),
        Normalise(modes=dict.fromkeys(numbers(state), "mean_std")),
        Pad(widths=dict.fromkeys(numbers(state), width)),
        PromptTemplate(template=template),
    )
