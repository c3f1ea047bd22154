"""Names, paths and metadata of a LeRobotDataset v3.0 directory, and their kinema counterparts.

    meta/info.json  meta/stats.json  meta/tasks.parquet  meta/kinema.json
    meta/episodes/chunk-000/file-000.parquet
    data/chunk-000/file-000.parquet
    videos/observation.images.<camera>/chunk-000/file-000.mp4

`meta/kinema.json` holds what the format has no place for: the typed RobotSpec, the codec and the provenance.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kinema.core.config import from_data, to_data
from kinema.core.errors import DataError, KinemaError, SpecMismatch
from kinema.core.files import write_text
from kinema.core.spec import ACTION, RobotSpec
from kinema.data.video import VideoCodec

CODEBASE_VERSION = "v3.0"
CHUNK_FILES = 1000
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INFO, STATS, TASKS, KINEMA = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/kinema.json"
ORIGIN_COLUMN, SUCCESS_COLUMN = "kinema/origin", "kinema/success"
DEFAULT_FEATURES = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
CAPTURED, VALID = "captured_ns.", "valid."
"""Before the format's name of a key: when each row was captured [ns], and whether it was or repeats the row before."""
_IMAGE, _VECTOR = "image.", "vector."
_VECTOR_NAMES = {"proprioception": "observation.state", "full_state": "observation.environment_state"}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-.]*")


def feature_key(key: str) -> str:
    """Return the format's name of a sample key: `image.front` is `observation.images.front`."""
    if key == ACTION:
        return ACTION
    if key.startswith(_IMAGE):
        return f"observation.images.{_safe(key[len(_IMAGE) :])}"
    if not key.startswith(_VECTOR):
        raise SpecMismatch(f"{key!r} has no place in the format: expected image.<camera>, vector.<name> or action")
    name = _safe(key[len(_VECTOR) :])
    if name in ("state", "environment_state", "images") or name.startswith("images."):
        raise SpecMismatch(f"the vector name {name!r} is taken by the dataset format; call the vector something else")
    return _VECTOR_NAMES.get(name, f"observation.{name}")


def sample_key(feature: str) -> str:
    """Return the sample key of a feature of the format: the inverse of `feature_key`."""
    if feature == ACTION:
        return ACTION
    for name, known in _VECTOR_NAMES.items():
        if feature == known:
            return f"{_VECTOR}{name}"
    if feature.startswith("observation.images."):
        return _IMAGE + feature[len("observation.images.") :]
    if feature.startswith("observation."):
        return _VECTOR + feature[len("observation.") :]
    raise DataError(f"the feature {feature!r} is neither an observation nor the action")


def _safe(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SpecMismatch(f"the name {name!r} cannot be a file name: use letters, digits, '_', '-' and '.'")
    return name


def widths(spec: RobotSpec) -> dict[str, tuple[str, ...]]:
    """Return the component names of every vector and of the action, by sample key, in order."""
    return {vector.key: vector.components for vector in spec.observation.vectors} | {ACTION: spec.action.components}


def frames_per_second(spec: RobotSpec) -> int:
    """Return the control rate as the whole number of frames per second that the format needs."""
    if not (spec.rate_hz > 0 and float(spec.rate_hz).is_integer()):
        raise SpecMismatch(f"rate_hz {spec.rate_hz}: the dataset format needs a whole number of frames per second")
    return int(spec.rate_hz)


def timing(captured: Iterable[str], valid: Iterable[str]) -> dict[str, str]:
    """Return the dtype of each feature that says when the keys `captured` were captured and whether `valid` are."""
    times = {CAPTURED + feature_key(key): "int64" for key in captured}
    return times | {VALID + feature_key(key): "bool" for key in valid}


def timing_keys(info: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the keys with capture times and the keys with validity of a dataset, from its info.json."""
    names = tuple(info["features"])
    captured = (sample_key(name[len(CAPTURED) :]) for name in names if name.startswith(CAPTURED))
    valid = (sample_key(name[len(VALID) :]) for name in names if name.startswith(VALID))
    return tuple(captured), tuple(valid)


def features(
    spec: RobotSpec, codec: VideoCodec, captured: Iterable[str] = (), valid: Iterable[str] = ()
) -> dict[str, dict[str, Any]]:
    """Return the `features` entry of info.json; `captured` and `valid` are the keys that also say when and whether."""
    fps = frames_per_second(spec)
    table: dict[str, dict[str, Any]] = {}
    for key, components in widths(spec).items():
        table[feature_key(key)] = {"dtype": "float32", "shape": [len(components)], "names": list(components)}
    for camera in spec.observation.cameras:
        info = {
            "video.height": camera.height,
            "video.width": camera.width,
            "video.codec": codec.stream_name,
            "video.pix_fmt": codec.pixel_format,
            "video.is_depth_map": False,
            "video.fps": fps,
            "video.channels": 3,
            "video.g": codec.gop,
            "video.crf": codec.crf,
            "has_audio": False,
        }
        shape = [camera.height, camera.width, 3]
        names = ["height", "width", "channels"]
        table[feature_key(camera.key)] = {"dtype": "video", "shape": shape, "names": names, "info": info}
    if len(table) != len(widths(spec)) + len(spec.observation.cameras):
        raise SpecMismatch("two cameras or two vectors of the spec have the same name")
    plain = timing(captured, valid) | DEFAULT_FEATURES
    return table | {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in plain.items()}


def info(
    spec: RobotSpec,
    codec: VideoCodec,
    captured: Iterable[str] = (),
    valid: Iterable[str] = (),
    *,
    episodes: int,
    frames: int,
    tasks: int,
) -> dict[str, Any]:
    """Return the content of info.json for a dataset with these totals."""
    return {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": spec.embodiment,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": frames_per_second(spec),
        "splits": {"train": f"0:{episodes}"} if episodes else {},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if spec.observation.cameras else None,
        "features": features(spec, codec, captured, valid),
    }


def read_info(root: Path) -> dict[str, Any]:
    """Return info.json of the dataset at `root`; raises DataError for anything but a v3.0 dataset."""
    if not root.is_dir():
        raise DataError(f"{root} is not a dataset: no such directory")
    if not (root / INFO).is_file():
        raise DataError(f"{root} is not a dataset: {INFO} is missing")
    content = read_json(root / INFO)
    version = content.get("codebase_version")
    if version != CODEBASE_VERSION:
        old = "; v2 datasets are not supported yet" if str(version).startswith("v2") else ""
        raise DataError(f"{root / INFO}: codebase_version {version!r}, expected {CODEBASE_VERSION!r}{old}")
    for name in ("total_episodes", "total_frames", "total_tasks", "fps"):
        if not isinstance(content.get(name), int) or content[name] < 0:
            raise DataError(f"{root / INFO}: {name} is {content.get(name)!r}, expected a whole number")
    return content


def read_kinema(root: Path) -> dict[str, Any]:
    """Return meta/kinema.json: `spec` RobotSpec, `codec` VideoCodec, `provenance` a list of entries."""
    path = root / KINEMA
    if not path.is_file():
        raise DataError(
            f"{root} has no {KINEMA}, so units, frames, action kind and bounds, gripper convention and rotation layout "
            f"of its vectors and actions are unknown; a dataset without them cannot be used yet"
        )
    content = read_json(path)
    try:
        result = {"spec": from_data(content.get("spec")), "codec": from_data(content.get("codec"))}
    except KinemaError as error:
        raise DataError(f"{path}: {error}") from error
    for name, kind in (("spec", RobotSpec), ("codec", VideoCodec)):
        if not isinstance(result[name], kind):
            raise DataError(f"{path}: no {kind.__name__} under {name!r}")
    return result | {"provenance": content.get("provenance", [])}


def write_kinema(root: Path, spec: RobotSpec, codec: VideoCodec, provenance: list[Mapping[str, Any]]) -> None:
    """Replace meta/kinema.json."""
    write_json(root / KINEMA, {"spec": to_data(spec), "codec": to_data(codec), "provenance": provenance})


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, or raise DataError naming it."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}, expected an object")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace `path` atomically by `content`, indented by four as the format does."""
    write_text(path, json.dumps(content, indent=4) + "\n")
