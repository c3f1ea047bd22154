"""How the corruptions change a clean dataset: one episode's rows, row of the table, or frames."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from clean_datasets import CAMERAS, EPISODES, read_columns, record, write_columns

from kinema.core.episode import Episode
from kinema.data.lerobot.layout import feature_key, read_kinema
from kinema.data.video import VideoCodec, decode, encode

INFO = "meta/info.json"
Columns = dict[str, np.ndarray]


def some_episode(rng: np.random.Generator) -> int:
    return int(rng.integers(EPISODES))


def some_camera(rng: np.random.Generator) -> str:
    return str(rng.choice(CAMERAS))


def info(root: Path) -> dict[str, Any]:
    return dict(json.loads((root / INFO).read_text()))


def spec(root: Path) -> Any:
    return read_kinema(root)["spec"]


def place(root: Path, kind: str) -> list[Path]:
    """Return the files of `kind`: data, meta/episodes or videos/<camera>."""
    return sorted(root.glob(f"{kind}/chunk-*/file-*"))


def file_of(root: Path, kind: str, episode: int) -> Path:
    files = place(root, kind)
    return files[0] if len(files) == 1 else files[episode]


def only(root: Path, episode: int) -> int | None:
    """Return the episode when it has files of its own: then the doctor must name it."""
    return episode if len(place(root, "data")) > 1 else None


def episode_rows(root: Path) -> list[tuple[Path, pa.Schema, list[dict[str, Any]]]]:
    tables = [(path, pq.read_table(path)) for path in place(root, "meta/episodes")]
    return [(path, table.schema, table.to_pylist()) for path, table in tables]


def row_of(root: Path, episode: int) -> dict[str, Any]:
    rows = [row for _, _, rows in episode_rows(root) for row in rows]
    return next(row for row in rows if row["episode_index"] == episode)


def edit_row(root: Path, episode: int, **values: Any) -> None:
    for path, schema, rows in episode_rows(root):
        for row in rows:
            if row["episode_index"] == episode:
                row |= values
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def edit_data(root: Path, episode: int, change: Callable[[Columns], None]) -> None:
    """Let `change` write into the episode's rows of every column (T, D)."""
    path, rows = data_rows(root, episode)
    columns = read_columns(path)
    change({name: values[rows] for name, values in columns.items()})
    write_columns(path, columns)


def data_rows(root: Path, episode: int) -> tuple[Path, slice]:
    path, row = file_of(root, "data", episode), row_of(root, episode)
    start = row["dataset_from_index"] if only(root, episode) is None else 0
    return path, slice(start, start + row["length"])


def edit_frames(root: Path, episode: int, camera: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace the episode's frames (T, Hi, Wi, 3) by what `change` returns, which may be more or fewer."""
    path, (_, rows) = file_of(root, f"videos/{camera}", episode), data_rows(root, episode)
    frames = decode(path)
    new = np.concatenate([frames[: rows.start], change(frames[rows].copy()), frames[rows.stop :]])
    encode(new, path, info(root)["fps"], VideoCodec())


def encode_at(frames: np.ndarray, path: Path, fps: int, places: np.ndarray) -> None:
    """Write `frames` so that frame t is shown at places[t] / fps seconds."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"bf": "0", "g": "2", "crf": "8"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv444p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 4 * fps)
        for image, at in zip(frames, places, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(4 * at), Fraction(1, 4 * fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def rerecord(root: Path, change: Callable[[list[Episode]], list[Episode]]) -> None:
    """Record the dataset again after `change`, as a recorder that met the fault would have."""
    episodes = change(list(_episodes(root)))
    robot = spec(root)
    shutil.rmtree(root)
    record(root, robot, episodes)


def _episodes(root: Path) -> Iterator[Episode]:
    robot = spec(root)
    keys = {feature_key(key): key for key in (*(vector.key for vector in robot.observation.vectors), "action")}
    total = sum(len(rows) for _, _, rows in episode_rows(root))
    for episode in range(total):
        path, rows = data_rows(root, episode)
        columns = read_columns(path)
        frames = {key: columns[name][rows] for name, key in keys.items()}
        for camera in robot.observation.cameras:
            frames[camera.key] = decode(file_of(root, f"videos/{feature_key(camera.key)}", episode))[rows]
        row = row_of(root, episode)
        origin = json.loads(row["kinema/origin"])
        yield Episode(instruction=row["tasks"][0], frames=frames, success=True, origin=origin)
