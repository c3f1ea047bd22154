"""pi0 of openpi in the safetensors that its own converter writes; its JAX parameters are not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kinema.checkpoints import pi0
from kinema.checkpoints.foreign import Choices, Foreign, Imported, Said, complete
from kinema.checkpoints.lerobot import vla
from kinema.checkpoints.lerobot.pi0 import TOKENIZER
from kinema.checkpoints.settings import Settings, reading
from kinema.checkpoints.shards import open_weights, read_json
from kinema.core.errors import CheckpointError
from kinema.core.spec import RobotSpec
from kinema.transforms.letterbox import Letterbox
from kinema.transforms.normalise import Normalise
from kinema.transforms.pad import Pad
from kinema.transforms.prompt_template import PromptTemplate

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
"""openpi's names; the first must be there, the others may be missing."""
STATE = "proprioception"
STEPS, WORDS, PIXELS = 10, 48, 224
SMALLEST = 1e-6
"""openpi adds it to a deviation."""


def openpi(path: Path, choices: Choices) -> Foreign:
    """Return the policy in a directory that openpi's examples/convert_jax_model_to_pytorch.py wrote.

    Raises CheckpointError for JAX parameters, with the command that converts them, and for other models than pi0.
    """
    choices.refuse("openpi", "unnorm_key")
    if (path / "params").is_dir() or (path / "_METADATA").is_file():
        raise CheckpointError(
            f"{path} holds JAX parameters, which kinema does not read\n"
            "fix: in openpi, python examples/convert_jax_model_to_pytorch.py --checkpoint-dir ... --config-name ... "
            "--output-path ..., and import what it writes"
        )
    with reading(path):
        return OpenPi(path, choices)


class OpenPi(Foreign):
    """A converted directory of openpi."""

    def __init__(self, path: Path, choices: Choices) -> None:
        self._path, self._choices = path, choices
        said = Settings(read_json(path / "config.json"), path / "config.json")
        said.expect(**pi0.VARIANTS, pi05=False)
        said.skip("precision", "dtype")
        self._width, self._horizon = said.take("action_dim", int), said.take("action_horizon", int)
        said.finish("openpi's converter of pi0")
        stored = sorted(path.rglob("norm_stats.json"))
        if len(stored) != 1:
            found = ", ".join(str(file.relative_to(path)) for file in stored) or "none"
            raise CheckpointError(f"{path}: expected one norm_stats.json of one robot below assets, found {found}")
        self._scale = _scale(stored[0])
        self.files = (path / "config.json", stored[0], *sorted(path.glob("model*.safetensors*")))
        widths = {key: len(own["mean"]) for key, own in (self._scale.statistics or {}).items()}
        state, action = widths[f"vector.{STATE}"], widths["action"]
        self.said = Said(cameras={CAMERAS[0]: None}, vectors={STATE: state}, action=action, instruction=True)

    def imported(self, spec: RobotSpec) -> Imported:
        """Return the policy; of openpi's three cameras those are read that the robot has."""
        have = {camera.name for camera in spec.observation.cameras}
        widths = dict.fromkeys((f"vector.{STATE}", "action"), self._width)
        config = pi0.composition(
            cameras=tuple(name for name in CAMERAS if name in have),
            state=STATE,
            tokenizer=str(vla.tokenizer(self._choices, TOKENIZER)),
            words=WORDS,
            steps=STEPS,
            transforms=(
                Letterbox(height=PIXELS, width=PIXELS),
                self._scale,
                Pad(widths=widths, own=spec.action.width),
                PromptTemplate(template="pi0"),
            ),
            horizons=(self._horizon, self._horizon),
        )
        with open_weights(self._path) as opened:
            weights = pi0.weights({name: opened.load(name) for name in opened.shapes})
        return Imported(spec=spec, policy=config, weights=complete(weights, self._path), facts={"policy": "pi0"})


def _scale(path: Path) -> Normalise:
    """Return the transform of state and action by mean and deviation."""
    said: Any = read_json(path).get("norm_stats")
    statistics = {}
    for name, key in (("state", f"vector.{STATE}"), ("actions", "action")):
        own = said.get(name) if isinstance(said, dict) else None
        if not isinstance(own, dict) or not {"mean", "std"} <= set(own):
            raise CheckpointError(f"{path} has no mean and std of {name!r}")
        mean, deviation = (np.asarray(own[entry], np.float64) for entry in ("mean", "std"))
        if mean.ndim != 1 or mean.shape != deviation.shape or not np.isfinite([mean, deviation]).all():
            raise CheckpointError(f"{path}: mean and std of {name!r} are no finite lists of one length")
        statistics[key] = {"mean": mean, "std": deviation + SMALLEST}
    return Normalise(modes=dict.fromkeys(statistics, "mean_std"), statistics=statistics)
