"""robomimic HDF5: `data/demo_N` with obs/*, actions and rewards; robosuite's controller says what an action is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kinema.core.errors import DataError
from kinema.data.cards import UNKNOWN, ActionCard, Card, Field, VectorCard
from kinema.data.importers import _hdf5
from kinema.data.importers._propose import proposed
from kinema.data.importers.base import LazyFields, RawEpisode, Source

LANGUAGE = "ep_meta/lang"
_ROBOSUITE = 1
"""`type` of env_args: robomimic's EnvType.ROBOSUITE_TYPE."""
_GRIPPER = "+1 closes, -1 opens"
_POSE = ("x", "y", "z", "rx", "ry", "rz")
_KNOWN: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], str, str | None]] = {
    "eef_pos": (("x", "y", "z"), ("m",) * 3, "world", None),
    "eef_quat": (("qx", "qy", "qz", "qw"), ("1",) * 4, "world", "quaternion xyzw"),
    "joint_pos": ((), ("rad",), "joints", None),
    "joint_vel": ((), ("rad/s",), "joints", None),
    "joint_pos_sin": ((), ("1",), "joints", None),
    "joint_pos_cos": ((), ("1",), "joints", None),
    "gripper_qpos": ((), ("m",), "gripper", None),
    "gripper_qvel": ((), ("m/s",), "gripper", None),
}
"""robosuite's observables of a robot: components (numbered where empty), unit, frame, rotation."""


def robomimic(path: Path) -> Source:
    """Return the source of a robomimic HDF5 file; raises DataError for one that is not."""
    with _hdf5.opened(path) as file:
        data = _hdf5.subgroup(file, "data")
        names = sorted((name for name in data if name[5:].isdigit()), key=lambda name: int(name[5:]))
        foreign = sorted(name for name in data if not (name.startswith("demo_") and name[5:].isdigit()))
        if foreign or not names:
            raise DataError(f"data holds {foreign[0]!r}, expected only demo_0, demo_1 ..." if foreign else "no demo_0")
        demo = _hdf5.subgroup(data, names[0])
        fields = _hdf5.fields_of(_hdf5.datasets(demo))
        if "actions" not in fields:
            raise DataError(f"{demo.name} has no actions; it has: {', '.join(list(fields)[:8])}")
        if "lang" in _hdf5.json_attribute(demo, "ep_meta"):
            fields[LANGUAGE] = Field(shape=(), dtype="text")
        _check_total(data, names)
        return _File(
            path=path,
            demos=tuple(names),
            known_fields=fields,
            env=_hdf5.json_attribute(data, "env_args"),
            problem=_hdf5.json_attribute(data, "problem_info"),
            masks=_masks(file),
        )


@dataclass(frozen=True, kw_only=True)
class _File(Source):
    path: Path
    demos: tuple[str, ...]
    known_fields: Mapping[str, Field]
    env: Mapping[str, Any]
    problem: Mapping[str, Any]
    masks: Mapping[str, tuple[str, ...]]

    @property
    def fields(self) -> Mapping[str, Field]:
        return self.known_fields

    @cached_property
    def card(self) -> Card:
        kwargs = self.env.get("env_kwargs", {})
        kwargs = kwargs if isinstance(kwargs, dict) else {}
        robots = kwargs.get("robots", ())
        robots = [robots] if isinstance(robots, str) else list(robots)
        rate = kwargs.get("control_freq")
        shown = {name: f for name, f in self.known_fields.items() if name.startswith("obs/")}
        card = proposed(
            shown | {"actions": self.known_fields["actions"]},
            ["actions"],
            embodiment="+".join(str(robot).lower() for robot in robots) or UNKNOWN,
            rate_hz=float(rate) if isinstance(rate, (int, float)) and rate > 0 else None,
            instruction=self._instruction(),
            success="file" if "rewards" in self.known_fields else UNKNOWN,
        )
        if self.env.get("type") != _ROBOSUITE:
            return card
        vectors = tuple(_named(vector) for vector in card.vectors)
        width = self.known_fields["actions"].shape[-1]
        return Card(**{**vars(card), "vectors": vectors, "action": _action(kwargs, len(robots), width) or card.action})

    def _instruction(self) -> str:
        if LANGUAGE in self.known_fields:
            return f"field:{LANGUAGE}"
        text = self.problem.get("language_instruction", UNKNOWN)
        return text if isinstance(text, str) and text.strip() else UNKNOWN

    def __len__(self) -> int:
        return len(self.demos)

    def read(self, index: int) -> RawEpisode:
        name = self.demos[index]
        with _hdf5.opened(self.path) as file:
            demo = _hdf5.subgroup(file, "data", name)
            names = [*_hdf5.fields_of(_hdf5.datasets(demo)), *([LANGUAGE] if LANGUAGE in self.known_fields else [])]
            steps, said = _hdf5.dataset(demo, "actions").shape[0], _hdf5.whole_number(demo, "num_samples")
            if said not in (None, steps):
                raise DataError(f"{demo.name}: num_samples is {said}, but there are {steps} actions")
            rewards = _hdf5.numbers(_hdf5.dataset(demo, "rewards")) if "rewards" in names else None
        origin: dict[str, str | int | float] = {"file": self.path.name, "demo": name}
        if isinstance(self.env.get("env_name"), str):
            origin["task"] = self.env["env_name"]
        masks = [mask for mask, demos in self.masks.items() if name in demos]
        return RawEpisode(
            fields=LazyFields(names, lambda field: self._load(name, field)),
            # robosuite's reward is 1 where the task is done, whether shaped or not (shaped ones stay below).
            success=None if rewards is None else bool((rewards >= 1).any()),
            origin=origin | ({"masks": ",".join(masks)} if masks else {}),
        )

    def _load(self, demo: str, field: str) -> np.ndarray | str:
        with _hdf5.opened(self.path) as file:
            group = _hdf5.subgroup(file, "data", demo)
            if field == LANGUAGE:
                return str(_hdf5.json_attribute(group, "ep_meta").get("lang", ""))
            return _hdf5.numbers(_hdf5.dataset(group, field))


def _check_total(data: h5py.Group, names: list[str]) -> None:
    total = _hdf5.whole_number(data, "total")
    steps = sum(_hdf5.dataset(_hdf5.subgroup(data, name), "actions").shape[0] for name in names)
    if total not in (None, steps):
        raise DataError(f"data: total is {total}, but the {len(names)} demos have {steps} actions; is the file whole?")


def _masks(file: h5py.File) -> dict[str, tuple[str, ...]]:
    """Return robomimic's filter keys: name of a subset -> demos in it."""
    if "mask" not in file:
        return {}
    masks = {}
    for name in _hdf5.subgroup(file, "mask"):
        stored = _hdf5.dataset(file, f"mask/{name}")
        if stored.dtype.kind != "S" and h5py.check_string_dtype(stored.dtype) is None:
            raise DataError(f"{stored.name}: dtype {stored.dtype}, expected names of demos")
        masks[name] = tuple(demo.decode() for demo in stored[()].tolist())
    return masks


def _named(vector: VectorCard) -> VectorCard:
    """Return the card with what robosuite's name of the observable says."""
    _, _, observable = vector.name.partition("_")
    if observable not in _KNOWN or not vector.name.startswith("robot"):
        return vector
    components, units, frame, rotation = _KNOWN[observable]
    width = len(vector.components)
    if components and len(components) != width:
        return vector
    return VectorCard(
        name=vector.name,
        fields=vector.fields,
        components=components or vector.components,
        units=units if components else units * width,
        frame=frame,
        rotation=rotation,
    )


def _action(kwargs: Mapping[str, Any], robots: int, width: int) -> ActionCard | None:
    """Return the action of robosuite's OSC_POSE, 6 numbers and a gripper for each arm; None for other controllers."""
    controller = _controller(kwargs.get("controller_configs"))
    if controller is None or robots < 1 or width != 7 * robots:
        return None
    delta = controller.get("control_delta", controller.get("input_type", "delta") == "delta")
    scales = _scales(controller) if delta else (None,) * 6
    if scales is None:
        return None
    units = tuple(
        base if scale is None else f"{scale:g} {base}"
        for base, scale in zip(("m",) * 3 + ("rad",) * 3, scales, strict=True)
    )
    prefix = "d" if delta else ""
    arms = [f"robot{arm}_" if robots > 1 else "" for arm in range(robots)]
    return ActionCard(
        fields=("actions",),
        components=tuple(f"{arm}{name}" for arm in arms for name in (*(prefix + c for c in _POSE), "gripper")),
        units=(*units, "1") * robots,
        frame=str(controller.get("input_ref_frame", "world")),
        kind="end-effector delta pose" if delta else "end-effector pose",
        integrator="robosuite OSC_POSE",
        low=(-1.0,) * width if delta else None,
        high=(1.0,) * width if delta else None,
        gripper=_GRIPPER,
        rotation="rotation vector",
    )


def _controller(configs: Any) -> Mapping[str, Any] | None:
    """Return the OSC_POSE settings of robosuite 1.2 to 1.4 (flat), or 1.5 (under body_parts), where they are alike."""
    configs = configs[0] if isinstance(configs, list) and configs and all(c == configs[0] for c in configs) else configs
    if isinstance(configs, dict) and isinstance(configs.get("body_parts"), dict):
        parts = [p for p in configs["body_parts"].values() if isinstance(p, dict) and p.get("type") == "OSC_POSE"]
        plain = [json.dumps({k: v for k, v in part.items() if k != "gripper"}, sort_keys=True) for part in parts]
        configs = parts[0] if parts and len(set(plain)) == 1 else None
    return configs if isinstance(configs, dict) and configs.get("type") == "OSC_POSE" else None


def _scales(controller: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Return what an input of 1 means [m, rad], from symmetric input and output bounds; None where they are not."""
    bounds = []
    for name in ("input_min", "input_max", "output_min", "output_max"):
        try:
            bounds.append(np.broadcast_to(np.asarray(controller[name], np.float64), 6))
        except (KeyError, TypeError, ValueError):
            return None
    low_in, high_in, low_out, high_out = bounds
    if not (np.all(high_in == 1) and np.all(low_in == -1) and np.array_equal(low_out, -high_out)):
        return None
    return tuple(float(value) for value in high_out)
