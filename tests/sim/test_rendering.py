"""What the renderer draws: the right part, the right way up, and a plain word where it cannot draw at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from kinema.core.episode import Start
from kinema.sim.rendering import FAST, FULL, CameraRenderer, Crop
from kinema.sim.suites.metaworld import MetaWorld, MetaWorldEnvironment

# Red above green, blue to the right, seen along +y by one camera the right way up and one that hangs upside down.
SCENE = """
<mujoco>
  <worldbody>
    <light pos="0 -3 3" dir="0 1 -1" diffuse="1 1 1"/>
    <camera name="upright" pos="0 -2 0" xyaxes="1 0 0 0 0 1" fovy="60"/>
    <camera name="hanging" pos="0 -2 0" xyaxes="-1 0 0 0 0 -1" fovy="60"/>
    <geom type="box" size="3 0.01 3" pos="0 1 0" rgba=".5 .5 .5 1"/>
    <geom type="sphere" size=".15" pos="0 0 .6" rgba="1 0 0 1"/>
    <geom type="sphere" size=".15" pos="0 0 -.6" rgba="0 1 0 1"/>
    <geom type="box" size=".1 .1 .25" pos=".6 0 .1" rgba="0 0 1 1"/>
  </worldbody>
</mujoco>
"""


@pytest.fixture(scope="module")
def scene(suite: MetaWorld) -> Iterator[tuple[Any, CameraRenderer, CameraRenderer]]:
    """The data of the scene, and renderers of 128 and 64 pixels."""
    import mujoco

    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    large, small = CameraRenderer(model, 128, FAST), CameraRenderer(model, 64, FAST)
    yield data, large, small
    large.close()
    small.close()


def centre(picture: np.ndarray, channel: int) -> tuple[float, float]:
    """Return (row, column) of the middle of what is mostly red (0), green (1) or blue (2)."""
    values = picture.astype(int)
    others = [values[..., other] for other in range(3) if other != channel]
    rows, columns = np.nonzero(values[..., channel] > 40 + np.maximum(*others))
    assert len(rows) > 20
    return float(rows.mean()), float(columns.mean())


@pytest.mark.parametrize("camera", ["upright", "hanging"])
def test_pictures_are_the_right_way_up_and_not_mirrored(scene: Any, camera: str) -> None:
    data, large, _ = scene
    picture = large.render(data, camera, Crop())
    assert picture.shape == (128, 128, 3) and picture.dtype == np.uint8 and picture.flags.c_contiguous
    red, green, blue = (centre(picture, channel) for channel in range(3))
    assert red[0] < 40 < 88 < green[0] and red[1] == pytest.approx(63.5, abs=1)
    assert blue[1] > 90 and 45 < blue[0] < 63


def test_a_hanging_camera_sees_the_same_after_turning(scene: Any) -> None:
    data, large, _ = scene
    for crop in (Crop(), Crop(right=0.125, down=-0.25, size=0.5)):
        upright, hanging = (large.render(data, camera, crop).astype(int) for camera in ("upright", "hanging"))
        assert np.abs(upright - hanging).mean() < 1
        assert np.abs(upright - upright[::-1, ::-1]).mean() > 5


@pytest.mark.parametrize("camera", ["upright", "hanging"])
@pytest.mark.parametrize(("right", "down"), [(0.0, 0.0), (0.25, 0.0), (0.0, -0.25), (-0.125, 0.1875)])
def test_a_crop_is_that_part_of_the_whole_picture(scene: Any, camera: str, right: float, down: float) -> None:
    data, large, small = scene
    whole = large.render(data, camera, Crop()).astype(int)
    part = small.render(data, camera, Crop(right=right, down=down, size=0.5)).astype(int)
    top, left = round(128 * (0.25 + down)), round(128 * (0.25 + right))
    assert np.abs(whole[top : top + 64, left : left + 64] - part).mean() < 1
    for row, column in ((0, 8), (8, 0)):
        moved = np.roll(whole, (row, column), (0, 1))[top : top + 64, left : left + 64]
        assert np.abs(moved - part).mean() > 3, "a shift by 8 pixels would be seen"
    assert np.array_equal(whole, large.render(data, camera, Crop())), "a crop leaves no trace in the next picture"


def test_full_quality_draws_shadows(scene: Any) -> None:
    import mujoco

    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    full = CameraRenderer(model, 64, FULL)
    try:
        picture = full.render(data, "upright", Crop())
    finally:
        full.close()
    _, _, small = scene
    assert np.abs(picture.astype(int) - small.render(scene[0], "upright", Crop())).mean() > 0.5


@pytest.mark.parametrize("view", ["corner", "corner2", "corner3", "corner_table", "corner2_table"])
def test_a_hand_that_rises_rises_in_the_picture(environment: MetaWorldEnvironment, view: str) -> None:
    environment.begin(Start(task="reach", seed=0, episode=0))
    for _ in range(25):
        environment.step(np.array([0, 0, -1, 0], np.float32))
    pictures = [environment._render(view, 96).astype(int)]
    for _ in range(2):
        for _ in range(20):
            environment.step(np.array([0, 0, 1, 0], np.float32))
        pictures.append(environment._render(view, 96).astype(int))
    rows = []
    for before, after in pairwise(pictures):
        changed = np.abs(after - before).sum(-1)
        rows.append((changed.sum(1) @ np.arange(96)) / changed.sum())
    assert rows[1] < rows[0] - 1


def run(program: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("KINEMA_GL_CHECKED", "MUJOCO_GL")}
    return subprocess.run([sys.executable, "-c", program], env={**clean, **environ}, capture_output=True, text=True)


CHOOSE = """
import os, sys
from kinema.core.errors import UnavailableError
from kinema.sim.rendering import choose_backend
assert "mujoco" not in sys.modules
try:
    print(choose_backend(), os.environ["MUJOCO_GL"])
except UnavailableError as error:
    print(error)
"""


def test_without_a_working_backend_the_error_says_what_to_install(suite: MetaWorld) -> None:
    message = run(CHOOSE, MUJOCO_GL="nonsense").stdout
    assert message.startswith("no off-screen OpenGL backend works here")
    assert "  nonsense: " in message and "RuntimeError" in message
    assert "apt-get install libegl1 libgl1-mesa-dri libosmesa6" in message
    assert "unset MUJOCO_GL" in message


def test_the_chosen_backend_is_handed_on(suite: MetaWorld) -> None:
    chosen = os.environ["KINEMA_GL_CHECKED"]
    assert run(CHOOSE, MUJOCO_GL=chosen).stdout.split() == [chosen, chosen]
    assert run(CHOOSE, KINEMA_GL_CHECKED=chosen, MUJOCO_GL=chosen).stdout.split() == [chosen, chosen]


def test_mujoco_imported_too_early_is_an_error_and_no_crash(suite: MetaWorld) -> None:
    chosen = os.environ["KINEMA_GL_CHECKED"]
    early = "import mujoco" + CHOOSE.replace('assert "mujoco" not in sys.modules', "")
    message = run(early).stdout
    assert "mujoco was imported before a rendering backend was chosen" in message
    assert f"set MUJOCO_GL={chosen} in the environment" in message
    assert run(early, MUJOCO_GL=chosen).stdout.split() == [chosen, chosen]
