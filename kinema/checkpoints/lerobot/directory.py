"""A directory of LeRobot: config.json, processors with statistics, and weights; of 0.4 and of older versions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kinema.checkpoints.settings import Settings
from kinema.checkpoints.shards import open_weights, read_json
from kinema.core.errors import CheckpointError, unknown
from kinema.data.lerobot.layout import sample_key

NEWEST = "LeRobot 0.4.4"
STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."
BEFORE, AFTER = "policy_preprocessor.json", "policy_postprocessor.json"
NOT_POLICY = (
    *("device", "use_amp", "push_to_hub", "repo_id", "private", "tags", "license", "pretrained_path"),
    *("compile_model", "compile_mode", "drop_n_last_frames", "do_mask_loss_for_padding", "pretrained_backbone_weights"),
    *("crop_is_random", "gradient_checkpointing", "dtype", "use_cache"),
)
"""Entries that train, or say where and how fast."""
_TRAINS = re.compile(r"(optimizer|scheduler)_\w+")
_STEPS = (
    *("rename_observations_processor", "to_batch_processor", "device_processor", "normalizer_processor"),
    *("unnormalizer_processor", "tokenizer_processor", "smolvla_new_line_processor", "pi0_new_line_processor"),
)
SCALES: Mapping[str, Any] = {"eps": 1e-8, "normalize_observation_keys": None}
"""What of a normaliser has to be as LeRobot makes it: kinema scales all that is normalised, with no other eps."""
_INSIDE = re.compile(r"(?:normalize_inputs|normalize_targets|unnormalize_outputs)\.buffer_(\w+)\.(\w+)")
Statistics = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Directory:
    """What a directory says. Features and statistics are under LeRobot's names, `renamed` maps those to the robot's."""

    path: Path
    kind: str
    settings: Settings
    inputs: Mapping[str, tuple[int, ...]]
    types: Mapping[str, str]
    modes: Mapping[str, str]
    statistics: Statistics
    weights: Mapping[str, Tensor]
    files: tuple[Path, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)
    averaged: float | None = None

    @property
    def cameras(self) -> Mapping[str, tuple[int, ...]]:
        """Name of each camera, as its robot calls it, and its shape."""
        shown = [key for key in self.inputs if self.types[key] == "VISUAL"]
        return {_camera(self.renamed.get(key, key)): self.inputs[key] for key in shown}

    @property
    def state(self) -> str | None:
        """What the robot calls its state: LeRobot's "observation.state" is "proprioception", as in datasets."""
        return sample_key(self.renamed.get(STATE, STATE)).removeprefix("vector.") if STATE in self.inputs else None

    @property
    def action(self) -> int:
        """The width of an action."""
        return self.inputs[ACTION][0]


def read(path: Path) -> Directory:
    """Return what is in the directory; raises CheckpointError for pickles, unfinished downloads and newer formats."""
    where = path / "config.json"
    entries = read_json(where)
    settings = Settings(entries, where)
    if "input_shapes" in entries:
        raise CheckpointError(f"{where} is of a LeRobot before 2025 (input_shapes)\nfix: migrate it with LeRobot first")
    settings.expect(use_peft=False)
    settings.skip(*NOT_POLICY, *[name for name in entries if _TRAINS.fullmatch(name)])
    given, made = (settings.take(f"{side}_features", dict) for side in ("input", "output"))
    if list(made) != [ACTION]:
        raise CheckpointError(f"{where}: output features are {', '.join(made) or 'none'}, expected 'action' alone")
    features = {name: _feature(where, name, said) for name, said in (given | made).items()}
    with open_weights(path) as opened:
        weights = {name: opened.load(name) for name in opened.shapes}
    modes = settings.take("normalization_mapping", dict)
    processed = (path / BEFORE).is_file() or (path / AFTER).is_file()
    statistics, renamed, files = _processors(path, modes) if processed else ({}, {}, [])
    if not processed:
        statistics, weights = _inside(weights, features)
    return Directory(
        path=path,
        kind=settings.take("type", str),
        settings=settings,
        inputs={name: shape for name, (_, shape) in features.items()},
        types={name: kind for name, (kind, _) in features.items()},
        modes=modes,
        statistics=statistics,
        weights=weights,
        files=(where, *files, *sorted(path.glob("model*.safetensors*"))),
        renamed={name: old for old, name in renamed.items()},
        averaged=settings.maybe("temporal_ensemble_coeff", float),
    )


def _feature(where: Path, name: str, said: Any) -> tuple[str, tuple[int, ...]]:
    """Return type and shape of a feature; raises CheckpointError for one that no policy of kinema has."""
    if not isinstance(said, dict) or not isinstance(said.get("shape"), list) or "type" not in said:
        raise CheckpointError(f"{where}: feature {name!r} is {said!r:.60}, expected a type and a shape")
    kind, shape = said["type"], tuple(said["shape"])
    known = {"STATE": (STATE, 1), "ACTION": (ACTION, 1), "VISUAL": (name, 3)}
    if kind not in known or known[kind] != (name, len(shape)):
        raise CheckpointError(
            f"{where}: feature {name!r} of type {kind} and shape {shape}; "
            f"expected images, {STATE!r} and {ACTION!r}, and nothing else"
        )
    return kind, shape


def _camera(key: str) -> str:
    return key.removeprefix(IMAGES) if key.startswith(IMAGES) else key.removeprefix("observation.")


def _processors(path: Path, modes: Mapping[str, str]) -> tuple[Statistics, dict[str, str], list[Path]]:
    """Return the statistics of both processors, what is renamed, and the files read."""
    before, after = (_steps(path / name) for name in (BEFORE, AFTER))
    renamed = before.get("rename_observations_processor", {}).get("config", {}).get("rename_map", {})
    files, found = [path / BEFORE, path / AFTER], []
    for name, steps in (("normalizer_processor", before), ("unnormalizer_processor", after)):
        if name not in steps:
            raise CheckpointError(f"{path}: no {name} among the processors")
        step = steps[name]
        said = step.get("config", {})
        if said.get("norm_map") != modes:
            raise CheckpointError(f"{path}: {name} and config.json disagree on what is normalised how")
        for entry, expected in SCALES.items():
            if said.get(entry, expected) != expected:
                raise CheckpointError(f"{path}: {entry} of {name} is {said[entry]!r:.60}, expected {expected!r}")
        if "state_file" in step:
            files.append(_beside(path, step["state_file"]))
        found.append(_statistics(files[-1]) if "state_file" in step else {})
    inputs, outputs = found
    for name, value in outputs.get(ACTION, {}).items():
        if name in inputs.get(ACTION, {}) and not np.array_equal(inputs[ACTION][name], value):
            raise CheckpointError(f"{path}: the processors disagree on the {name} of {ACTION!r}")
    return {**inputs, **{key: value for key, value in outputs.items() if key == ACTION}}, renamed, files


def _steps(path: Path) -> dict[str, Any]:
    """Return the steps of a processor by their names; raises CheckpointError for one that kinema does not know."""
    made = {}
    for step in read_json(path).get("steps", []):
        name = str(step.get("registry_name", step.get("class")))
        if name not in _STEPS:
            raise unknown(f"step of {path}", name, _STEPS)
        if step.get("config", {}).get("float_dtype") is not None:
            raise CheckpointError(f"{path}: {name} has float_dtype {step['config']['float_dtype']!r}, expected null")
        made[name] = step
    return made


def _beside(path: Path, name: str) -> Path:
    if Path(name).name != name or not name.endswith(".safetensors"):
        raise CheckpointError(f"{path}: statistics are in {name!r}, expected a safetensors file beside config.json")
    if not (path / name).is_file():
        raise CheckpointError(f"{path}: {name} is missing\nfix: finish the download")
    return path / name


def _statistics(path: Path) -> Statistics:
    found: dict[str, dict[str, np.ndarray]] = {}
    try:
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                key, _, statistic = name.rpartition(".")
                found.setdefault(key, {})[statistic] = file.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {path}: {error}; is the download whole?") from error
    return found


def _inside(weights: Mapping[str, Tensor], features: Mapping[str, Any]) -> tuple[Statistics, dict[str, Tensor]]:
    """Return the statistics that LeRobot before 0.4 kept among the weights, and the weights without them."""
    keys = {name.replace(".", "_"): name for name in features}
    found: dict[str, dict[str, np.ndarray]] = {}
    rest = {}
    for name, tensor in weights.items():
        match = _INSIDE.fullmatch(name)
        if match is None:
            rest[name] = tensor
        elif match[1] not in keys:
            raise unknown("feature with statistics", match[1], keys)
        else:
            found.setdefault(keys[match[1]], {})[match[2]] = tensor.float().numpy()
    return found, rest
