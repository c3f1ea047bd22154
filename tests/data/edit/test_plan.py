"""Edits against a plain in-memory model: columns and decoded frames bit for bit, every number right."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinema.core.episode import Episode
from kinema.core.errors import DataError, KinemaError, SpecMismatch
from kinema.core.spec import RobotSpec, Vector
from kinema.data.edit import plan as edit
from kinema.data.edit.apply import replace as replace_dataset
from kinema.data.edit.apply import write_new, write_parts
from kinema.data.edit.episodes import fractions
from kinema.data.lerobot import layout
from kinema.data.lerobot.files import lock
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.lerobot.writer import DatasetWriter
from kinema.data.video import VideoCodec, decode

Check = Callable[[Path, Any], Dataset]
ModelOf = Callable[[Dataset], Any]


def test_delete_renumbers_and_links_videos(dataset: Dataset, model_of: ModelOf, check: Check, tmp_path: Path) -> None:
    write_new(edit.delete(dataset, (1, 4)), tmp_path / "out")
    model = model_of(dataset)
    kept = tuple(model.episodes[i] for i in (0, 2, 3, 5))
    check(tmp_path / "out", replace(model, episodes=kept))
    new = tmp_path / "out/videos/observation.images.front/chunk-000/file-003.mp4"
    assert new.samefile(dataset.root / "videos/observation.images.front/chunk-000/file-005.mp4")
    entry = open_dataset(tmp_path / "out").provenance[0]
    assert entry["command"] == "tests"
    assert entry["edits"] == [{"operation": "delete", "source": dataset.content_hash}]


def test_merge_keeps_order_and_tasks(dataset: Dataset, model_of: ModelOf, check: Check, tmp_path: Path) -> None:
    write_parts({"a": edit.keep(dataset, (5, 1)), "b": edit.keep(dataset, (0, 2))}, tmp_path / "parts")
    parts = [open_dataset(tmp_path / "parts" / name) for name in "ab"]
    write_new(edit.merge(parts), tmp_path / "merged")
    model = model_of(dataset)
    merged = check(tmp_path / "merged", replace(model, episodes=tuple(model.episodes[i] for i in (5, 1, 0, 2))))
    assert [entry["from_episode"] for entry in merged.provenance] == [0, 2]
    assert [edit["operation"] for edit in merged.provenance[1]["edits"]] == ["split", "merge"]


def test_merge_names_every_difference(
    dataset: Dataset, spec: RobotSpec, make_episode: Callable[..., Episode], tmp_path: Path
) -> None:
    vectors = spec.observation.vectors
    force = replace(vectors[2], units=("lbf",))
    other = replace(spec, rate_hz=20.0, observation=replace(spec.observation, vectors=(*vectors[:2], force)))
    DatasetWriter(tmp_path / "other", other, codec=VideoCodec(crf=20)).append(make_episode(0))
    with pytest.raises(SpecMismatch) as caught:
        edit.merge((dataset, open_dataset(tmp_path / "other")))
    text = str(caught.value)
    assert "rate_hz" in text and "10.0" in text and "20.0" in text
    assert "vector 'force' units" in text and "codec crf: 20, expected 8" in text
    assert len(text.splitlines()) <= 9


def test_rename_remove_add(dataset: Dataset, model_of: ModelOf, check: Check, tmp_path: Path) -> None:
    model = model_of(dataset)
    write_new(edit.rename(dataset, "image.front", "top"), tmp_path / "renamed")
    renamed = open_dataset(tmp_path / "renamed")
    assert [camera.name for camera in renamed.spec.observation.cameras] == ["top", "wrist"]
    rows = tuple(
        replace(row, frames={("image.top" if k == "image.front" else k): v for k, v in row.frames.items()})
        for row in model.episodes
    )
    check(tmp_path / "renamed", replace(model, spec=renamed.spec, episodes=rows))

    write_new(edit.remove(renamed, "image.top"), tmp_path / "removed")
    removed = open_dataset(tmp_path / "removed")
    rows = tuple(replace(row, frames={k: v for k, v in row.frames.items() if k != "image.top"}) for row in rows)
    check(tmp_path / "removed", replace(model, spec=removed.spec, episodes=rows))
    assert not (tmp_path / "removed/videos/observation.images.top").exists()

    vector = Vector(name="speed", components=("v",), units=("m/s",), frame="world")
    write_new(edit.add(removed, vector, lambda source, e: source.column("action")[e.start : e.start + e.length, :1]),
              tmp_path / "added")  # fmt: skip
    added = open_dataset(tmp_path / "added")
    rows = tuple(replace(row, frames={**row.frames, "vector.speed": row.frames["action"][:, :1]}) for row in rows)
    check(tmp_path / "added", replace(model, spec=added.spec, episodes=rows))
    assert added.spec.observation.vectors[-1] == vector


def test_add_from_array_and_its_errors(dataset: Dataset, tmp_path: Path) -> None:
    vector = Vector(name="count", components=("n",), units=("1",), frame="none")
    write_new(edit.add(dataset, vector, np.arange(len(dataset))), tmp_path / "out")
    assert open_dataset(tmp_path / "out").column("vector.count")[:, 0].tolist() == list(range(32))
    with pytest.raises(SpecMismatch, match=r"vector.count: shape \(31, 1\) int64, expected numbers of shape \(32, 1\)"):
        edit.add(dataset, vector, np.arange(31))
    with pytest.raises(SpecMismatch, match=r"vector\.count: not finite at row 3"):
        edit.add(dataset, vector, np.where(np.arange(32) == 3, np.nan, 0.0))
    with pytest.raises(SpecMismatch, match=r"has 'vector\.force' already"):
        edit.add(dataset, replace(vector, name="force"), np.zeros(32))
    plan = edit.add(dataset, vector, lambda *_: np.zeros((2, 1)))
    with pytest.raises(SpecMismatch, match=r"expected numbers of shape \(6, 1\)"):
        write_new(plan, tmp_path / "bad")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_retask(dataset: Dataset, model_of: ModelOf, check: Check, tmp_path: Path) -> None:
    write_new(edit.retask(dataset, {0: "open it", 3: "open it"}), tmp_path / "out")
    model = model_of(dataset)
    rows = tuple(replace(r, instruction="open it") if i in (0, 3) else r for i, r in enumerate(model.episodes))
    out = check(tmp_path / "out", replace(model, episodes=rows))
    assert out.tasks == ("open it", "do thing 1", "do thing 2")
    with pytest.raises(KinemaError, match="non-empty"):
        edit.retask(dataset, {0: " "})


def test_reencode(dataset: Dataset, tmp_path: Path) -> None:
    codec = VideoCodec(encoder="libx264", pixel_format="yuv420p", crf=20)
    write_new(edit.reencode(dataset, codec), tmp_path / "out")
    out = open_dataset(tmp_path / "out")
    assert out.codec == codec
    assert layout.read_info(out.root)["features"]["observation.images.front"]["info"]["video.crf"] == 20
    error = np.abs(out.images("front").astype(int) - dataset.images("front")).mean()
    assert 0 < error < 8
    with pytest.raises(KinemaError, match="is compressed with just that"):
        edit.reencode(dataset, VideoCodec())


def test_shared_videos_are_cut_without_loss(
    dataset: Dataset, shared: Path, model_of: ModelOf, check: Check, tmp_path: Path
) -> None:
    source = open_dataset(shared)
    write_new(edit.keep(source, (2, 0)), tmp_path / "out")
    model = model_of(source)
    check(tmp_path / "out", replace(model, episodes=(model.episodes[2], model.episodes[0])))
    video = tmp_path / "out/videos/observation.images.front/chunk-000/file-000.mp4"
    assert np.array_equal(decode(video, size=(33, 31)), model.episodes[2].frames["image.front"])


def test_a_cut_begins_at_a_key_frame(dataset: Dataset, tmp_path: Path) -> None:
    from kinema.data.edit.clip import cut

    video = dataset.root / "videos/observation.images.front/chunk-000/file-002.mp4"
    cut(video, tmp_path / "a.mp4", first=4, length=5, fps=10)
    assert np.array_equal(decode(tmp_path / "a.mp4"), decode(video)[4:])
    with pytest.raises(DataError, match="frame 3 is not a key frame"):
        cut(video, tmp_path / "b.mp4", first=3, length=2, fps=10)
    with pytest.raises(DataError, match="5 of the frames 4 to 9 are there"):
        cut(video, tmp_path / "b.mp4", first=4, length=6, fps=10)


def test_in_place_keeps_the_old_one(dataset: Dataset, model_of: ModelOf, check: Check, tmp_path: Path) -> None:
    model = model_of(dataset)
    write_new(edit.keep(dataset, range(6)), tmp_path / "d")
    for _ in range(2):
        replace_dataset(edit.delete(open_dataset(tmp_path / "d"), (0,)))
    check(tmp_path / "d", replace(model, episodes=model.episodes[2:]))
    check(tmp_path / "d.before-delete", model)
    check(tmp_path / "d.before-delete-2", replace(model, episodes=model.episodes[1:]))
    replace_dataset(edit.delete(open_dataset(tmp_path / "d"), (0,)), keep=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "d.before-delete", "d.before-delete-2"]
    check(tmp_path / "d", replace(model, episodes=model.episodes[3:]))


def test_an_edited_dataset_can_be_appended_to(
    dataset: Dataset, make_episode: Callable[..., Episode], tmp_path: Path
) -> None:
    write_new(edit.delete(dataset, (1,)), tmp_path / "d")
    writer = DatasetWriter(tmp_path / "d", dataset.spec, provenance={"command": "more"})
    assert writer.append(make_episode(9)) == 5
    again = open_dataset(tmp_path / "d")
    assert len(again) == 32 - 1 + 6 and [e["from_episode"] for e in again.provenance] == [0, 5]


def test_what_changed_meanwhile_is_not_overwritten(
    dataset: Dataset, make_episode: Callable[..., Episode], tmp_path: Path
) -> None:
    write_new(edit.delete(dataset, (1,)), tmp_path / "d")
    plan = edit.delete(open_dataset(tmp_path / "d"), (0,))
    DatasetWriter(tmp_path / "d", dataset.spec).append(make_episode(9))
    with pytest.raises(DataError, match="is not as it was when it was opened: open it again"):
        replace_dataset(plan)
    assert len(open_dataset(tmp_path / "d").episodes) == 6 and len(list(tmp_path.iterdir())) == 1


def test_an_edit_is_noticed_by_who_has_the_dataset_open(
    dataset: Dataset, make_episode: Callable[..., Episode], tmp_path: Path
) -> None:
    """As many episodes as before, other tasks: a plan or a writer made before would mix the two."""
    write_new(edit.delete(dataset, (1,)), tmp_path / "d")
    writer, opened = DatasetWriter(tmp_path / "d", dataset.spec), open_dataset(tmp_path / "d")
    replace_dataset(edit.retask(opened, {0: "do thing 1", 1: "do thing 0"}))
    with pytest.raises(DataError, match="was edited or compacted"):
        writer.append(make_episode(9))
    with pytest.raises(DataError, match="is not as it was when it was opened"):
        replace_dataset(edit.retask(opened, {0: "another"}))
    assert DatasetWriter(tmp_path / "d", dataset.spec).append(make_episode(9)) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "d.before-retask"]


def test_who_waits_for_an_edit_locks_the_new_directory(dataset: Dataset, tmp_path: Path) -> None:
    write_new(edit.keep(dataset, (0, 1)), tmp_path / "d")
    held = lock(tmp_path / "d")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(lock, tmp_path / "d")
        time.sleep(0.05)
        (tmp_path / "d").rename(tmp_path / "old")
        (tmp_path / "d").mkdir()
        held.close()
        with waiting.result() as file:
            assert os.path.samestat(os.fstat(file.fileno()), os.stat(tmp_path / "d/.lock"))


def test_fractions_spread_each_task(dataset: Dataset) -> None:
    first, second = fractions(dataset, (0.5, 0.5), 0)
    assert sorted(first + second) == list(range(6)) and len(first) == 3
    assert {dataset.episodes[i].instruction for i in first} == {f"do thing {i}" for i in range(3)}
    assert fractions(dataset, (0.5, 0.5), 0) == [first, second] != fractions(dataset, (0.5, 0.5), 3)
    with pytest.raises(KinemaError, match="add up to at most 1"):
        fractions(dataset, (0.8, 0.4), 0)
    with pytest.raises(KinemaError, match=r"fraction 0\.01 of 6 episodes is none"):
        fractions(dataset, (0.9, 0.01), 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: edit.delete(d, (6,)), "no episode 6: .* has episodes 0 to 5"),
        (lambda d: edit.delete(d, range(6)), "all 6 episodes would be deleted"),
        (lambda d: edit.remove(d, "image.frnt"), "unknown camera or vector 'image.frnt'; did you mean 'image.front'"),
        (lambda d: edit.rename(d, "action", "x"), "the action is what a dataset is for"),
        (lambda d: edit.rename(d, "image.front", "wrist"), "has 'image.wrist' already"),
        (lambda d: edit.merge([d]), "expected at least 2"),
    ],
)
def test_errors(dataset: Dataset, make: Callable[[Dataset], Any], message: str) -> None:
    with pytest.raises(KinemaError, match=message):
        make(dataset)


def test_a_name_that_the_format_cannot_hold_leaves_nothing(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SpecMismatch, match="cannot be a file name"):
        write_new(edit.rename(dataset, "image.front", "../x"), tmp_path / "out")
    (tmp_path / "there").mkdir()
    with pytest.raises(KinemaError, match="there exists; choose another place"):
        write_new(edit.keep(dataset, (0,)), tmp_path / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
