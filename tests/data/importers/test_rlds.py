"""RLDS that TensorFlow Datasets wrote is read without TensorFlow; damage of any byte is noticed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from kinema.core.errors import DataError
from kinema.data.importers._tfrecord import parse_example, read_record, record_offsets
from kinema.data.importers.base import episodes
from kinema.data.importers.rlds import rlds

LOSSY = 6.0


@pytest.fixture
def folder(goldens: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(goldens / "rlds/tiny/1.0.0", tmp_path / "1.0.0"))


def filled(source):
    card = source.card
    vectors = tuple(
        replace(v, units=("m",) * len(v.units), frame="base") for v in card.vectors if v.name != "language_embedding"
    )
    action = replace(
        card.action, units=("m",) * 7, frame="base", kind="delta", integrator="controller", low=(-9.0,) * 7,
        high=(9.0,) * 7, gripper=None,
    )  # fmt: skip
    return replace(card, embodiment="arm", rate_hz=5.0, success="all", vectors=vectors, action=action)


def test_the_golden_becomes_a_dataset(folder, golden_script, imported):
    source = rlds(folder)
    card = source.card
    assert [c.name for c in card.cameras] == ["image", "wrist_image"]
    assert source.fields["steps/observation/wrist_image"].shape == (24, 32, 3)  # features.json leaves it open
    assert {v.name for v in card.vectors} == {"proprioception", "gripper_closed"}
    assert card.instruction == "field:steps/language_instruction"
    made = golden_script("make_rlds")
    dataset = imported(source, filled(source))
    assert sorted(e.length for e in dataset.episodes) == sorted(made.LENGTHS)
    for record in dataset.episodes:
        episode = int(record.origin["episode_metadata/file_path"][4:-4])
        assert record.origin["split"] == ("val" if episode == 2 else "train")
        assert record.instruction == made.INSTRUCTIONS[episode]
        expected, rows = made.arrays(episode), slice(record.start, record.start + record.length)
        np.testing.assert_array_equal(dataset.column("action")[rows], expected["steps/action"])
        state = dataset.column("vector.proprioception")[rows]
        np.testing.assert_array_equal(state, expected["steps/observation/state"])
        closed = dataset.column("vector.gripper_closed")[rows, 0]
        np.testing.assert_array_equal(closed, expected["steps/observation/gripper_closed"])
        for camera in ("image", "wrist_image"):
            images = dataset.images(camera)[rows].astype(float)
            assert np.abs(images - expected[f"steps/observation/{camera}"]).mean() < LOSSY


def test_png_comes_out_exactly_and_an_encoded_tensor_is_refused(folder, golden_script):
    source = rlds(folder)
    raw = source.read(2)
    expected = golden_script("make_rlds").arrays(2)["steps/observation/wrist_image"]
    np.testing.assert_array_equal(raw.fields["steps/observation/wrist_image"], expected)
    with pytest.raises(DataError, match="features of kind 'bytes tensor' are not read"):
        raw.fields["steps/language_embedding"]


@pytest.mark.parametrize(("byte", "message"), [(0, "length's checksum"), (8, "length's checksum"), (50, "damaged")])
def test_a_changed_byte_is_noticed(folder, byte, message):
    shard = folder / "tiny-val.tfrecord-00000-of-00001"
    data = bytearray(shard.read_bytes())
    data[byte] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(DataError, match=message):
        rlds(folder).read(2)


@pytest.mark.parametrize("kept", [5, 100, -1])
def test_a_truncated_shard_is_noticed_when_opened(folder, kept):
    shard = folder / "tiny-val.tfrecord-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(DataError, match="is truncated"):
        rlds(folder)


def change(folder: Path, name: str, edit) -> None:
    content = json.loads((folder / name).read_text())
    edit(content)
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["splits"][1].update(shardLengths=["2"]), "has 1 episodes, dataset_info.json counts 2"),
        (lambda c: c["splits"][1].update(shardLengths=["1", "1"]), "cannot read .*00000-of-00002"),
        (lambda c: c.update(fileFormat="array_record"), "file format 'array_record', expected 'tfrecord'"),
        (lambda c: c.update(name="../../etc/x"), "dataset '../../etc/x', split"),
        (lambda c: c.update(splits=[]), "has no episodes"),
    ],
)
def test_information_that_does_not_fit_is_refused(folder, edit, message):
    change(folder, "dataset_info.json", edit)
    with pytest.raises(DataError, match=message):
        rlds(folder)


def test_features_that_do_not_fit_are_refused(folder):
    steps = ["featuresDict", "features", "steps", "sequence", "feature", "featuresDict", "features"]

    def wider(content):
        for key in steps:
            content = content[key]
        content["action"]["tensor"]["shape"]["dimensions"] = ["8"]

    change(folder, "features.json", wider)
    source = rlds(folder)
    with pytest.raises(DataError, match=r"steps/action: 28 values, expected 4 steps of 8 numbers|42 values"):
        source.read(0).fields["steps/action"]
    change(folder, "features.json", lambda c: c["featuresDict"]["features"].pop("steps"))
    with pytest.raises(DataError, match="has no steps, so it is not RLDS; it has: episode_metadata/file_path"):
        rlds(folder)
    (folder / "features.json").write_text("[]")
    with pytest.raises(DataError, match="holds a list, expected an object"):
        rlds(folder)


def test_the_directory_above_names_its_versions(folder):
    with pytest.raises(DataError, match=r"no features.json.*its versions are: 1\.0\.0"):
        rlds(folder.parent)


def test_images_that_are_none(folder, monkeypatch):
    source = rlds(folder)
    example = dict(source._example(0))
    example["steps/observation/image"] = [b"no image"] * len(example["steps/observation/image"])
    monkeypatch.setattr(type(source), "_example", lambda self, index: example)
    with pytest.raises(DataError, match=r"episode 0: steps/observation/image, step 0: 8 bytes are not a JPEG or PNG"):
        next(iter(episodes(source, filled(source))))
    example["steps/is_first"] = np.array([0, 1, 0, 0])
    with pytest.raises(DataError, match=r"steps/is_first is true at steps \[1\], expected \[0\]"):
        source.read(0)


def test_tfrecord_framing_by_hand(tmp_path):
    def masked(data: bytes) -> bytes:
        crc = google_crc32c.value(data)
        return ((((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")

    # Example{features{feature{key "a" value{int64_list{value: 1, 300}}}}}, packed as protobuf's encoding page shows it
    message = b"\x0a\x0e\x0a\x0c\x0a\x01a\x12\x07\x1a\x05\x0a\x03\x01\xac\x02"
    length = len(message).to_bytes(8, "little")
    (tmp_path / "x").write_bytes(2 * (length + masked(length) + message + masked(message)))
    places = record_offsets(tmp_path / "x")
    assert places == [(12, len(message)), (28 + len(message), len(message))]
    parsed = parse_example(read_record(tmp_path / "x", *places[1]), "x")
    assert list(parsed) == ["a"] and parsed["a"].tolist() == [1, 300]
    with pytest.raises(DataError, match=r"x is not a tf\.train\.Example"):
        parse_example(b"\xff\xff\xff", "x")
    assert google_crc32c.value(b"123456789") == 0xE3069283  # the check value of CRC-32C (RFC 3720)
