"""Corruptions of the films: of the format too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from clean_datasets import edit_json
from corruption_tools import (
    INFO,
    edit_frames,
    edit_row,
    encode_at,
    file_of,
    info,
    only,
    row_of,
    some_camera,
    some_episode,
)

from kinema.data.video import VideoCodec, decode, encode

Rng = np.random.Generator
Said = tuple[str, int | None]


def _truncate(path: Path, rng: Rng) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * rng.uniform(0.1, 0.95))])


def video_missing(root: Path, rng: Rng) -> Said:
    episode, camera = some_episode(rng), some_camera(rng)
    file_of(root, f"videos/{camera}", episode).unlink()
    return "video-missing", only(root, episode)


def video_truncated(root: Path, rng: Rng) -> Said:
    episode, camera = some_episode(rng), some_camera(rng)
    _truncate(file_of(root, f"videos/{camera}", episode), rng)
    return "video-unreadable", only(root, episode)


def video_garbage(root: Path, rng: Rng) -> Said:
    episode, camera = some_episode(rng), some_camera(rng)
    file_of(root, f"videos/{camera}", episode).write_bytes(rng.bytes(int(rng.integers(0, 5000))))
    return "video-unreadable", only(root, episode)


def video_of_another_size(root: Path, rng: Rng) -> Said:
    episode, camera = some_episode(rng), some_camera(rng)
    path = file_of(root, f"videos/{camera}", episode)
    frames = decode(path)[:, : 32 - 4 * int(rng.integers(1, 3)), : 32 - 4 * int(rng.integers(0, 2))]
    encode(frames, path, info(root)["fps"], VideoCodec())
    return "video-size", only(root, episode)


def video_of_another_rate(root: Path, rng: Rng) -> Said:
    episode, camera = some_episode(rng), some_camera(rng)
    path = file_of(root, f"videos/{camera}", episode)
    encode(decode(path), path, info(root)["fps"] + int(rng.integers(1, 20)), VideoCodec())
    return "video-rate", only(root, episode)


def video_of_another_codec(root: Path, rng: Rng) -> Said:
    camera = some_camera(rng)
    edit_json(root / INFO, lambda info: info["features"][camera]["info"].update({"video.codec": "av1"}))
    return "video-codec", None


def video_frame_dropped(root: Path, rng: Rng) -> Said:
    episode = some_episode(rng)
    edit_frames(root, episode, some_camera(rng), lambda frames: np.delete(frames, rng.integers(len(frames)), axis=0))
    return "video-frames", only(root, episode)


def video_frame_added(root: Path, rng: Rng) -> Said:
    episode = some_episode(rng)
    edit_frames(root, episode, some_camera(rng), lambda frames: np.concatenate([frames, frames[-1:]]))
    return "video-frames", only(root, episode)


def video_span_off(root: Path, rng: Rng) -> Said:
    episode, name = some_episode(rng), f"videos/{some_camera(rng)}/to_timestamp"
    edit_row(root, episode, **{name: row_of(root, episode)[name] + float(rng.integers(1, 50)) / info(root)["fps"]})
    return "video-span", episode


def video_shared_by_two_episodes(root: Path, rng: Rng) -> Said:
    episode, prefix = max(1, some_episode(rng)), f"videos/{some_camera(rng)}"
    before, row = row_of(root, episode - 1), row_of(root, episode)
    if only(root, episode) is not None:
        edit_row(root, episode, **{f"{prefix}/file_index": before[f"{prefix}/file_index"]})
        return "video-overlap", None
    early = float(rng.integers(1, 9)) / info(root)["fps"]
    ends = {f"{prefix}/{name}_timestamp": row[f"{prefix}/{name}_timestamp"] - early for name in ("from", "to")}
    edit_row(root, episode, **ends)
    return "video-overlap", episode


def video_time_skipped(root: Path, rng: Rng) -> Said:
    episode, camera = some_episode(rng), some_camera(rng)
    path = file_of(root, f"videos/{camera}", episode)
    frames = decode(path)
    places = np.arange(len(frames), dtype=float)
    places[int(rng.integers(1, len(frames) - 1)) :] += float(rng.integers(1, 4))
    encode_at(frames, path, info(root)["fps"], places)
    return "video-times", only(root, episode)


def video_time_between(root: Path, rng: Rng) -> Said:
    episode, camera = some_episode(rng), some_camera(rng)
    path = file_of(root, f"videos/{camera}", episode)
    frames = decode(path)
    places = np.arange(len(frames), dtype=float)
    places[int(rng.integers(1, len(frames) - 1))] += 0.5
    encode_at(frames, path, info(root)["fps"], places)
    return "video-times", only(root, episode)


def video_bytes_overwritten(root: Path, rng: Rng) -> Said:
    episode, camera = some_episode(rng), some_camera(rng)
    path = file_of(root, f"videos/{camera}", episode)
    content = bytearray(path.read_bytes())
    begin, end = content.index(b"mdat") + 800, content.rindex(b"moov") - 8
    half = (end - begin) // 2
    content[begin + half // 2 : begin + half // 2 + half] = rng.bytes(half)
    path.write_bytes(bytes(content))
    return "video-damaged", only(root, episode)
