"""Replay buffers that zarr wrote become datasets with the same numbers; broken ones are refused by name."""

from __future__ import annotations

import json
import shutil
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numcodecs
import numpy as np
import pytest

from kinema.core.errors import DataError, SpecMismatch
from kinema.data.cards import UNKNOWN
from kinema.data.importers._compressed import decode
from kinema.data.importers._zarr import Store
from kinema.data.importers.base import episodes, spec_of
from kinema.data.importers.diffusion_policy import diffusion_policy
from kinema.data.importers.umi import umi

ENDS = (5, 12, 20)
LOSSY = 6.0
"""Mean difference of grey values that the video codec may leave in these pictures."""


@pytest.fixture
def pusht(goldens: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(goldens / "pusht.zarr", tmp_path / "pusht.zarr"))


def pusht_card(source):
    card = source.card
    action = replace(
        card.action, units=("px",) * 2, frame="image", kind="position", integrator="PD controller", low=(0.0, 0.0),
        high=(512.0, 512.0), gripper=None,
    )  # fmt: skip
    vectors = tuple(replace(v, units=("px",) * 5, frame="image") for v in card.vectors)
    return replace(
        card, embodiment="pusht", rate_hz=10.0, instruction="push the T", success="all", action=action, vectors=vectors
    )


def test_the_golden_becomes_a_dataset(goldens, golden_script, imported):
    source = diffusion_policy(goldens / "pusht.zarr")
    assert len(source) == 3 and source.fields["img"].shape == (24, 32, 3)
    assert [v.name for v in source.card.vectors] == ["proprioception"]  # the format's own name "state" is taken
    expected = golden_script("make_zarr").diffusion_policy_arrays()
    dataset = imported(source, pusht_card(source))
    assert [e.length for e in dataset.episodes] == [5, 7, 8]
    np.testing.assert_array_equal(dataset.column("action"), expected["action"])
    np.testing.assert_array_equal(dataset.column("vector.proprioception"), expected["state"].astype(np.float32))
    assert np.abs(dataset.images("img").astype(float) - expected["img"]).mean() < LOSSY
    assert dataset.episodes[2].instruction == "push the T" and dataset.episodes[2].success
    assert dataset.episodes[2].origin == {"file": "pusht.zarr", "episode": 2}


def test_what_the_file_does_not_say_is_asked_for(goldens):
    source = diffusion_policy(goldens / "pusht.zarr")
    with pytest.raises(SpecMismatch, match="embodiment: not said"):
        spec_of(source, source.card)
    lines = "\n".join(source.card.missing())
    for line in ("success: not said", "rate_hz: not said", "unit of action_0, action_1 not said", "gripper not said"):
        assert line in lines


def test_umi_says_what_its_arrays_mean(goldens, golden_script, imported):
    source = umi(goldens / "umi.zarr.zip")
    expected = golden_script("make_zarr").umi_arrays()
    card = source.card
    assert card.embodiment == "umi" and [c.name for c in card.cameras] == ["camera0"]
    assert card.action.components == ("x", "y", "z", "rx", "ry", "rz", "width")
    assert card.action.units == ("m",) * 3 + ("rad",) * 3 + ("m",)
    assert {v.name: v.units for v in card.vectors}["robot0_gripper_width"] == ("m",)
    action = replace(card.action, low=(-5.0,) * 7, high=(5.0,) * 7, integrator="robot")
    card = replace(card, rate_hz=60.0, instruction="stack cups", success="all", action=action)
    dataset = imported(source, card)
    parts = [expected[f"robot0_{name}"] for name in ("eef_pos", "eef_rot_axis_angle", "gripper_width")]
    np.testing.assert_array_equal(dataset.column("action"), np.concatenate(parts, axis=1))
    np.testing.assert_array_equal(
        dataset.column("vector.robot0_demo_end_pose"), expected["robot0_demo_end_pose"].astype(np.float32)
    )
    assert np.abs(dataset.images("camera0").astype(float) - expected["camera0_rgb"]).mean() < LOSSY


def test_lossless_jpeg_xl_comes_out_exactly(goldens, golden_script):
    raw = umi(goldens / "umi.zarr.zip").read(1)
    np.testing.assert_array_equal(
        raw.fields["camera0_rgb"], golden_script("make_zarr").umi_arrays()["camera0_rgb"][5:12]
    )


def header(path: Path, array: str, **changes) -> None:
    place = path / array / ".zarray"
    place.write_text(json.dumps(json.loads(place.read_text()) | changes))


def test_objects_and_codecs_that_run_code_are_refused(pusht):
    header(pusht, "data/state", dtype="|O", filters=[{"id": "pickle", "protocol": 5}])
    with pytest.raises(DataError, match="data/state holds object values, expected plain numbers"):
        diffusion_policy(pusht)
    header(pusht, "data/state", dtype="<f8", filters=[{"id": "pickle", "protocol": 5}])
    with pytest.raises(DataError, match="data/state is compressed with 'pickle'; read are: blosc"):
        diffusion_policy(pusht)
    header(pusht, "data/state", dtype=[["a", "<f8"]], filters=None)
    with pytest.raises(DataError, match="expected plain numbers"):
        diffusion_policy(pusht)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [19, 2]}, "data/action has 19 steps, the episodes have 20"),
        ({"chunks": [0, 2]}, r"has shape \(20, 2\) and chunks \(0, 2\)"),
        ({"chunks": [8]}, r"has shape \(20, 2\) and chunks \(8,\)"),
        ({"shape": "many"}, "data/action/.zarray is malformed"),
        ({"dtype": "nonsense"}, "data/action/.zarray is malformed"),
        ({"chunks": [1 << 40, 2]}, "would take"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(pusht, changes, message):
    header(pusht, "data/action", **changes)
    with pytest.raises(DataError, match=message):
        diffusion_policy(pusht)


def test_a_missing_or_damaged_chunk_is_never_read_as_zeros(pusht):
    chunk = pusht / "data/action/1.0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: len(whole) // 2])
    source = diffusion_policy(pusht)
    assert source.read(0).fields["action"].shape == (5, 2)  # episode 0 does not touch it
    with pytest.raises(DataError, match=r"episode 1: .*chunk data/action/1.0 does not decode"):
        list(episodes(source, pusht_card(source)))
    chunk.write_bytes(numcodecs.Zlib().encode(np.zeros(3, np.float32)))
    with pytest.raises(DataError, match="does not decode: cannot reshape"):
        source.read(1).fields["action"]
    chunk.unlink()
    with pytest.raises(DataError, match=r"chunk data/action/1.0 is missing"):
        source.read(1).fields["action"]


CODECS = [numcodecs.BZ2(), numcodecs.GZip(), numcodecs.LZMA(), numcodecs.Zlib(), numcodecs.LZ4(), numcodecs.Zstd()]
CODECS += [
    numcodecs.Blosc(),
    numcodecs.LZMA(format=3, filters=[{"id": 0x21, "preset": 6}]),
    numcodecs.Zstd(checksum=True),
]


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_a_chunk_never_becomes_more_than_its_size(codec):
    for size in (1, 40, 300, 70_000):
        content = np.random.default_rng(size).bytes(size)
        assert bytes(decode(codec.get_config(), codec.encode(content), size)) == content
    bomb = codec.encode(bytes(10_000_000))
    assert len(bomb) < 200_000
    with pytest.raises(
        ValueError, match=r"become more than the 1000 that|state 10000000 bytes, there is room for 1000"
    ):
        decode(codec.get_config(), bomb, 1000)
    cut = codec.encode(np.random.default_rng(0).bytes(1000))[:-9]
    with pytest.raises((ValueError, RuntimeError, EOFError)):
        decode(codec.get_config(), cut, 1000)


def test_a_bomb_in_a_chunk_is_refused(pusht):
    (pusht / "data/action/0.0").write_bytes(numcodecs.Zlib().encode(bytes(10_000_000)))
    with pytest.raises(DataError, match=r"chunk data/action/0\.0 does not decode: .* become more than"):
        diffusion_policy(pusht).read(0).fields["action"]


def test_a_jpeg_xl_image_never_becomes_more_than_its_chunk():
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    codec = {"id": "imagecodecs_jpegxl"}
    np.testing.assert_array_equal(decode(codec, imagecodecs.jpegxl_encode(image, lossless=True), image.size), image)
    bomb = imagecodecs.jpegxl_encode(np.zeros((2000, 2000, 3), np.uint8))
    assert len(bomb) < 5000
    with pytest.raises(ValueError, match="smaller than requested"):
        decode(codec, bomb, image.size)


def zipped(path: Path, *, claimed: int | None = None, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Return a zip file with one member of 10 MB of zeros, which says that there are `claimed` bytes."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("bomb", bytes(10_000_000))
    if claimed is not None:
        content = bytearray(path.read_bytes())
        entry = content.index(b"PK\x01\x02")
        content[entry + 24 : entry + 28] = claimed.to_bytes(4, "little")
        path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"claimed": 1 << 31}, r"bomb: \(2147483648,\) would take 2 GB, at most 1 GB are read"),
        ({"claimed": 1000}, "cannot read bomb: Bad CRC-32"),
        ({"method": zipfile.ZIP_LZMA}, "compressed with method 14, expected stored or deflated"),
    ],
)
def test_a_zip_member_never_becomes_more_than_it_claims_nor_claims_too_much(tmp_path, changes, message):
    store = Store(zipped(tmp_path / "x.zip", **changes))
    tracemalloc.start()
    with pytest.raises(DataError, match=message):
        store.read("bomb")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1_000_000, "the member was decompressed"
    assert Store(zipped(tmp_path / "y.zip")).read("bomb") == bytes(10_000_000)


def test_chunks_and_headers_that_no_writer_makes_are_refused(pusht):
    header(pusht, "data/state", chunks=[1 << 28, 5])
    with pytest.raises(DataError, match=r"data/state: .* would take 11 GB, at most 1 GB are read"):
        diffusion_policy(pusht)
    (pusht / "data/state/.zarray").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"data/state/\.zarray is malformed"):
        diffusion_policy(pusht)


def test_a_link_out_of_the_directory_is_refused(pusht, tmp_path):
    (tmp_path / "secret").write_bytes((pusht / "data/action/0.0").read_bytes())
    (pusht / "data/action/0.0").unlink()
    (pusht / "data/action/0.0").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match="leads out of the directory"):
        diffusion_policy(pusht).read(0).fields["action"]


@pytest.mark.parametrize("ends", [[5, 5, 20], [0, 20], [12, 5, 20], [5, 12, 19]])
def test_episode_ends_must_rise_to_the_last_step(pusht, ends):
    (pusht / "meta/episode_ends/.zarray").write_text(
        json.dumps({"shape": [len(ends)], "chunks": [len(ends)], "dtype": "<i8", "order": "C", "compressor": None})
    )
    (pusht / "meta/episode_ends/0").write_bytes(np.array(ends, np.int64).tobytes())
    with pytest.raises(DataError, match=r"must rise from above 0|the episodes have 19"):
        diffusion_policy(pusht)


def test_other_files_are_refused(tmp_path, pusht, goldens):
    with pytest.raises(DataError, match="no such file"):
        diffusion_policy(tmp_path / "nowhere")
    (tmp_path / "x.zip").write_bytes((goldens / "umi.zarr.zip").read_bytes()[:3000])
    with pytest.raises(DataError, match="not a whole zip file"):
        umi(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("../../evil", b"x")
    with pytest.raises(DataError, match="meta/episode_ends is missing"):
        umi(tmp_path / "empty.zip")
    with pytest.raises(DataError, match="data/robot0_eef_pos is missing"):
        umi(pusht)
    shutil.rmtree(pusht / "data/action")
    with pytest.raises(DataError, match="has no data/action; it has: img, state"):
        diffusion_policy(pusht)
    (pusht / "zarr.json").write_text("{}")
    with pytest.raises(DataError, match="zarr format 3"):
        diffusion_policy(pusht)


def test_pixels_that_are_not_whole_numbers_are_refused(pusht):
    images = np.full((8, 24, 32, 3), 0.5, np.float32)
    header(pusht, "data/img", compressor=None)
    for chunk in range(3):
        (pusht / f"data/img/{chunk}.0.0.0").write_bytes(images.tobytes())
    source = diffusion_policy(pusht)
    with pytest.raises(DataError, match=r"field 'img': float32 .*expected \(T, Hi, Wi, 3\) of 0 to 255"):
        next(iter(episodes(source, pusht_card(source))))
    assert source.card.success == UNKNOWN


def test_a_filter_makes_plain_numbers_only():
    with pytest.raises(ValueError, match="delta makes something else than plain numbers"):
        decode({"id": "delta", "dtype": "U100000000", "astype": "|u1"}, bytes(9), 100)
