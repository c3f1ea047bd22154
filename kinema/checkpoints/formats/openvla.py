"""OpenVLA in the directory of `transformers` that its authors publish, with the statistics of one of its datasets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kinema.checkpoints.backbones import load_backbone
from kinema.checkpoints.foreign import UNSAID, Choices, Foreign, Imported, Said, complete
from kinema.checkpoints.layouts import Published, read
from kinema.checkpoints.settings import reading
from kinema.checkpoints.shards import PICKLED, read_json
from kinema.core.errors import CheckpointError, SpecMismatch, unknown
from kinema.core.spec import RobotSpec
from kinema.heads.text_tokens import TextTokens
from kinema.nets.encoders.prompt import Prompt
from kinema.nets.encoders.vision_language import VisionLanguage
from kinema.nets.trunks.language_model import LanguageModel
from kinema.policies.base import PolicyConfig
from kinema.policies.network import Network
from kinema.transforms.normalise import Normalise
from kinema.transforms.prompt_template import PromptTemplate
from kinema.transforms.resize import Resize

STATISTICS = "dataset_statistics.json"
BLANK, END = 29_871, 2
"""Words of Llama-2: the blank behind "Out:", and the end of the text."""
BINS = 256
WORDS = 96


def openvla(path: Path, choices: Choices) -> Foreign:
    """Return the policy in a directory of OpenVLA; `unnorm_key` names the dataset whose statistics scale its actions.

    Statistics are those of dataset_statistics.json, as fine-tuned checkpoints have them, or else of config.json. Raises
    KinemaError for an unknown dataset, with the nearest match, and where there are several and none is named.
    """
    with reading(path):
        return OpenVLA(path, choices)


class OpenVLA(Foreign):
    """A directory of OpenVLA."""

    def __init__(self, path: Path, choices: Choices) -> None:
        self._path, self._config = path, read_json(path / "config.json")
        self._expect(n_action_bins=BINS, image_resize_strategy="resize-naive")
        heads = sorted(entry.name for entry in path.iterdir() if entry.suffix in PICKLED)
        if heads:
            raise CheckpointError(f"{path}: {heads[0]} is a pickle, which can run code and is not loaded")
        own = path / STATISTICS
        said = read_json(own) if own.is_file() else self._config.get("norm_stats", {})
        self.key = _chosen(said, choices.unnorm_key, path)
        self._scale = _scale(said[self.key], f"{path}: statistics of {self.key!r}")
        self._words = choices.tokenizer or path
        self.files = (
            path / "config.json", *([own] if own.is_file() else []), *sorted(path.glob("model*.safetensors*")),
        )  # fmt: skip
        width = len(next(iter((self._scale.statistics or {}).values()))["q01"])
        self.said = Said(cameras={UNSAID: None}, action=width, instruction=True)

    def imported(self, spec: RobotSpec) -> Imported:
        """Return the policy, which sees the robot's one camera; its weights in float32 are twice the file's."""
        if len(spec.observation.cameras) != 1:
            raise SpecMismatch(f"OpenVLA sees one camera, the robot has {len(spec.observation.cameras)}")
        with reading(self._path):
            config = self._policy(spec.observation.cameras[0].name, read(self._config))
        network = Network(config, spec)
        load_backbone(network, self._path)
        facts = {"policy": "openvla", "unnorm_key": self.key}
        return Imported(spec=spec, policy=config, weights=complete(network.state_dict(), self._path), facts=facts)

    def _policy(self, camera: str, said: Published) -> PolicyConfig:
        spare = self._config.get("pad_to_multiple_of", 64)
        words = str(self._words.resolve())
        height, width = said.towers[0].size
        return PolicyConfig(
            encoders={
                "begin": Prompt(tokenizer=words, length=1, part="first").pinned(),
                "images": VisionLanguage(cameras=(camera,), towers=said.towers, projector="mlp3"),
                "instruction": Prompt(tokenizer=words, length=WORDS, part="rest").pinned(),
            },
            trunk=LanguageModel(size=said.size, attention="causal"),
            head=TextTokens(vocabulary=said.size.vocabulary - spare, before=(BLANK,), after=(END,)),
            transforms=(
                Resize(height=height, width=width), self._scale, PromptTemplate(template="openvla"),
            ),
            width=said.size.width,
            pred_horizon=1,
            exec_horizon=1,
        )  # fmt: skip

    def _expect(self, **values: Any) -> None:
        for name, value in values.items():
            if self._config.get(name, value) != value:
                where = self._path / "config.json"
                raise CheckpointError(f"{where}: {name!r} is {self._config[name]!r:.60}, expected {value!r}")


def _chosen(said: Mapping[str, Any], key: str | None, path: Path) -> str:
    """Return the dataset whose statistics are used."""
    if not said:
        raise CheckpointError(
            f"{path} has neither {STATISTICS} nor norm_stats in config.json: nothing says how actions scale"
        )
    if key is None and len(said) == 1:
        return next(iter(said))
    if key is None:
        names = sorted(said)
        shown = ", ".join(names[:8]) + (f", ... ({len(names)} in all)" if len(names) > 8 else "")
        raise CheckpointError(f"{path} has statistics of several datasets: {shown}\nfix: --unnorm-key DATASET")
    if key not in said:
        raise unknown("dataset with statistics", key, said)
    return key


def _scale(entry: Any, where: str) -> Normalise:
    """Return the transform of actions: 1 % and 99 % quantiles to -1 and 1, but for what the mask leaves."""
    action = entry.get("action") if isinstance(entry, dict) else None
    if not isinstance(action, dict) or not {"q01", "q99"} <= set(action):
        raise CheckpointError(f"{where} have no q01 and q99 of the action")
    low, high = (np.asarray(action[name], np.float64) for name in ("q01", "q99"))
    mask = np.asarray(action.get("mask", np.ones(low.shape, bool)), bool)
    if not (low.ndim == 1 and low.shape == high.shape == mask.shape and np.isfinite([low, high]).all()):
        raise CheckpointError(f"{where}: q01, q99 and mask are no finite lists of one length")
    ends = {name: np.asarray(action[name], np.float64) for name in ("min", "max") if name in action}
    kept = tuple(int(index) for index in np.flatnonzero(~mask))
    modes = {"action": "quantile_clipped"}
    statistics = {"action": {"q01": low, "q99": high, **ends}}
    return Normalise(modes=modes, keep={"action": kept} if kept else {}, statistics=statistics)
