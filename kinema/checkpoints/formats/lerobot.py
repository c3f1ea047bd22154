"""Policies that LeRobot saved: ACT, Diffusion Policy, VQ-BeT, SmolVLA and pi0."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from kinema.checkpoints.foreign import Choices, Foreign, Imported, Said, complete
from kinema.checkpoints.lerobot import act, diffusion, pi0, smolvla, vqbet
from kinema.checkpoints.lerobot.directory import NEWEST, Directory, read
from kinema.checkpoints.lerobot.keys import from_lerobot
from kinema.checkpoints.lerobot.vla import EMPTY
from kinema.checkpoints.settings import reading
from kinema.core.errors import unknown
from kinema.core.spec import RobotSpec

POLICIES: dict[str, ModuleType] = {"act": act, "diffusion": diffusion, "vqbet": vqbet}
SPEAK: dict[str, ModuleType] = {"smolvla": smolvla, "pi0": pi0}
"""What LeRobot calls a policy -> how it becomes one of kinema; those that `SPEAK` read an instruction."""


def lerobot(path: Path, choices: Choices) -> Foreign:
    """Return the policy in a directory that LeRobot saved; raises KinemaError for a type that kinema does not have."""
    with reading(path):
        found = read(path)
    if found.kind not in POLICIES | SPEAK:
        raise unknown("policy type of LeRobot", found.kind, POLICIES | SPEAK)
    choices.refuse(f"{found.kind} of lerobot", "unnorm_key", *(["tokenizer"] if found.kind in POLICIES else []))
    return LeRobot(found, choices)


class LeRobot(Foreign):
    """A directory of LeRobot."""

    def __init__(self, found: Directory, choices: Choices) -> None:
        self._found, self._choices = found, choices
        self.files = found.files
        vectors = {} if found.state is None else {found.state: found.inputs["observation.state"][0]}
        speaks = found.kind in SPEAK
        shown = {name: shape for name, shape in found.cameras.items() if not (speaks and name.startswith(EMPTY))}
        # Policies with a vision-language model make every image as large as that wants it.
        cameras = {name: None if speaks else (shape[1], shape[2]) for name, shape in shown.items()}
        self.said = Said(cameras=cameras, vectors=vectors, action=found.action, instruction=speaks)

    def imported(self, spec: RobotSpec) -> Imported:
        """Return the policy."""
        found = self._found
        speaks = found.kind in SPEAK
        module: Any = (POLICIES | SPEAK)[found.kind]
        with reading(found.path):
            config = module.policy(found, self._choices) if speaks else module.policy(found)
        weights = module.weights(config, found.weights) if speaks else from_lerobot(module.KEYS, found.weights)
        found.settings.finish(NEWEST)
        facts: dict[str, Any] = {"policy": found.kind, "normalised by": dict(found.modes)}
        if found.averaged is not None:
            facts["chunking"] = rule(found.averaged)
        return Imported(spec=spec, policy=config, weights=complete(weights, found.path), facts=facts)


def rule(averaged: float) -> str:
    """Return the rule by which LeRobot's ACT averages chunks; with a negative coefficient new ones count more."""
    return f"ensemble --decay {abs(averaged):g} --order {'oldest' if averaged >= 0 else 'newest'}_first"
