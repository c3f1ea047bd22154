"""Corruptions of the content: every reader accepts them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from corruption_tools import (
    Columns,
    edit_data,
    edit_frames,
    edit_row,
    info,
    rerecord,
    some_camera,
    some_episode,
    spec,
)
from scipy.ndimage import gaussian_filter

from kinema.core.episode import Episode

Rng = np.random.Generator
Said = tuple[str, int | None]
STATE = "observation.state"


def _run(rng: Rng, length: int, least: int, most: int) -> slice:
    size = int(rng.integers(least, min(most, length - 2) + 1))
    begin = int(rng.integers(1, length - size))
    return slice(begin, begin + size)


def _in_action(root: Path, rng: Rng, value: float) -> Said:
    episode = some_episode(rng)
    name = str(rng.choice(["action", STATE]))

    def change(columns: Columns) -> None:
        rows = columns[name]
        rows[int(rng.integers(len(rows))), int(rng.integers(rows.shape[1]))] = value

    edit_data(root, episode, change)
    return "not-finite", episode


def value_nan(root: Path, rng: Rng) -> Said:
    return _in_action(root, rng, np.nan)


def value_infinite(root: Path, rng: Rng) -> Said:
    return _in_action(root, rng, float(rng.choice([np.inf, -np.inf])))


def frames_frozen(root: Path, rng: Rng) -> Said | None:
    """The camera repeats a frame for at least 0.4 s and 6 rows while the arm moves."""
    episode, camera = some_episode(rng), some_camera(rng)
    least = max(6, int(np.ceil(0.4 * info(root)["fps"])))

    def change(frames: np.ndarray) -> np.ndarray:
        # Within the first two thirds: at the end some arms of the clean data rest.
        begin = int(rng.integers(1, max(2, int(0.65 * len(frames)) - least)))
        frames[begin : begin + least] = frames[begin - 1]
        return frames

    edit_frames(root, episode, camera, change)
    return "image-frozen", episode


def frames_black(root: Path, rng: Rng) -> Said:
    return "image-black", _painted(root, rng, 0)


def frames_white(root: Path, rng: Rng) -> Said:
    return "image-flat", _painted(root, rng, 255)


def _painted(root: Path, rng: Rng, level: int) -> int:
    episode = some_episode(rng)

    def change(frames: np.ndarray) -> np.ndarray:
        frames[_run(rng, len(frames), 1, len(frames) - 2)] = level
        return frames

    edit_frames(root, episode, some_camera(rng), change)
    return episode


def frames_blurred(root: Path, rng: Rng) -> Said:
    episode, sigma = some_episode(rng), float(rng.uniform(1.5, 3))

    def change(frames: np.ndarray) -> np.ndarray:
        return gaussian_filter(frames.astype(np.float32), (0, sigma, sigma, 0)).astype(np.uint8)

    edit_frames(root, episode, some_camera(rng), change)
    return "image-blurred", episode


def frame_torn(root: Path, rng: Rng) -> Said:
    """One frame shows noise, as after a lost USB packet."""
    episode = some_episode(rng)

    def change(frames: np.ndarray) -> np.ndarray:
        frames[int(rng.integers(2, len(frames) - 2))] = rng.integers(0, 256, (4, 4, 3)).repeat(8, 0).repeat(8, 1)
        return frames

    edit_frames(root, episode, some_camera(rng), change)
    return "image-glitch", episode


def cameras_swapped(root: Path, rng: Rng) -> Said:
    wanted = some_episode(rng)

    def change(episodes: list[Episode]) -> list[Episode]:
        frames = dict(episodes[wanted].frames)
        frames["image.front"], frames["image.hand"] = frames["image.hand"], frames["image.front"]
        episodes[wanted] = replace(episodes[wanted], frames=frames)
        return episodes

    rerecord(root, change)
    return "cameras-swapped", wanted


def episode_copied(root: Path, rng: Rng) -> Said:
    source = some_episode(rng)
    place = int(rng.integers(source + 1, 7))

    def change(episodes: list[Episode]) -> list[Episode]:
        return [*episodes[:place], episodes[source], *episodes[place:]]

    rerecord(root, change)
    return "episode-twice", place


def video_of_another_episode(root: Path, rng: Rng) -> Said:
    source = int(rng.integers(5))
    place, key = int(rng.integers(source + 1, 6)), f"image.{some_camera(rng).rsplit('.', 1)[1]}"

    def change(episodes: list[Episode]) -> list[Episode]:
        length = min(len(episodes[source]), len(episodes[place]))
        for index in (source, place):
            cut = {name: values[:length] for name, values in episodes[index].frames.items()}
            episodes[index] = replace(episodes[index], frames={**cut, key: episodes[source].frames[key][:length]})
        return episodes

    rerecord(root, change)
    return "video-twice", place


def episode_aborted(root: Path, rng: Rng) -> Said:
    wanted, length = some_episode(rng), int(rng.integers(1, 4))

    def change(episodes: list[Episode]) -> list[Episode]:
        cut = {name: values[:length] for name, values in episodes[wanted].frames.items()}
        episodes[wanted] = replace(episodes[wanted], frames=cut)
        return episodes

    rerecord(root, change)
    return "episode-short", wanted


def episode_idle(root: Path, rng: Rng) -> Said:
    wanted, share = some_episode(rng), float(rng.uniform(0.75, 0.95))

    def change(episodes: list[Episode]) -> list[Episode]:
        length = len(episodes[wanted])
        rows = np.minimum(np.arange(length), int((1 - share) * length))
        still = {name: values[rows] for name, values in episodes[wanted].frames.items()}
        episodes[wanted] = replace(episodes[wanted], frames=still)
        return episodes

    rerecord(root, change)
    return "episode-idle", wanted


def episode_failed(root: Path, rng: Rng) -> Said:
    episode = some_episode(rng)
    edit_row(root, episode, **{"kinema/success": False})
    return "episode-failed", episode


def action_beyond_bounds(root: Path, rng: Rng) -> Said:
    episode, high = some_episode(rng), spec(root).action.high

    def change(columns: Columns) -> None:
        joint = int(rng.integers(4))
        row = int(rng.integers(len(columns["action"])))
        columns["action"][row, joint] = float(rng.choice([-1, 1])) * high[joint] * rng.uniform(1.02, 3)

    edit_data(root, episode, change)
    return "action-bounds", episode


def action_saturated(root: Path, rng: Rng) -> Said:
    """Commands scaled up and clipped, so that most sit at a bound."""
    episode, joint = some_episode(rng), int(rng.choice([0, 2]))
    high = spec(root).action.high[joint]

    def change(columns: Columns) -> None:
        values = columns["action"][:, joint]
        usual = np.quantile(np.abs(values), 0.25)
        values[:] = np.clip(values * high / max(usual, 1e-6), -high, high)

    edit_data(root, episode, change)
    return "action-saturated", episode


def action_shifted(root: Path, rng: Rng) -> Said:
    """The episode's actions are those of 3 to 5 rows earlier or later."""
    episode, shift = some_episode(rng), int(rng.integers(3, 6)) * int(rng.choice([-1, 1]))

    def change(columns: Columns) -> None:
        rows = np.arange(len(columns["action"]))
        columns["action"][:] = columns["action"][np.clip(rows - shift, 0, len(rows) - 1)]

    edit_data(root, episode, change)
    return "action-lag", episode


def state_spike(root: Path, rng: Rng) -> Said:
    episode = some_episode(rng)

    def change(columns: Columns) -> None:
        row = int(rng.integers(2, len(columns[STATE]) - 2))
        columns[STATE][row, int(rng.choice([0, 2]))] += float(rng.choice([-1, 1])) * rng.uniform(2.5, 6)

    edit_data(root, episode, change)
    return "state-jump", episode


def joint_stuck(root: Path, rng: Rng) -> Said:
    episode, joint = some_episode(rng), int(rng.choice([0, 2]))
    name = str(rng.choice(["action", STATE]))
    edit_data(root, episode, lambda columns: columns[name].__setitem__((slice(None), joint), columns[name][0, joint]))
    return "component-stuck", episode


def state_frozen(root: Path, rng: Rng) -> Said:
    """The state repeats one row for 8 or more rows while commands go on."""
    episode = some_episode(rng)

    def change(columns: Columns) -> None:
        begin = int(rng.integers(1, max(2, int(0.65 * len(columns[STATE])) - 10)))
        size = max(8, int(0.2 * len(columns[STATE])) + 1)
        columns[STATE][begin : begin + size] = columns[STATE][begin]

    edit_data(root, episode, change)
    return "vector-frozen", episode


def action_held(root: Path, rng: Rng) -> Said:
    """The commands stop being recorded while the arm goes on, for over half of the episode."""
    episode = some_episode(rng)

    def change(columns: Columns) -> None:
        length = len(columns["action"])
        begin = int(rng.integers(0, max(1, int(0.1 * length))))
        columns["action"][begin : begin + int(0.68 * length)] = columns["action"][begin]

    edit_data(root, episode, change)
    return "vector-frozen", episode


def gripper_flipped(root: Path, rng: Rng) -> Said:
    episode = some_episode(rng)
    edit_data(root, episode, lambda columns: columns["action"][:, 3].__imul__(-1))
    return "gripper-sign", episode


def state_in_degrees(root: Path, rng: Rng) -> Said:
    episode = some_episode(rng)
    edit_data(root, episode, lambda columns: columns[STATE][:, :3].__imul__(180 / np.pi))
    return "units", episode


def gripper_in_millimetres(root: Path, rng: Rng) -> Said:
    for episode in range(6):
        edit_data(root, episode, lambda columns: columns[STATE][:, 3].__imul__(1000))
    return "units", None


def state_beyond_limits(root: Path, rng: Rng) -> Said | None:
    if "delta" in spec(root).action.kind:
        return None
    episode = some_episode(rng)
    edit_data(root, episode, lambda columns: columns[STATE][:, int(rng.choice([0, 2]))].__iadd__(4.0))
    return "state-limits", episode


def quaternion_not_of_length_one(root: Path, rng: Rng) -> Said | None:
    if "observation.pose" not in info(root)["features"]:
        return None
    episode, scale = some_episode(rng), float(rng.choice([0.0, 0.9, 2.0]))

    def change(columns: Columns) -> None:
        columns["observation.pose"][int(rng.integers(len(columns["index"]))), 3:] *= scale

    edit_data(root, episode, change)
    return "rotation", episode
