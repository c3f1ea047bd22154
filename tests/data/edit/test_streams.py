"""Edits of films whose frames are not stored in the order they are shown, alone and joined by `compact`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from kinema.core.episode import Episode
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec
from kinema.data.edit import plan as edit
from kinema.data.edit.apply import write_new
from kinema.data.lerobot.compact import compact
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.lerobot.writer import DatasetWriter
from kinema.data.video import VideoCodec

Check = Callable[[Path, Any], Dataset]
ModelOf = Callable[[Dataset], Any]
LENGTHS = (30, 3, 17, 25)
SPEC = RobotSpec(
    embodiment="tiny",
    rate_hz=10.0,
    observation=ObservationSpec(cameras=(Camera(name="a", height=64, width=96),), instruction=True),
    action=ActionSpec(
        components=("dx",), units=("m",), frame="world", kind="delta", integrator="c", low=(-1.0,), high=(1.0,)
    ),
)  # fmt: skip
FOREIGN = {
    "H.264 with B frames": ("libx264", {"g": "12", "bf": "3", "b-pyramid": "normal"}),
    "H.264, open groups": ("libx264", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}),
    "H.265, open groups": ("libx265", {"g": "12", "x265-params": "log-level=none:pools=1:frame-threads=1"}),
    "AV1": ("libsvtav1", {"g": "12", "crf": "30", "preset": "12", "svtav1-params": "lp=1"}),
}


def moving(length: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 255, (20, 20, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    return np.stack([texture[step % 60 :, step % 50 :][:64, :96] for step in range(length)])


def film(path: Path, frames: np.ndarray, encoder: str, options: dict[str, str]) -> int:
    """Write `frames` as a foreign encoder would; returns how many packets come before their turn."""
    path.unlink()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for step, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = step
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        shown = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    return int(np.sum(np.diff(shown) < 0))


@pytest.fixture(scope="module", params=FOREIGN)
def filmed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    encoder, options = FOREIGN[request.param]
    root = tmp_path_factory.mktemp("filmed") / "dataset"
    writer = DatasetWriter(root, SPEC, codec=VideoCodec(pixel_format="yuv420p"), provenance={"command": "tests"})
    reordered = 0
    for index, length in enumerate(LENGTHS):
        frames = {"image.a": moving(length, index), "action": np.full((length, 1), index / 10, np.float32)}
        writer.append(Episode(instruction=f"task {index % 2}", frames=frames, success=True, origin={"episode": index}))
        path = root / f"videos/observation.images.a/chunk-000/file-{index:03d}.mp4"
        reordered += film(path, frames["image.a"], encoder, options)
    assert (reordered > 0) == (encoder != "libsvtav1"), "frames are stored in another order than they are shown"
    return root


def test_whole_files_are_linked(filmed: Path, model_of: ModelOf, check: Check, tmp_path: Path) -> None:
    dataset = open_dataset(filmed)
    model = model_of(dataset)
    write_new(edit.keep(dataset, (3, 0)), tmp_path / "kept")
    check(tmp_path / "kept", replaced(model, (3, 0)))


def replaced(model: Any, chosen: tuple[int, ...]) -> Any:
    return type(model)(model.spec, tuple(model.episodes[index] for index in chosen))


def test_after_compaction(filmed: Path, model_of: ModelOf, check: Check, tmp_path: Path) -> None:
    """Joined into one file, cut out of it, merged, joined again, cut again, coded anew: the same frames throughout."""
    first = open_dataset(filmed)
    model = model_of(first)
    joined = tmp_path / "joined"
    write_new(edit.keep(first, (0, 1, 2, 3)), joined)
    assert compact(joined).after["videos/observation.images.a"] == 1
    check(joined, model)
    dataset = open_dataset(joined)
    for name, chosen in (("a", (0, 2, 3)), ("b", (1,)), ("c", (3, 1))):
        write_new(edit.keep(dataset, chosen), tmp_path / name)
        check(tmp_path / name, replaced(model, chosen))
    write_new(edit.delete(dataset, (0,)), tmp_path / "deleted")
    check(tmp_path / "deleted", replaced(model, (1, 2, 3)))
    parts = [open_dataset(tmp_path / name) for name in "abc"]
    write_new(edit.merge(parts), tmp_path / "merged")
    order = (0, 2, 3, 1, 3, 1)
    check(tmp_path / "merged", replaced(model, order))
    compact(tmp_path / "merged")
    again = check(tmp_path / "merged", replaced(model, order))
    write_new(edit.keep(again, (4, 2)), tmp_path / "again")
    check(tmp_path / "again", replaced(model, (3, 3)))
    write_new(edit.reencode(dataset, VideoCodec(gop=2, crf=4, pixel_format="yuv444p")), tmp_path / "coded")
    coded = open_dataset(tmp_path / "coded")
    assert np.abs(coded.images("a").astype(int) - dataset.images("a").astype(int)).mean() < 3


def test_a_long_group_written_by_kinema(model_of: ModelOf, check: Check, tmp_path: Path) -> None:
    """Its own H.265 reorders frames: what compaction joins, an edit must be able to cut, the shortest film too."""
    codec = VideoCodec(encoder="libx265", pixel_format="yuv420p", gop=12)
    writer = DatasetWriter(tmp_path / "own", SPEC, codec=codec, provenance={"command": "tests"})
    for index, length in enumerate((30, 1, 2, 17)):
        frames = {"image.a": moving(length, index), "action": np.zeros((length, 1), np.float32)}
        writer.append(Episode(instruction="go", frames=frames, success=True, origin={"episode": index}))
    model = model_of(open_dataset(tmp_path / "own"))
    compact(tmp_path / "own")
    dataset = check(tmp_path / "own", model)
    write_new(edit.keep(dataset, (3, 1, 2, 0)), tmp_path / "kept")
    check(tmp_path / "kept", replaced(model, (3, 1, 2, 0)))
