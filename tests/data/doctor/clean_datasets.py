"""Small datasets without a fault, as different as healthy ones are: the doctor must find nothing in them.

An arm follows smooth commands with a lag; two cameras see it. Seeds vary: position or delta actions, rate, lengths,
constant components, pauses at the end, dark scenes, sensor noise, capture times, one or two tasks, and whether all
episodes share one file (as after compaction) or have their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kinema.core.episode import Episode
from kinema.core.rng import generator
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.data.lerobot.tables import frames_table
from kinema.data.lerobot.writer import DatasetWriter
from kinema.data.video import VideoCodec, decode, encode

SIDE, EPISODES, JOINTS = 32, 6, ("shoulder", "elbow", "wrist")
CAMERAS = ("observation.images.front", "observation.images.hand")
SENSORS = (*CAMERAS, "observation.state")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What differs from one clean dataset to the next."""

    position: bool
    fps: int
    lengths: tuple[int, ...]
    constant: bool
    idle_end: bool
    light: float
    noise: float
    capture: bool
    tasks: int
    pose: bool
    packed: bool


def kind_of(seed: int) -> Kind:
    rng = generator("clean kind", seed)
    shortest, longest = (18, 24) if rng.random() < 0.5 else (20, 50)
    return Kind(
        position=seed % 4 < 2,
        fps=int(rng.choice([10, 15, 20, 30])),
        lengths=tuple(int(n) for n in rng.integers(shortest, longest, EPISODES)),
        constant=rng.random() < 0.3,
        idle_end=rng.random() < 0.3,
        light=float(rng.choice([1.0, 0.6, 0.2])),
        noise=float(rng.choice([0.0, 0.0, 3.0])),
        capture=rng.random() < 0.6,
        tasks=int(rng.choice([1, 2])),
        pose=rng.random() < 0.5,
        packed=seed % 2 == 1,
    )


def spec_of(kind: Kind) -> RobotSpec:
    names = (*JOINTS, "gripper")
    units = ("rad",) * len(JOINTS) + ("m",)
    vectors = [Vector(name="proprioception", components=names, units=units, frame="joints")]
    if kind.pose:
        parts = ("x", "y", "z", "qw", "qx", "qy", "qz")
        pose = Vector(name="pose", components=parts, units=("m",) * 3 + ("1",) * 4, frame="base", rotation="wxyz")
        vectors.append(pose)
    bound = 1.9 if kind.position else 1.0
    action = ActionSpec(
        components=names if kind.position else (*(f"d{name}" for name in JOINTS), "gripper"),
        units=("rad",) * len(JOINTS) + ("1",),
        frame="joints",
        kind="joint position" if kind.position else "joint delta position",
        integrator="controller",
        low=(-bound,) * len(JOINTS) + (-1.0,),
        high=(bound,) * len(JOINTS) + (1.0,),
        gripper="+1 closes, -1 opens",
    )
    cameras = tuple(Camera(name=name.rsplit(".", 1)[1], height=SIDE, width=SIDE) for name in CAMERAS)
    observation = ObservationSpec(cameras=cameras, vectors=tuple(vectors), instruction=True)
    return RobotSpec(embodiment="toy-arm", rate_hz=float(kind.fps), observation=observation, action=action)


def _motion(kind: Kind, rng: np.random.Generator, length: int) -> dict[str, np.ndarray]:
    """Return state (T, 4) and action (T, 4): smooth commands, followed with a lag of a first order."""
    time = np.arange(length)
    moving = int(length * rng.uniform(0.7, 0.85)) if kind.idle_end else length
    clock = np.minimum(time, moving)
    target = np.zeros((length, len(JOINTS)))
    for joint in range(len(JOINTS)):
        for _ in range(3):
            period = rng.uniform(8, 26)
            target[:, joint] += rng.uniform(0.2, 0.45) * np.sin(2 * np.pi * clock / period + rng.uniform(0, 6.3))
    close = rng.integers(5, length - 7)
    grip = np.where(time < close, -1.0, 1.0)
    state = np.zeros((length, 4))
    state[0] = [*target[0], 0.04]
    for step in range(1, length):
        state[step, :3] = state[step - 1, :3] + 0.7 * (target[step - 1] - state[step - 1, :3])
        state[step, 3] = state[step - 1, 3] + 0.5 * (0.02 - 0.02 * grip[step - 1] - state[step - 1, 3])
    command = target if kind.position else np.clip((target - state[:, :3]) / 0.8, -1, 1)
    if kind.constant:
        state[:, 1], command[:, 1] = 0.3, 0.3 if kind.position else 0.0
    return {"state": state, "action": np.concatenate([command, grip[:, None]], axis=1)}


def _texture(rng: np.random.Generator, side: int) -> np.ndarray:
    coarse = rng.uniform(50, 200, (side // 8, side // 8, 3))
    return np.kron(coarse, np.ones((8, 8, 1))) + rng.uniform(-25, 25, (side, side, 3))


def _images(state: np.ndarray, kind: Kind, scene: np.random.Generator, rng: np.random.Generator) -> dict[str, Any]:
    """Return both cameras' frames: an arm over a table, and a view that moves with the hand."""
    table, hand, arm = _texture(scene, SIDE), _texture(scene, 2 * SIDE), _texture(scene, 16)[:9, :9]
    front, wrist = [], []
    for row in state:
        frame = table.copy()
        top, left = (round(float(11 + 7 * value)) for value in np.clip(row[:2], -1.4, 1.4))
        frame[top : top + 9, left : left + 9] = arm * (0.6 + 10 * row[3])
        bar = round(float(14 + 9 * np.clip(row[2], -1.4, 1.4)))
        frame[28:, bar : bar + 5] = (230, 230, 40)
        front.append(frame)
        down, right = (round(float(14 + 9 * value)) for value in np.clip(row[[2, 0]], -1.4, 1.4))
        wrist.append(hand[down : down + SIDE, right : right + SIDE])

    def camera(frames: list[np.ndarray]) -> np.ndarray:
        video = kind.light * np.stack(frames) + kind.noise * rng.normal(size=(len(frames), SIDE, SIDE, 3))
        return np.clip(video, 0, 255).astype(np.uint8)

    return {"image.front": camera(front), "image.hand": camera(wrist)}


def episode_of(seed: int, index: int) -> Episode:
    kind, rng = kind_of(seed), generator("clean episode", seed, index)
    motion = _motion(kind, rng, kind.lengths[index])
    frames = _images(motion["state"], kind, generator("clean scene", seed), rng)
    frames |= {"vector.proprioception": motion["state"], "action": motion["action"]}
    if kind.pose:
        angle = motion["state"][:, 2]
        zero = np.zeros_like(angle)
        frames["vector.pose"] = np.stack(
            [
                0.4 * np.cos(motion["state"][:, 0]),
                0.4 * np.sin(motion["state"][:, 0]),
                0.2 + 0.1 * motion["state"][:, 1],
            ]
            + [np.cos(angle / 2), zero, zero, np.sin(angle / 2)],
            axis=1,
        )
    return Episode(
        instruction=f"move thing {index % kind.tasks}",
        success=True,
        origin={"seed": seed, "episode": index},
        frames={key: v if key.startswith("image") else v.astype(np.float32) for key, v in frames.items()},
    )


def write_clean(root: Path, seed: int) -> Path:
    """Write the clean dataset of `seed` to `root` and return it."""
    kind = kind_of(seed)
    record(root, spec_of(kind), [episode_of(seed, index) for index in range(EPISODES)])
    if kind.capture:
        add_capture_times(root, generator("clean clock", seed))
    if kind.packed:
        pack(root)
    return root


def record(root: Path, spec: RobotSpec, episodes: list[Episode]) -> None:
    writer = DatasetWriter(root, spec, provenance={"command": "tests"})
    for episode in episodes:
        writer.append(episode)


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """Return the columns (N, D) of a data file."""
    table = pq.read_table(path)
    return {
        name: np.array(table[name].to_pylist(), kind_of_column(table[name])).reshape(len(table), -1)
        for name in table.column_names
    }


def kind_of_column(column: pa.ChunkedArray) -> Any:
    kind = column.type.value_type if pa.types.is_fixed_size_list(column.type) else column.type
    return kind.to_pandas_dtype()


def write_columns(path: Path, columns: dict[str, np.ndarray]) -> None:
    pq.write_table(frames_table(columns), path)


def add_capture_times(root: Path, rng: np.random.Generator) -> None:
    """Add the capture times of both cameras, the state and the action, and which rows were valid, with mild jitter."""
    info = json.loads((root / "meta/info.json").read_text())
    period_s = 1 / info["fps"]
    for path in sorted(root.glob("data/*/*.parquet")):
        columns = read_columns(path)
        rows = len(columns["index"])
        begin = rng.uniform(1e3, 1e4)
        for name in (*SENSORS, "action"):
            late = 0.3 if name == "action" else rng.uniform(0, 0.15)
            times = begin + period_s * (np.arange(rows) + late + rng.normal(0, 0.03, rows).clip(-0.09, 0.09))
            columns[f"captured_ns.{name}"] = (times * 1e9).astype(np.int64).reshape(-1, 1)
            columns[f"valid.{name}"] = np.ones((rows, 1), bool)
        if rows > 12 and rng.random() < 0.5:
            lost = int(rng.integers(3, rows - 3))
            columns[f"valid.{CAMERAS[0]}"][lost] = False
            columns[f"captured_ns.{CAMERAS[0]}"][lost] = columns[f"captured_ns.{CAMERAS[0]}"][lost - 1]
        write_columns(path, columns)
    for name in (*SENSORS, "action"):
        info["features"][f"captured_ns.{name}"] = {"dtype": "int64", "shape": [1], "names": None}
        info["features"][f"valid.{name}"] = {"dtype": "bool", "shape": [1], "names": None}
    (root / "meta/info.json").write_text(json.dumps(info))


def pack(root: Path) -> None:
    """Put all episodes into one data, one episodes and one video file a camera, as compaction does."""
    info = json.loads((root / "meta/info.json").read_text())
    data = sorted(root.glob("data/*/*.parquet"))
    joined = pa.concat_tables([pq.read_table(path) for path in data])
    rows = pa.concat_tables([pq.read_table(path) for path in sorted(root.glob("meta/episodes/*/*.parquet"))])
    values = rows.to_pydict()
    starts = np.cumsum([0, *values["length"]])
    for column in values:
        if column.endswith(("chunk_index", "file_index")):
            values[column] = [0] * len(rows)
        elif column.endswith("/from_timestamp"):
            values[column] = [start / info["fps"] for start in starts[:-1]]
        elif column.endswith("/to_timestamp"):
            values[column] = [end / info["fps"] for end in starts[1:]]
    for camera in CAMERAS:
        paths = sorted(root.glob(f"videos/{camera}/*/*.mp4"))
        frames = np.concatenate([decode(path) for path in paths])
        for path in paths:
            path.unlink()
        encode(frames, paths[0], info["fps"], VideoCodec())
    for path in [*data, *root.glob("meta/episodes/*/*.parquet")]:
        path.unlink()
    pq.write_table(joined, data[0])
    pq.write_table(pa.table(values, schema=rows.schema), root / "meta/episodes/chunk-000/file-000.parquet")
