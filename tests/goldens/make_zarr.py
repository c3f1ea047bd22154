"""Writes the zarr goldens with zarr itself: `python tests/goldens/make_zarr.py` (zarr 3, numcodecs, imagecodecs)."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ENDS = (5, 12, 20)


def pictures(steps: int, seed: int) -> np.ndarray:
    """Return (steps, 24, 32, 3) uint8: a ramp in each colour and a square that moves, so that any turn shows."""
    rows, columns = np.mgrid[0:24, 0:32]
    image = np.stack([40 + 5 * rows, 60 + 4 * columns, np.full_like(rows, 50 + 10 * seed)], axis=-1)
    images = np.repeat(image[None], steps, axis=0).astype(np.uint8)
    for step in range(steps):
        images[step, 4:9, step : step + 5] = (230, 20, 30)
    return images


def diffusion_policy_arrays() -> dict[str, np.ndarray]:
    """Return the arrays of a buffer like that of the push-T task, whose images are floats from 0 to 255."""
    rng = np.random.default_rng(1)
    steps = ENDS[-1]
    return {
        "action": rng.uniform(0, 512, (steps, 2)).astype(np.float32),
        "state": rng.uniform(0, 512, (steps, 5)).astype(np.float64),
        "img": pictures(steps, 1).astype(np.float32),
    }


def umi_arrays() -> dict[str, np.ndarray]:
    """Return the arrays of a buffer of one hand-held gripper."""
    rng = np.random.default_rng(2)
    steps = ENDS[-1]
    return {
        "robot0_eef_pos": rng.normal(size=(steps, 3)).astype(np.float32),
        "robot0_eef_rot_axis_angle": rng.normal(size=(steps, 3)).astype(np.float32),
        "robot0_gripper_width": rng.uniform(0, 0.08, (steps, 1)).astype(np.float32),
        "robot0_demo_start_pose": rng.normal(size=(steps, 6)),
        "robot0_demo_end_pose": rng.normal(size=(steps, 6)),
        "camera0_rgb": pictures(steps, 2),
    }


def write(path: Path, arrays: dict[str, np.ndarray], compressors: dict[str, object], chunk: int) -> None:
    import zarr

    shutil.rmtree(path, ignore_errors=True)
    root = zarr.open_group(path, mode="w", zarr_format=2)
    data = root.create_group("data")
    for name, values in arrays.items():
        rows = 1 if name.startswith("camera") else chunk
        made = data.create_array(
            name,
            shape=values.shape,
            chunks=(rows, *values.shape[1:]),
            dtype=values.dtype,
            compressors=[compressors.get(name, compressors[""])],
        )
        made[:] = values
    ends = root.create_group("meta").create_array("episode_ends", shape=(len(ENDS),), dtype="int64")
    ends[:] = np.array(ENDS)


def main() -> None:
    import imagecodecs.numcodecs
    from numcodecs import Blosc, Zlib

    imagecodecs.numcodecs.register_codecs(verbose=False)
    write(
        HERE / "pusht.zarr",
        diffusion_policy_arrays(),
        {"": Blosc(cname="zstd", clevel=5, shuffle=Blosc.SHUFFLE), "action": Zlib(level=5)},
        chunk=8,
    )
    folder = HERE / "umi.zarr"
    pictures_codec = imagecodecs.numcodecs.Jpegxl(lossless=True, numthreads=1)
    write(folder, umi_arrays(), {"": Blosc(cname="lz4"), "camera0_rgb": pictures_codec}, chunk=16)
    with zipfile.ZipFile(HERE / "umi.zarr.zip", "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                info = zipfile.ZipInfo(path.relative_to(folder).as_posix())  # a fixed date, so that bytes repeat
                archive.writestr(info, path.read_bytes())
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
