"""A policy of kinema as a directory that LeRobot 0.4 loads: configuration, weights, processors with statistics."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from kinema.checkpoints.foreign import Choices
from kinema.checkpoints.formats.lerobot import SPEAK, lerobot
from kinema.checkpoints.lerobot import act, diffusion, smolvla
from kinema.checkpoints.lerobot.directory import ACTION, AFTER, BEFORE, STATE
from kinema.checkpoints.lerobot.keys import to_lerobot
from kinema.checkpoints.lerobot.scaling import entries
from kinema.core import config
from kinema.core.errors import CheckpointError, UnavailableError
from kinema.core.files import write_text
from kinema.core.spec import INSTRUCTION, RobotSpec
from kinema.data.lerobot.layout import feature_key
from kinema.heads.cvae import Cvae
from kinema.heads.diffusion import Diffusion
from kinema.heads.flow import Flow
from kinema.nets.ema import named_weights
from kinema.nets.encoders.prompt import Prompt
from kinema.policies.base import PolicyConfig
from kinema.policies.network import Network

ROBOT_FILE = "robot.json"
HEADS: tuple[tuple[type, str, ModuleType], ...] = (
    (Cvae, "act", act),
    (Diffusion, "diffusion", diffusion),
    (Flow, "smolvla", smolvla),
)
"""Head of a policy, what LeRobot calls such a policy, and how it is said there."""
TRAINS_ONLY = ("draws", "reduction", "statistics")
"""Fields in which a policy may differ once it has been there and back: the statistics are the same in float32."""


def export_lerobot(policy: PolicyConfig, spec: RobotSpec, weights: Mapping[str, Tensor], out: Path) -> str:
    """Write the directory `out`, with a robot.json to come back by, and return what LeRobot calls the policy.

    What is written is imported again and compared: raises CheckpointError for what LeRobot has no place for, and then
    writes nothing.
    """
    kind, module = _kind(policy)
    made = out.with_name(f".{out.name}.tmp")
    made.mkdir(parents=True)
    try:
        _write(policy, spec, weights, made, kind=kind, module=module)
        _compare(policy, spec, weights, made)
        made.rename(out)
    except (OSError, SafetensorError) as error:
        raise UnavailableError(f"cannot write {out}: {error}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return kind


def _kind(policy: PolicyConfig) -> tuple[str, Any]:
    for head, kind, module in HEADS:
        if isinstance(policy.head, head):
            return kind, module
    known = ", ".join(head.__name__ for head, _, _ in HEADS)
    raise CheckpointError(
        f"LeRobot has no policy with the head {type(policy.head).__name__}; exported are those with {known}"
    )


def _write(
    policy: PolicyConfig, spec: RobotSpec, weights: Mapping[str, Tensor], out: Path, *, kind: str, module: Any
) -> None:
    said = module.entries(policy)
    vectors = spec.observation.vectors
    if (INSTRUCTION in policy.reads) != (kind in SPEAK) or len(vectors) > 1:
        raise CheckpointError(
            f"LeRobot's {kind} reads images{', words' * (kind in SPEAK)} and one vector; "
            f"this policy reads {', '.join(policy.reads)}"
        )
    state = vectors[0].name if vectors else None
    cameras = [camera.name for camera in spec.observation.cameras]
    modes, statistics = entries(policy, state, cameras)
    inputs: dict[str, Any] = {}
    renamed = {}
    if vectors:
        inputs[STATE] = {"type": "STATE", "shape": [len(vectors[0].components)]}
        renamed = {feature_key(vectors[0].key): STATE}
        renamed = {old: new for old, new in renamed.items() if old != new}
    for key in policy.encoders["images"].reads:
        inputs[feature_key(key)] = {"type": "VISUAL", "shape": [3, *spec.observation.shape(key)[:2]]}
    outputs = {ACTION: {"type": "ACTION", "shape": [spec.action.width]}}
    head = {"type": kind, "n_obs_steps": policy.obs_horizon, "input_features": inputs, "output_features": outputs}
    head |= {"device": "cpu", "use_amp": False, "push_to_hub": False, "normalization_mapping": modes}
    _write_json(out / "config.json", head | said)
    steps = [_step("rename_observations_processor", rename_map=renamed), _step("to_batch_processor")]
    steps += [*(module.steps(said) if kind in SPEAK else []), _device()]
    last = _save(statistics, out, BEFORE, len(steps), _scaling("normalizer_processor", inputs | outputs, modes))
    _write_json(out / BEFORE, {"name": Path(BEFORE).stem, "steps": [*steps, last]})
    first = _save(statistics, out, AFTER, 0, _scaling("unnormalizer_processor", outputs, modes))
    _write_json(out / AFTER, {"name": Path(AFTER).stem, "steps": [first, _device()]})
    there = module.state(policy, weights) if kind in SPEAK else to_lerobot(module.KEYS, weights)
    tensors = {name: value.detach().cpu().contiguous() for name, value in there.items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config.save(spec, out / ROBOT_FILE)


def _compare(policy: PolicyConfig, spec: RobotSpec, weights: Mapping[str, Tensor], out: Path) -> None:
    """Raise CheckpointError unless the directory is the policy again."""
    prompts = [encoder.tokenizer for encoder in policy.encoders.values() if isinstance(encoder, Prompt)]
    back = lerobot(out, Choices(tokenizer=Path(prompts[0]) if prompts else None)).imported(spec)
    wrong = list(_differences(config.to_data(policy), config.to_data(back.policy), ""))
    wrong += [f"weight {n!r}" for n in weights if n not in back.weights or not torch.equal(weights[n], back.weights[n])]
    with torch.device("meta"):
        places = named_weights(Network(back.policy, back.policy.needs(spec)))
    wrong += [f"weight {name!r}" for name in sorted(places.keys() ^ weights.keys())]
    if wrong:
        more = [f"  ... and {len(wrong) - 6} more"] if len(wrong) > 6 else []
        raise CheckpointError(
            "\n".join(["LeRobot has no place for this policy:", *(f"  {w}" for w in wrong[:6]), *more])
        )


def _differences(own: Any, other: Any, place: str) -> list[str]:
    if isinstance(own, dict) and isinstance(other, dict) and "array" not in own:
        names = [name for name in dict.fromkeys((*own, *other)) if name not in TRAINS_ONLY]
        parts = [_differences(own.get(name), other.get(name), f"{place}.{name}") for name in names]
        return [text for part in parts for text in part]
    if isinstance(own, list) and isinstance(other, list) and len(own) == len(other):
        pairs = enumerate(zip(own, other, strict=True))
        return [text for index, (a, b) in pairs for text in _differences(a, b, f"{place}[{index}]")]
    return [] if own == other else [f"{place.removeprefix('.')} is {own!r:.60}, there {other!r:.60}"]


def _step(name: str, **options: Any) -> dict[str, Any]:
    return {"registry_name": name, "config": options}


def _device() -> dict[str, Any]:
    return _step("device_processor", device="cpu", float_dtype=None)


def _scaling(name: str, features: Mapping[str, Any], modes: Mapping[str, str]) -> dict[str, Any]:
    return _step(name, eps=1e-8, features=dict(features), norm_map=dict(modes))


def _save(statistics: Any, out: Path, processor: str, index: int, step: dict[str, Any]) -> dict[str, Any]:
    """Write the statistics of a step where LeRobot looks for them, and return the step with their file."""
    flat = {
        f"{key}.{name}": torch.from_numpy(np.array(v)) for key, own in statistics.items() for name, v in own.items()
    }
    if not flat:
        return step
    file = f"{Path(processor).stem}_step_{index}_{step['registry_name']}.safetensors"
    save_file(flat, out / file)
    return {**step, "state_file": file}


def _write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=4) + "\n")
