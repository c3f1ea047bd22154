"""The instruction as the sentence that a published vision-language-action model was trained to answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from kinema.actions.bins import Bins
from kinema.core.errors import KinemaError, nearest, unknown
from kinema.core.spec import INSTRUCTION
from kinema.core.transform import Sample, Transform

Template = Literal["openvla", "pi0", "pi0_fast", "smolvla"]
STATE_BINS = Bins(convention="left_edge")
"""openpi's 256 bins of a state in [-1, 1]. It clips nothing, and what lies below is "-1" there; here it is "0"."""


@dataclass(frozen=True, kw_only=True)
class PromptTemplate(Transform):
    r"""`template` names the sentence.

    - "openvla": "In: What action should the robot take to {instruction}?\nOut:", in lower case (Kim et al. 2024).
    - "pi0": "{instruction}\n" (Black et al. 2024).
    - "pi0_fast": "Task: {instruction}, State: {state};\n", in lower case (Pertsch et al. 2025). The newest step of the
      vector `state` is there as whole numbers 0 to 255, so it stands after what scales it to [-1, 1].

    - "smolvla": the instruction as it is, with a line's end if it has none (LeRobot's SmolVLA).

    Underscores are spaces in those of openpi, as its tokenizers have it.
    """

    template: Template
    state: str | None = None

    def __post_init__(self) -> None:
        if self.template not in _SENTENCES:
            raise unknown("prompt template", self.template, get_args(Template))
        if (self.state is not None) != (self.template == "pi0_fast"):
            raise KinemaError(
                f"prompt template {self.template!r}: state {self.state!r}; "
                "'pi0_fast' says a state and must be told which vector it is, the others say none"
            )

    @property
    def reads(self) -> tuple[str, ...]:
        """The instruction, and the state if the sentence says it."""
        return (INSTRUCTION,) if self.state is None else (INSTRUCTION, f"vector.{self.state}")

    def forward(self, sample: Sample) -> tuple[Sample, Any]:
        """Return the sample with its instructions as sentences; raises KinemaError for an empty instruction."""
        for key in self.reads:
            if key not in sample:
                raise KinemaError(
                    f"prompt template: {key!r} is missing from the sample{nearest(key, sample)}; "
                    f"it has: {', '.join(sample)}"
                )
        texts = [_asked(text, row) for row, text in enumerate(sample[INSTRUCTION])]
        states = [""] * len(texts) if self.state is None else _states(sample[f"vector.{self.state}"])
        say = _SENTENCES[self.template]
        return {**sample, INSTRUCTION: [say(text, state) for text, state in zip(texts, states, strict=True)]}, None

    def inverse(self, action: np.ndarray, memo: Any) -> np.ndarray:
        """Return the action, which no sentence changes."""
        return action


def _states(vector: np.ndarray) -> list[str]:
    """Return the newest step of each of `vector` (B, T, D) as whole numbers with spaces between."""
    return [" ".join(map(str, row)) for row in STATE_BINS.encode(vector[:, -1])]


def _asked(text: str | None, row: int) -> str:
    if not text or not text.strip():
        raise KinemaError(f"prompt template: the instruction of batch entry {row} is {text!r}; expected a text")
    return text


def _openvla(text: str, state: str) -> str:
    return f"In: What action should the robot take to {text.lower()}?\nOut:"


def _pi0(text: str, state: str) -> str:
    return text.strip().replace("_", " ").replace("\n", " ") + "\n"


def _smolvla(text: str, state: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def _pi0_fast(text: str, state: str) -> str:
    return f"Task: {text.lower().strip().replace('_', ' ')}, State: {state};\n"


_SENTENCES: Mapping[str, Callable[[str, str], str]] = {
    "openvla": _openvla,
    "pi0": _pi0,
    "pi0_fast": _pi0_fast,
    "smolvla": _smolvla,
}
