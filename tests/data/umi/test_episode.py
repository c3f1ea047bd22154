"""Streams of a known motion become episodes that hold that motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kinema.actions import poses, rotations
from kinema.core.errors import DataError
from kinema.data.umi.episode import Demonstration, assemble
from kinema.data.umi.rig import Latency, Rig
from kinema.data.umi.synthetic import Motion, demonstrate


def made(rig: Rig, seed: int = 0, **given: float) -> Demonstration:
    return demonstrate(Motion(seed=seed), latency=rig.latency, image_px=rig.image_px, **given)


def errors(vectors: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return the largest position [mm] and rotation [degrees] error."""
    seen = poses.from_vector(vectors)
    distance = np.linalg.norm(seen[:, :3, 3] - truth[:, :3, 3], axis=1).max()
    return 1e3 * distance, np.rad2deg(rotations.distance_rad(seen[:, :3, :3], truth[:, :3, :3]).max())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("jitter_s", [0.0, 0.004])
def test_60_hz_pictures_and_200_hz_poses_to_20_hz(rig: Rig, seed: int, jitter_s: float) -> None:
    motion = Motion(seed=seed)
    episode = assemble(made(rig, seed, jitter_s=jitter_s), rig)
    assert len(episode) > 150
    at_s = episode.captured_ns["vector.hand"] / 1e9
    np.testing.assert_array_equal(episode.captured_ns["image.wrist"], episode.captured_ns["vector.hand"])
    assert np.abs(np.diff(at_s) - 0.05).max() <= 2 * jitter_s + 1e-6
    truth = motion.pose(at_s) @ rig.T_camera_hand
    millimetres, degrees = errors(episode.frames["vector.hand"], truth)
    assert millimetres <= 1.0
    assert degrees <= 0.2
    millimetres, degrees = errors(episode.frames["action"][:, :9], motion.pose(at_s + 0.05) @ rig.T_camera_hand)
    assert millimetres <= 1.0
    assert degrees <= 0.2
    np.testing.assert_allclose(episode.frames["vector.gripper"][:, 0], motion.width(at_s), atol=1e-3)
    np.testing.assert_allclose(episode.frames["action"][:, 9], motion.width(at_s + 0.05), atol=1e-3)
    shown = episode.frames["image.wrist"][:, 0, 0, 0]
    np.testing.assert_array_equal(shown, np.round(1e3 * at_s).astype(int) % 256)
    assert episode.valid["image.wrist"].all()


def test_poses_at_the_rate_of_the_camera_are_enough(rig: Rig) -> None:
    episode = assemble(made(rig, pose_hz=60.0), rig)
    at_s = episode.captured_ns["vector.hand"] / 1e9
    millimetres, degrees = errors(episode.frames["vector.hand"], Motion().pose(at_s) @ rig.T_camera_hand)
    assert millimetres <= 1.0
    assert degrees <= 0.2


def test_a_delay_that_is_not_measured_shows(rig: Rig) -> None:
    unmeasured = replace(rig, latency=Latency())
    episode = assemble(made(rig), unmeasured)
    at_s = episode.captured_ns["vector.hand"] / 1e9 - rig.latency.camera_s
    millimetres, _ = errors(episode.frames["vector.hand"], Motion().pose(at_s) @ rig.T_camera_hand)
    assert millimetres > 5.0


def test_a_command_that_acts_late_aims_further_ahead(rig: Rig) -> None:
    late = replace(rig, latency=replace(rig.latency, action_s=0.12))
    episode = assemble(made(rig), late)
    at_s = episode.captured_ns["action"] / 1e9
    millimetres, _ = errors(episode.frames["action"][:, :9], Motion().pose(at_s + 0.05 + 0.12) @ rig.T_camera_hand)
    assert millimetres <= 1.0


def test_a_lost_picture_is_repeated_and_marked(rig: Rig) -> None:
    whole = made(rig)
    kept = np.ones(len(whole.images), bool)
    kept[120:126] = False  # 0.1 s, two steps
    holed = replace(whole, images=whole.images[kept], image_time_s=whole.image_time_s[kept])
    episode = assemble(holed, rig)
    assert (~episode.valid["image.wrist"]).sum() == 1
    at_s = episode.captured_ns["vector.hand"] / 1e9
    millimetres, _ = errors(episode.frames["vector.hand"], Motion().pose(at_s) @ rig.T_camera_hand)
    assert millimetres <= 1.0
    assert (np.diff(episode.captured_ns["image.wrist"]) >= 0).all()


def test_short_losses_are_bridged_and_long_ones_refused(rig: Rig) -> None:
    whole = made(rig)
    width = whole.width_m.copy()
    width[60:70] = np.nan
    episode = assemble(replace(whole, width_m=width), rig)
    at_s = episode.captured_ns["vector.gripper"] / 1e9
    np.testing.assert_allclose(episode.frames["vector.gripper"][:, 0], Motion().width(at_s), atol=3e-3)
    width[60:90] = np.nan
    with pytest.raises(DataError, match=r"no gripper width around [\d.]+ s, at most 0\.2 s are bridged"):
        assemble(replace(whole, width_m=width), rig)
    tracked = whole.trajectory.tracked.copy()
    tracked[400:460] = False
    with pytest.raises(DataError, match=r"no pose for 0\.305 s around [\d.]+ s"):
        assemble(replace(whole, trajectory=replace(whole.trajectory, tracked=tracked)), rig)


def test_streams_that_never_meet(rig: Rig) -> None:
    whole = made(rig)
    with pytest.raises(DataError, match="never there at the same time"):
        assemble(replace(whole, image_time_s=whole.image_time_s + 60.0), rig)
    lost = replace(whole.trajectory, tracked=np.zeros(len(whole.trajectory), bool))
    with pytest.raises(DataError, match=r"0 tracked poses"):
        assemble(replace(whole, trajectory=lost), rig)


def test_the_spec_says_what_the_episode_holds(rig: Rig) -> None:
    episode, spec = assemble(made(rig), rig), rig.spec
    for key in spec.observation.keys[:-1]:
        assert episode.frames[key].shape[1:] == spec.observation.shape(key)
    assert episode.frames["action"].shape[1] == spec.action.width == 10
    low, high = np.array(spec.action.low) - 1e-6, np.array(spec.action.high) + 1e-6
    assert ((episode.frames["action"] >= low) & (episode.frames["action"] <= high)).all()
