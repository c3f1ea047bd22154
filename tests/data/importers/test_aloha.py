"""Files written as ACT's record_episodes.py writes them, plain and JPEG-compressed."""

from __future__ import annotations

import io
from dataclasses import replace

import h5py
import numpy as np
import pytest
from PIL import Image

from kinema.core.errors import DataError
from kinema.data.importers.aloha import aloha
from kinema.data.importers.base import episodes

LENGTHS = (4, 6)
LOSSY = 6.0


def arrays(index: int) -> dict[str, np.ndarray]:
    rng, steps = np.random.default_rng(index), LENGTHS[index]
    return {name: rng.normal(size=(steps, 14)) for name in ("observations/qpos", "observations/qvel", "action")}


def jpeg(image: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=95)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def store_images(file: h5py.File, name: str, images: np.ndarray, compressed: bool) -> None:
    if not compressed:
        file.create_dataset(name, data=images, chunks=(1, *images.shape[1:]))
        return
    # cv2.imencode takes an RGB array for BGR, so what is in the JPEG has red and blue exchanged.
    encoded = [jpeg(np.ascontiguousarray(image[..., ::-1])) for image in images]
    padded = np.zeros((len(encoded), max(map(len, encoded))), np.uint8)
    for row, data in zip(padded, encoded, strict=True):
        row[: len(data)] = data
    file.create_dataset(name, data=padded, chunks=(1, padded.shape[1]))
    file.create_dataset("compress_len", data=np.array([[len(data) for data in encoded]], np.float32))


@pytest.fixture
def write(tmp_path, pictures):
    def make(compressed=False, simulated=True):
        for index in range(2):
            with h5py.File(tmp_path / f"episode_{index * 2}.hdf5", "w", rdcc_nbytes=1024**2 * 2) as file:
                file.attrs["sim"] = simulated
                file.attrs["compress"] = compressed
                for name, values in arrays(index).items():
                    file.create_dataset(name, data=values)
                store_images(file, "observations/images/top", pictures(LENGTHS[index], index), compressed)
        return tmp_path

    return make


@pytest.mark.parametrize("compressed", [False, True])
def test_the_directory_becomes_a_dataset(write, pictures, imported, compressed):
    source = aloha(write(compressed))
    card = replace(source.card, instruction="transfer the cube", success="all")
    if compressed:
        assert card.missing() == ["camera 'top': channels not said"]
        card = replace(card, cameras=(replace(card.cameras[0], channels="bgr"),))
    assert card.missing() == []
    dataset = imported(source, card)
    expected = [arrays(index) for index in range(2)]
    for key, name in (("action", "action"), ("vector.qpos", "observations/qpos"), ("vector.qvel", "observations/qvel")):
        np.testing.assert_array_equal(dataset.column(key), np.concatenate([e[name] for e in expected]).astype("f4"))
    images = np.concatenate([pictures(length, index) for index, length in enumerate(LENGTHS)])
    assert np.abs(dataset.images("top") - images.astype(float)).mean() < LOSSY
    assert dataset.fps == 50 and dataset.spec.embodiment == "aloha-sim"
    assert [e.origin for e in dataset.episodes] == [{"file": "episode_0.hdf5"}, {"file": "episode_2.hdf5"}]


def test_what_the_format_says(write):
    action = aloha(write()).card.action
    assert action.components[0] == "left_waist" and action.components[13] == "right_gripper"
    assert action.units == (("rad",) * 6 + ("1",)) * 2 and action.kind == "joint position"
    assert action.low[6] == 0.0 and action.high[6] == 1.0 and action.gripper == "0 closed, 1 open"
    assert action.low[8] == -1.85005 and action.high[8] == 1.25664  # the right shoulder
    assert aloha(write(simulated=False)).card.embodiment == "aloha"


def test_episodes_come_in_the_order_of_their_numbers(write):
    folder = write()
    (folder / "episode_2.hdf5").rename(folder / "episode_10.hdf5")
    (folder / "episode_0.hdf5").rename(folder / "episode_9.hdf5")
    assert [aloha(folder).read(i).origin["file"] for i in range(2)] == ["episode_9.hdf5", "episode_10.hdf5"]


def test_an_interrupted_recording_is_refused(write):
    folder = write()
    with h5py.File(folder / "episode_0.hdf5", "a") as file:
        del file["observations/images/top"]
        file.create_dataset("observations/images/top", (4, 24, 32, 3), "u1", chunks=(1, 24, 32, 3))[:2] = 9
    source = aloha(folder)
    card = replace(source.card, instruction="transfer", success="all")
    with pytest.raises(DataError, match=r"episode 0: .*parts of it were never written"):
        next(iter(episodes(source, card)))


def test_files_that_do_not_fit_are_refused(write, tmp_path):
    folder = write(compressed=True)
    with h5py.File(folder / "episode_0.hdf5", "a") as file:
        file["observations/images/top"][1] = 7
    source = aloha(folder)
    with pytest.raises(DataError, match=r"observations/images/top, step 1: .* bytes are not a JPEG or PNG"):
        source.read(0).fields["observations/images/top"]
    with h5py.File(folder / "episode_2.hdf5", "a") as file:
        file.attrs["sim"] = False
    with pytest.raises(DataError, match="sim is False, but True in episode_0"):
        source.read(1)
    with h5py.File(folder / "episode_0.hdf5", "a") as file:
        file.attrs["compress"] = False
        del file["compress_len"]
    with pytest.raises(DataError, match="the file is not marked compressed"):
        aloha(folder)
    with h5py.File(folder / "episode_0.hdf5", "a") as file:
        del file["action"]
    with pytest.raises(DataError, match="no 'action'; there are: observations/images/top"):
        aloha(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no \.hdf5 file"):
        aloha(tmp_path / "empty")
