"""Off-screen MuJoCo rendering on machines without a display: backend choice, speed presets and crops.

Default Meta-World rendering (a 4096-texel shadow map, multisampling, reflections) costs about ten times as much on a
CPU as the same picture without; `FAST` is the suites' default and an explicit choice, part of their configuration.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kinema.core.errors import UnavailableError

if TYPE_CHECKING:
    import mujoco

BACKENDS = ("egl", "osmesa")
_PROBE = "import mujoco; c = mujoco.GLContext(8, 8); c.make_current(); c.free()"


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What the renderer draws: shadows, mirror reflections, the sky and how many samples a pixel."""

    shadows: bool
    reflections: bool
    skybox: bool
    samples: int


FAST = Quality(shadows=False, reflections=False, skybox=False, samples=0)
FULL = Quality(shadows=True, reflections=True, skybox=True, samples=4)
QUALITIES = {"fast": FAST, "full": FULL}


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A square part of a camera's square picture, as fractions of it: centre (right, down from the middle) and size."""

    right: float = 0.0
    down: float = 0.0
    size: float = 1.0


def choose_backend() -> str:
    """Return the first backend that can draw here (EGL, then OSMesa) and make MuJoCo use it, in workers too.

    `MUJOCO_GL`, when set, is tried alone. Must run before `mujoco` is imported; raises UnavailableError with the
    packages to install when nothing works.
    """
    backend = os.environ.get("KINEMA_GL_CHECKED") or _first_working()
    os.environ["MUJOCO_GL"] = os.environ["KINEMA_GL_CHECKED"] = backend
    loaded = sys.modules.get("mujoco.gl_context")
    used = getattr(getattr(loaded, "GLContext", None), "__module__", None)
    if loaded is not None and used != f"mujoco.{backend}":  # drawing would end the whole process
        raise UnavailableError(
            f"mujoco was imported before a rendering backend was chosen, and uses {used}\n"
            f"fix: make the suite before anything imports mujoco, or set MUJOCO_GL={backend} in the environment"
        )
    return backend


def _first_working() -> str:
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    failures = []
    for backend in (wanted,) if wanted else BACKENDS:
        result = subprocess.run(  # noqa: S603 - our own interpreter on a constant program
            [sys.executable, "-c", _PROBE],
            env={**os.environ, "MUJOCO_GL": backend},
            capture_output=True,
            text=True,
            timeout=120,
        )
        if result.returncode == 0:
            return backend
        failures.append(f"  {backend}: {(result.stderr.strip().splitlines() or ['no message'])[-1]:.150}")
    raise UnavailableError(
        "no off-screen OpenGL backend works here, so nothing can be rendered\n"
        + "\n".join(failures)
        + "\ninstall one (Debian, Ubuntu): apt-get install libegl1 libgl1-mesa-dri libosmesa6"
        + ("\nor unset MUJOCO_GL to let kinema choose" if wanted else "")
    )


class CameraRenderer:
    """Draws named cameras of one MuJoCo model as (size, size, 3) uint8 RGB, right way up."""

    def __init__(self, model: mujoco.MjModel, size: int, quality: Quality) -> None:
        """Prepare a `size` x `size` picture of `model`; sets the model's shadow and sampling settings."""
        import mujoco

        model.vis.quality.offsamples = quality.samples
        if not quality.shadows:
            model.vis.quality.shadowsize = 1
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, size)
        model.vis.global_.offheight = max(model.vis.global_.offheight, size)
        self._model = model
        self._renderer = mujoco.Renderer(model, size, size)
        flags = self._renderer.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = quality.shadows
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = quality.reflections
        flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = quality.skybox

    def render(self, data: mujoco.MjData, camera: str, crop: Crop) -> np.ndarray:
        """Return what `camera` sees in `data`; only the cropped part is drawn, at full resolution."""
        self._renderer.update_scene(data, camera=camera)
        upside_down = data.cam(camera).xmat[7] < 0
        sign = -1.0 if upside_down else 1.0
        for view in self._renderer.scene.camera:
            _narrow(view, crop, sign)
        picture = self._renderer.render()
        return np.ascontiguousarray(picture[::-1, ::-1]) if upside_down else picture.copy()

    def close(self) -> None:
        """Free the OpenGL context; doing so at interpreter exit would print errors."""
        self._renderer.close()


def _narrow(view: Any, crop: Crop, sign: float) -> None:
    """Shrink the camera's frustum to the crop; `sign` -1 when the picture will be turned by 180 degrees."""
    half = 0.5 * (view.frustum_top - view.frustum_bottom)
    middle = -2.0 * half * crop.down * sign
    view.frustum_center += 2.0 * half * crop.right * sign
    view.frustum_top = middle + half * crop.size
    view.frustum_bottom = middle - half * crop.size
