"""Rotations against scipy, hand-computed numbers and laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation, Slerp

from kinema.actions import rotations
from kinema.core.errors import KinemaError

R_TEST = Rotation.random(2000, random_state=np.random.default_rng(0)).as_matrix()
VECTORS = arrays(np.float64, 3, elements=st.floats(-3.0, 3.0))
SIXES = arrays(np.float64, 6, elements=st.floats(-10.0, 10.0))


def xyzw(quaternion_wxyz: np.ndarray) -> np.ndarray:
    return np.roll(quaternion_wxyz, -1, axis=-1)


def test_quaternions_are_wxyz_and_agree_with_scipy() -> None:
    np.testing.assert_allclose(rotations.matrix_from_quaternion_wxyz([1.0, 0, 0, 0]), np.eye(3), atol=0)
    quarter = rotations.matrix_from_quaternion_wxyz([1.0, 0, 0, 1.0])  # any length; 90 degrees about z
    np.testing.assert_allclose(quarter, [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-15)
    quaternion = rotations.quaternion_wxyz_from_matrix(R_TEST)
    assert (quaternion[:, 0] >= 0).all()
    np.testing.assert_allclose(Rotation.from_quat(xyzw(quaternion)).as_matrix(), R_TEST, atol=1e-9)
    np.testing.assert_allclose(rotations.matrix_from_quaternion_wxyz(quaternion), R_TEST, atol=1e-9)


def test_exp_and_log_agree_with_scipy_near_zero_and_near_pi_too() -> None:
    rng = np.random.default_rng(1)
    axes = rng.normal(size=(900, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = np.concatenate([np.logspace(-12, -1, 300), rng.uniform(0, np.pi, 300), np.pi - np.logspace(-9, -1, 300)])
    vectors = axes * angles[:, None]
    matrices = rotations.exp(vectors)
    np.testing.assert_allclose(matrices, Rotation.from_rotvec(vectors).as_matrix(), atol=1e-9)
    back = rotations.log(matrices)
    np.testing.assert_allclose(back, Rotation.from_matrix(matrices).as_rotvec(), atol=1e-9)
    np.testing.assert_allclose(back, vectors, atol=1e-9)
    assert np.array_equal(rotations.log(np.eye(3)), np.zeros(3))
    assert np.array_equal(rotations.exp(np.zeros(3)), np.eye(3))
    half = rotations.log(np.diag([1.0, -1.0, -1.0]))
    np.testing.assert_allclose(np.abs(half), [np.pi, 0, 0], atol=1e-12)


def test_six_numbers_are_columns_and_rows_are_something_else() -> None:
    turned = rotations.exp(np.array([0.3, -0.7, 1.1]))
    assert np.abs(turned - turned.T).max() > 0.5, "a symmetric rotation could not tell the two layouts apart"
    np.testing.assert_array_equal(rotations.columns_6d(turned), [*turned[:, 0], *turned[:, 1]])
    np.testing.assert_array_equal(rotations.rows_6d(turned), [*turned[0], *turned[1]])
    np.testing.assert_allclose(rotations.matrix_from_rows_6d(rotations.rows_6d(turned)), turned, atol=1e-15)
    mistaken = rotations.matrix_from_columns_6d(rotations.rows_6d(turned))
    np.testing.assert_allclose(mistaken, turned.T, atol=1e-15)
    assert rotations.distance_rad(mistaken, turned) > 1.0


def test_a_hundred_thousand_rotations_return_from_6d() -> None:
    many = Rotation.random(100_000, random_state=np.random.default_rng(2)).as_matrix()
    assert np.abs(rotations.matrix_from_columns_6d(rotations.columns_6d(many)) - many).max() <= 1e-7
    assert np.abs(rotations.matrix_from_rows_6d(rotations.rows_6d(many)) - many).max() <= 1e-7
    single = rotations.columns_6d(many).astype(np.float32)
    assert np.abs(rotations.matrix_from_columns_6d(single) - many).max() <= 3e-7


def test_any_six_numbers_become_a_proper_rotation() -> None:
    made = rotations.matrix_from_columns_6d(np.random.default_rng(3).normal(size=(100_000, 6)) * 50)
    np.testing.assert_allclose(np.linalg.det(made), 1.0, atol=1e-12)
    np.testing.assert_allclose(np.swapaxes(made, -1, -2) @ made, np.broadcast_to(np.eye(3), made.shape), atol=1e-12)


def test_gram_schmidt_by_hand() -> None:
    made = rotations.matrix_from_columns_6d([0, 2.0, 0, 3.0, 5.0, 0])  # first y, then the part of (3, 5) off y: x
    np.testing.assert_allclose(made, [[0, 1, 0], [1, 0, 0], [0, 0, -1]], atol=1e-15)


@pytest.mark.parametrize(
    ("six", "message"),
    [
        ([0, 0, 0, 0, 1.0, 0], "vector of length zero at index \\(1,\\)"),
        ([1.0, 2, 3, -2, -4, -6], "parallel vectors at index \\(1,\\)"),
        ([1.0, 0, 0, 1, 1e-8, 0], "parallel vectors"),
        ([1.0, np.nan, 0, 0, 1, 0], "not finite"),
    ],
)
def test_degenerate_6d_is_an_error_that_says_where(six: list[float], message: str) -> None:
    fine = [1.0, 0, 0, 0, 1, 0]
    with pytest.raises(KinemaError, match=message):
        rotations.matrix_from_columns_6d([fine, six])


def test_6d_is_continuous_where_axis_angle_and_euler_jump() -> None:
    steps = 720
    axis = np.array([1.0, 2.0, -0.5]) / np.linalg.norm([1.0, 2.0, -0.5])
    loop = rotations.exp(np.linspace(0, 2 * np.pi, steps + 1)[:, None] * axis)

    def largest_step(values: np.ndarray) -> float:
        return float(np.linalg.norm(np.diff(values, axis=0), axis=1).max())

    assert largest_step(rotations.columns_6d(loop)) <= np.sqrt(2) * 2 * np.pi / steps * 1.001
    assert largest_step(rotations.log(loop)) >= np.pi
    assert largest_step(rotations.euler_from_matrix(loop, "xyz")) >= np.pi


@pytest.mark.parametrize("convention", rotations.EULER)
def test_euler_angles_agree_with_scipy_and_lock_is_defined(convention: str) -> None:
    angles = np.random.default_rng(4).uniform([-np.pi, -1.5, -np.pi], [np.pi, 1.5, np.pi], (300, 3))
    matrices = rotations.matrix_from_euler(angles, convention)
    np.testing.assert_allclose(matrices, Rotation.from_euler(convention, angles).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(rotations.euler_from_matrix(matrices, convention), angles, atol=1e-9)
    for middle in (np.pi / 2, -np.pi / 2):
        locked = rotations.matrix_from_euler([0.4, middle, -1.1], convention)
        again = rotations.euler_from_matrix(locked, convention)
        assert again[2 if convention.isupper() else 0] == 0.0
        np.testing.assert_allclose(rotations.matrix_from_euler(again, convention), locked, atol=1e-9)


def test_an_euler_convention_must_be_named() -> None:
    with pytest.raises(KinemaError, match=r"unknown Euler convention 'rpy'"):
        rotations.matrix_from_euler(np.zeros(3), "rpy")


def nlerp(start: np.ndarray, end: np.ndarray, fraction: float) -> np.ndarray:
    """The wrong way that looks right: mix the quaternions, then normalise."""
    first, second = (rotations.quaternion_wxyz_from_matrix(r) for r in (start, end))
    second = np.where((first * second).sum(-1, keepdims=True) < 0, -second, second)
    return rotations.matrix_from_quaternion_wxyz((1 - fraction) * first + fraction * second)


def test_slerp_agrees_with_scipy_and_takes_the_short_way() -> None:
    fractions = np.linspace(0, 1, 7)
    for start, end in zip(R_TEST[:200:2], R_TEST[1:200:2], strict=True):
        oracle = Slerp([0, 1], Rotation.from_matrix([start, end]))(fractions).as_matrix()
        np.testing.assert_allclose(rotations.slerp(start, end, fractions), oracle, atol=1e-9)
    about_z = rotations.exp(np.array([0, 0, np.deg2rad(350)]))
    np.testing.assert_allclose(rotations.log(rotations.slerp(np.eye(3), about_z, 0.5)), [0, 0, np.deg2rad(-5)])


@pytest.mark.parametrize(("degrees", "error_degrees"), [(90, -0.90), (170, -6.7)])
def test_nlerp_is_not_slerp(degrees: float, error_degrees: float) -> None:
    end = rotations.exp(np.array([0.0, 0.0, np.deg2rad(degrees)]))
    reached = np.rad2deg(rotations.log(rotations.slerp(np.eye(3), end, 0.25))[2])
    assert reached == pytest.approx(degrees / 4, abs=1e-9)
    mixed = np.rad2deg(rotations.log(nlerp(np.eye(3), end, 0.25))[2])
    assert mixed - degrees / 4 == pytest.approx(error_degrees, abs=0.05)


def test_distance_is_the_angle_between() -> None:
    ours = rotations.distance_rad(R_TEST[:-1], R_TEST[1:])
    scipys = (Rotation.from_matrix(R_TEST[:-1]).inv() * Rotation.from_matrix(R_TEST[1:])).magnitude()
    np.testing.assert_allclose(ours, scipys, atol=1e-9)


def test_all_leading_axes_are_kept() -> None:
    block = R_TEST[:24].reshape(2, 3, 4, 3, 3)
    assert rotations.log(block).shape == (2, 3, 4, 3)
    assert rotations.columns_6d(block).shape == (2, 3, 4, 6)
    np.testing.assert_array_equal(rotations.log(block).reshape(24, 3), rotations.log(R_TEST[:24]))
    assert rotations.slerp(block, block[:, ::-1], np.full((2, 3, 4), 0.3)).shape == block.shape


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(KinemaError, match=r"rotation matrices of shape \(3,\), expected \(..., 3, 3\)"):
        rotations.log(np.zeros(3))
    with pytest.raises(KinemaError, match=r"quaternion of length zero"):
        rotations.matrix_from_quaternion_wxyz(np.zeros(4))


@pytest.mark.parametrize(
    "wrong", [np.eye(3) * 1.1, np.diag([1.0, 1.0, -1.0]), np.zeros((3, 3)), np.full((3, 3), np.nan)], ids=str
)
def test_a_matrix_that_is_no_rotation_is_named(wrong: np.ndarray) -> None:
    for act in (rotations.log, rotations.columns_6d, rotations.quaternion_wxyz_from_matrix):
        with pytest.raises(KinemaError, match=r"matrix that is no rotation at index \(1,\)"):
            act(np.stack([np.eye(3), wrong]))
    assert rotations.log(R_TEST.astype(np.float16).astype(float)).shape == (2000, 3), "rounding is no reason to refuse"


@settings(max_examples=30, deadline=None)
@given(VECTORS, VECTORS, st.floats(0.0, 1.0))
def test_laws(first: np.ndarray, second: np.ndarray, fraction: float) -> None:
    start, end = rotations.exp(first), rotations.exp(second)
    np.testing.assert_allclose(start @ rotations.exp(-first), np.eye(3), atol=1e-12)
    apart = rotations.distance_rad(start, end)
    between = rotations.slerp(start, end, fraction)
    assert rotations.distance_rad(start, between) == pytest.approx(fraction * apart, abs=1e-7)
    assert rotations.distance_rad(between, end) == pytest.approx((1 - fraction) * apart, abs=1e-7)
    moved = rotations.slerp(end @ start, end @ end, fraction)  # turning the world turns the way with it
    if apart < 3.1:
        np.testing.assert_allclose(moved, end @ between, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(SIXES)
def test_6d_laws(six: np.ndarray) -> None:
    try:
        made = rotations.matrix_from_columns_6d(six)
    except KinemaError:
        first, second = six[:3], six[3:]
        lengths = np.linalg.norm(first) * np.linalg.norm(second)
        assert np.linalg.norm(np.cross(first, second)) <= 1e-5 * lengths or lengths < 1e-10
        return
    assert np.linalg.det(made) == pytest.approx(1.0, abs=1e-9)
    assert made[:, 0] @ six[:3] == pytest.approx(np.linalg.norm(six[:3]), rel=1e-9)
    assert made[:, 1] @ six[3:] >= -1e-9
    np.testing.assert_allclose(rotations.matrix_from_columns_6d(rotations.columns_6d(made)), made, atol=1e-9)
