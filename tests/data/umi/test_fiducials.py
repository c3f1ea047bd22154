"""Finger tags in rendered pictures: a MuJoCo scene, seen through noise and blur, measured in millimetres."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")
mujoco = pytest.importorskip("mujoco")

from kinema.core.errors import KinemaError  # noqa: E402 - after the optional packages
from kinema.data.umi import gripper  # noqa: E402
from kinema.data.umi.fiducials import detect, tag_distance, tag_distances  # noqa: E402
from kinema.data.umi.rig import FingerTags, Lens  # noqa: E402
from kinema.sim.rendering import FAST, CameraRenderer, Crop  # noqa: E402

SIZE, FOVY = 540, 80.0
FOCAL = SIZE / 2 / np.tan(np.deg2rad(FOVY) / 2)
LENS = Lens(height=SIZE, width=SIZE, focal_px=(FOCAL, FOCAL), centre_px=(SIZE / 2 - 0.5, SIZE / 2 - 0.5))
TAGS = FingerTags()

SCENE = """
<mujoco>
  <visual><headlight ambient="0.7 0.7 0.7" diffuse="0.3 0.3 0.3" specular="0 0 0"/></visual>
  <asset>
    <texture name="t0" type="2d" file="tag0.png"/> <texture name="t1" type="2d" file="tag1.png"/>
    <material name="m0" texture="t0" texrepeat="1 1" specular="0"/>
    <material name="m1" texture="t1" texrepeat="1 1" specular="0"/>
  </asset>
  <worldbody>
    <camera name="wrist" pos="0 0 0" xyaxes="1 0 0 0 1 0" fovy="80"/>
    <geom type="plane" size="1 1 0.1" pos="0 0 -0.3" rgba="0.45 0.4 0.35 1"/>
    <body name="left" euler="12 8 3">
      <geom type="plane" size="0.012 0.012 0.001" material="m0"/>
    </body>
    <body name="right" euler="12 -8 -2">
      <geom type="plane" size="0.012 0.012 0.001" material="m1"/>
    </body>
  </worldbody>
</mujoco>
"""


def tag_png(number: int) -> bytes:
    """Return a tag of 16 mm with a white border of 4 mm around it."""
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50)
    picture = np.full((288, 288), 255, np.uint8)
    picture[48:240, 48:240] = cv2.aruco.generateImageMarker(dictionary, number, 192)
    return bytes(cv2.imencode(".png", picture)[1])


class Scene:
    def __init__(self) -> None:
        assets = {f"tag{number}.png": tag_png(number) for number in (0, 1)}
        self.model = mujoco.MjModel.from_xml_string(SCENE, assets)
        self.data = mujoco.MjData(self.model)
        self.renderer = CameraRenderer(self.model, SIZE, FAST)

    def picture(self, distance_m: float, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return what the camera sees with the tags `distance_m` apart; with `rng` noisy, blurred and less bright."""
        for name, side in (("left", -1), ("right", 1)):
            self.model.body(name).pos = (side * distance_m / 2, -0.02, -0.085)
        mujoco.mj_forward(self.model, self.data)
        sharp = self.renderer.render(self.data, "wrist", Crop())
        if rng is None:
            return sharp
        blurred = cv2.GaussianBlur(sharp, (0, 0), 1.0).astype(np.float64) * 0.8
        return np.clip(blurred + rng.normal(scale=6.0, size=sharp.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    try:
        made = Scene()
    except (RuntimeError, mujoco.FatalError) as error:
        pytest.skip(f"nothing can be drawn here: {error}")
    yield made
    made.renderer.close()


def test_widths_of_a_rendered_gripper(scene: Scene) -> None:
    distances = np.linspace(0.032, 0.112, 7)
    clean = tag_distances((scene.picture(d) for d in distances), LENS, TAGS)
    assert np.isfinite(clean).all()
    assert 1e3 * np.abs(clean - distances).max() <= 0.5
    rng = np.random.default_rng(0)
    noisy = tag_distances((scene.picture(d, rng) for d in distances), LENS, TAGS)
    assert np.isfinite(noisy).mean() >= 0.9
    assert 1e3 * np.nanmax(np.abs(noisy - distances)) <= 2.0


def test_calibration_takes_the_scale_out(scene: Scene) -> None:
    """A tag printed 3 % too large scales every distance; opening and closing once takes that out."""
    rng = np.random.default_rng(1)
    wrong = FingerTags(size_m=0.016 * 1.03)
    sweep = [*[0.032] * 4, *np.linspace(0.032, 0.112, 12), *[0.112] * 4]
    span = gripper.calibrate(
        tag_distances((scene.picture(d, rng) for d in sweep), LENS, wrong), closed_m=0.0, open_m=0.08
    )
    openings = np.linspace(0.005, 0.075, 4)
    seen = gripper.widths(tag_distances((scene.picture(0.032 + o, rng) for o in openings), LENS, wrong), span)
    assert 1e3 * np.nanmax(np.abs(seen - openings)) <= 1.5


def test_the_tags_stand_where_they_are(scene: Scene) -> None:
    found = detect(scene.picture(0.06), LENS, TAGS)
    assert sorted(found) == [0, 1]
    # MuJoCo's camera looks along -z with y up, OpenCV's along z with y down.
    np.testing.assert_allclose(found[0][:3, 3], [-0.03, 0.02, 0.085], atol=1e-3)
    np.testing.assert_allclose(found[1][:3, 3], [0.03, 0.02, 0.085], atol=1e-3)


def test_a_hidden_tag_is_not_seen(scene: Scene) -> None:
    picture = scene.picture(0.06)
    picture[:, : SIZE // 2] = 90
    found = detect(picture, LENS, TAGS)
    assert sorted(found) == [1]
    assert np.isnan(tag_distance(found, TAGS))


@pytest.mark.parametrize("model", ["pinhole", "fisheye"])
def test_a_distorting_lens_is_undone(scene: Scene, model: str) -> None:
    """The picture is bent the way the lens would bend it, then measured through the lens' own numbers."""
    numbers = (-0.22, 0.05, 0.001, -0.001, 0.0) if model == "pinhole" else (-0.02, -0.02, 0.002, 0.0)
    lens = Lens(
        height=SIZE, width=SIZE, focal_px=(FOCAL,) * 2, centre_px=LENS.centre_px, distortion=numbers, model=model
    )
    rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64)
    pixels = np.stack([columns, rows], axis=-1).reshape(-1, 1, 2)
    undistort = cv2.undistortPoints if model == "pinhole" else cv2.fisheye.undistortPoints
    rays = undistort(pixels, lens.matrix, np.array(numbers)).reshape(SIZE, SIZE, 2)
    source = (rays * FOCAL + np.array(LENS.centre_px)).astype(np.float32)
    bent = cv2.remap(scene.picture(0.08), source[..., 0], source[..., 1], cv2.INTER_LINEAR)
    assert tag_distance(detect(bent, lens, TAGS), TAGS) == pytest.approx(0.08, abs=1e-3)
    assert detect(bent, lens, TAGS)[0][2, 3] == pytest.approx(0.085, abs=1e-3)
    assert detect(bent, LENS, TAGS)[0][2, 3] > 0.089, "without the lens' numbers the tags seem further away"


def test_what_does_not_fit_is_named(scene: Scene) -> None:
    with pytest.raises(KinemaError, match=r"a picture of \(10, 10, 3\) uint8, the lens is calibrated for \(540, 540"):
        detect(np.zeros((10, 10, 3), np.uint8), LENS, TAGS)
    with pytest.raises(KinemaError, match=r"unknown ArUco dictionary 'DICT_4X4_51'; did you mean 'DICT_4X4_50'"):
        detect(scene.picture(0.06), LENS, FingerTags(dictionary="DICT_4X4_51"))
