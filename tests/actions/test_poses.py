"""Poses: hand-computed numbers, group laws, and what relative actions are and are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from kinema.actions import poses, rotations
from kinema.core.errors import KinemaError

TWISTS = arrays(np.float64, 6, elements=st.floats(-3.0, 3.0))


def random_poses(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return poses.pose(rng.uniform(-1, 1, (count, 3)), Rotation.random(count, random_state=rng).as_matrix())


def of(twist: np.ndarray) -> np.ndarray:
    return poses.pose(twist[:3], rotations.exp(twist[3:]))


def test_frames_read_left_to_right() -> None:
    T_world_hand = poses.pose([1.0, 2.0, 3.0], rotations.exp(np.array([0, 0, np.pi / 2])))
    T_hand_tip = poses.pose([0.5, 0.0, 0.0], np.eye(3))
    np.testing.assert_allclose(poses.compose(T_world_hand, T_hand_tip)[:3, 3], [1.0, 2.5, 3.0], atol=1e-15)
    np.testing.assert_allclose(poses.inverse(T_world_hand)[:3, 3], [-2.0, 1.0, -3.0], atol=1e-15)
    vector = poses.to_vector(T_world_hand)
    np.testing.assert_allclose(vector, [1, 2, 3, 0, 1, 0, -1, 0, 0], atol=1e-15)
    assert len(vector) == len(poses.COMPONENTS) == len(poses.UNITS)


def test_inverse_agrees_with_solving() -> None:
    many = random_poses(100, 0)
    np.testing.assert_allclose(poses.inverse(many), np.linalg.inv(many), atol=1e-12)
    np.testing.assert_allclose(poses.from_vector(poses.to_vector(many)), many, atol=1e-12)


def test_relative_actions_return_exactly_for_a_chunk_of_16() -> None:
    base, targets = random_poses(32, 1), random_poses(32 * 16, 2).reshape(32, 16, 4, 4)
    relative = poses.encode_relative(base, targets)
    assert relative.shape == (32, 16, 9)
    assert np.abs(poses.decode_relative(base, relative) - targets).max() <= 1e-9
    own = poses.encode_relative(targets[:, 0], targets)[:, 0]
    np.testing.assert_allclose(own, np.broadcast_to([0, 0, 0, 1, 0, 0, 0, 1, 0], (32, 9)), atol=1e-12)


def world_difference(targets: np.ndarray) -> np.ndarray:
    """UMI's `delta`: from step to step, but in the frame of the world."""
    position = np.diff(targets[..., :3, 3], axis=-2)
    turn = targets[..., 1:, :3, :3] @ np.swapaxes(targets[..., :-1, :3, :3], -1, -2)
    return poses.to_vector(poses.pose(position, turn))


def world_relative(base: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """UMI's `rel`, there called legacy: from one base, but in the frame of the world."""
    position = targets[..., :3, 3] - base[..., None, :3, 3]
    turn = targets[..., :3, :3] @ np.swapaxes(base[..., None, :3, :3], -1, -2)
    return poses.to_vector(poses.pose(position, turn))


def test_moving_the_world_changes_relative_actions_only_when_they_are_taken_in_the_world() -> None:
    base, targets, moves = random_poses(1, 3)[0], random_poses(16, 4), random_poses(20, 5)
    relative = poses.encode_relative(base, targets)
    for move in moves:
        assert np.abs(poses.encode_relative(move @ base, move @ targets) - relative).max() <= 1e-9
    move = moves[0]
    assert np.abs(world_difference(move @ targets) - world_difference(targets)).max() > 0.5
    assert np.abs(world_relative(move @ base, move @ targets) - world_relative(base, targets)).max() > 0.5


def test_a_body_frame_step_equals_relative_at_the_first_step_only() -> None:
    targets = random_poses(4, 6)
    relative = poses.encode_relative(targets[0], targets[1:])
    steps = poses.to_vector(poses.inverse(targets[:-1]) @ targets[1:])
    np.testing.assert_allclose(steps[0], relative[0], atol=1e-12)
    assert np.abs(steps[1:] - relative[1:]).max() > 0.1


def test_errors_of_steps_add_up_in_deltas_and_not_in_relative_actions() -> None:
    rng = np.random.default_rng(7)
    ends = {}
    for horizon in (4, 16, 64):
        base = random_poses(1, 8)[0]
        moves = rotations.exp(rng.normal(scale=0.05, size=(horizon, 3)))
        path = [base]
        for move in moves:
            path.append(path[-1] @ poses.pose([0.01, 0, 0], move))
        targets = np.stack(path[1:])
        steps = poses.inverse(np.stack(path[:-1])) @ targets
        noise = rng.normal(scale=1e-3, size=(400, horizon, 3))
        relative = np.broadcast_to(poses.encode_relative(base, targets), (400, horizon, 9)).copy()
        relative[..., :3] += noise
        steps = np.broadcast_to(steps, (400, horizon, 4, 4)).copy()
        steps[..., :3, 3] += noise
        reached = np.broadcast_to(base, (400, 4, 4))
        for k in range(horizon):
            reached = reached @ steps[:, k]
        direct = poses.decode_relative(base, relative)[:, -1]
        ends[horizon] = [
            float(np.sqrt(np.mean(np.sum((end[:, :3, 3] - targets[-1, :3, 3]) ** 2, axis=1))))
            for end in (reached, direct)
        ]
    for horizon, (delta_m, relative_m) in ends.items():
        assert delta_m == pytest.approx(1e-3 * np.sqrt(3 * horizon), rel=0.1)
        assert relative_m == pytest.approx(1e-3 * np.sqrt(3), rel=0.1)


def test_resampling_a_path() -> None:
    turn = rotations.exp(np.array([[0.0, 0, 0], [0, 0, 1.0], [0, 0, 1.0]]))
    path = poses.pose([[0.0, 0, 0], [2, 0, 0], [2, 4, 0]], turn)
    halfway, on_point, last = poses.resample(np.array([1.0, 2.0, 4.0]), path, np.array([1.25, 2.0, 4.0]))
    np.testing.assert_allclose(halfway[:3, 3], [0.5, 0, 0], atol=1e-15)
    np.testing.assert_allclose(rotations.log(halfway[:3, :3]), [0, 0, 0.25], atol=1e-15)
    np.testing.assert_allclose(on_point, path[1], atol=1e-15)
    np.testing.assert_allclose(last, path[2], atol=1e-15)
    with pytest.raises(KinemaError, match=r"0\.900000 to 2\.000000 s .* from 1\.000000 to 4\.000000 s"):
        poses.resample(np.array([1.0, 2.0, 4.0]), path, np.array([0.9, 2.0]))
    with pytest.raises(KinemaError, match="at times that rise"):
        poses.resample(np.array([1.0, 1.0, 4.0]), path, np.array([2.0]))


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(KinemaError, match=r"pose vectors of shape \(7,\), expected \(..., 9\)"):
        poses.from_vector(np.zeros(7))
    with pytest.raises(KinemaError, match=r"poses of shape \(3, 3\), expected \(..., 4, 4\)"):
        poses.inverse(np.eye(3))
    with pytest.raises(KinemaError, match=r"a pose of \(4,\) and \(3, 3\)"):
        poses.pose(np.zeros(4), np.eye(3))


@settings(max_examples=30, deadline=None)
@given(TWISTS, TWISTS, TWISTS)
def test_group_laws(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    A, B, C = of(a), of(b), of(c)
    np.testing.assert_allclose(poses.compose(A, poses.inverse(A)), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(poses.compose(poses.compose(A, B), C), poses.compose(A, poses.compose(B, C)), atol=1e-9)
    np.testing.assert_allclose(
        poses.inverse(poses.compose(A, B)), poses.compose(poses.inverse(B), poses.inverse(A)), atol=1e-9
    )
    relative = poses.encode_relative(A, np.stack([B, C]))
    np.testing.assert_allclose(poses.decode_relative(A, relative), np.stack([B, C]), atol=1e-9)
    np.testing.assert_allclose(poses.encode_relative(C @ A, C @ np.stack([B, C])), relative, atol=1e-9)
