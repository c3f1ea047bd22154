"""Configurations to JSON and back, and everything that is refused on the way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kinema.core import config
from kinema.core.config import from_data, to_data
from kinema.core.errors import KinemaError
from kinema.core.spec import Camera, Vector

CAMERA = {"type": "kinema.core.spec:Camera", "name": "front", "height": 4, "width": 6}


def test_dataclasses_become_plain_data_with_their_type() -> None:
    camera = Camera(name="front", height=4, width=6)
    assert to_data(camera) == CAMERA
    assert from_data(json.loads(json.dumps(to_data(camera)))) == camera
    vector = Vector(name="v", components=("a",), units=("m",), frame="world")
    assert to_data(vector)["components"] == ["a"] and from_data(to_data(vector)) == vector
    assert from_data(to_data({"b": (camera, None, 1.5), "a": "text"})) == {"b": (camera, None, 1.5), "a": "text"}


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_arrays_keep_every_bit(dtype: str) -> None:
    array = (np.array([[1 / 3, -2e30], [0.0, 7e-20]]) if dtype != "int64" else np.array([[2**62, -1]])).astype(dtype)
    restored = from_data(json.loads(json.dumps(to_data({"x": array}))))["x"]
    assert restored.dtype == array.dtype and np.array_equal(restored, array)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        np.inf,
        np.array([np.nan]),
        np.zeros(2, np.float16),
        np.array(["a"]),
        {1: 2},
        {"type": "x"},
        object(),
        {1},
    ],
)
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(KinemaError, match="a configuration"):
        to_data([value])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heigth": 4}, r"unknown field 'heigth'; did you mean 'height'\?"),
        ({"width": ...}, "field 'width' is missing"),
        ({"width": "6"}, "field 'width' is '6', expected int"),
        ({"width": True}, "field 'width' is True, expected int"),
        ({"width": 6.5}, "field 'width' is 6.5, expected int"),
        ({"name": 3}, "field 'name' is 3, expected str"),
        ({"type": "os:system"}, "refusing to load 'os:system': only classes of kinema are trusted"),
        ({"type": "kinema_evil.spec:Camera"}, "refusing to load"),
        ({"type": "kinema.core.spec"}, "refusing to load"),
        ({"type": "kinema.core.spec:Camera.key"}, "refusing to load"),
        ({"type": 5}, "refusing to load 5"),
        ({"type": "kinema.core.gone:Camera"}, "does not exist in this version"),
        ({"type": "kinema.core.spec:Camra"}, "is not a configuration of this version"),
        ({"type": "kinema.core.config:to_data"}, "is not a configuration of this version"),
        ({"type": "kinema.core.config:Path"}, "is not a configuration of this version"),
        ({"type": "kinema.core.policy:Policy"}, "is not a configuration of this version"),
    ],
)
def test_unknown_missing_mistyped_and_foreign_entries_are_refused(change: dict[str, object], message: str) -> None:
    data = {key: value for key, value in {**CAMERA, **change}.items() if value is not ...}
    with pytest.raises(KinemaError, match=message):
        from_data(data)


@pytest.mark.parametrize(
    "data", [{"array": [1], "dtype": "object"}, {"array": [1]}, {"array": [1], "dtype": "float32", "more": 1}]
)
def test_malformed_arrays_are_refused(data: dict[str, object]) -> None:
    with pytest.raises(KinemaError, match="not an array entry"):
        from_data(data)


def test_files_round_trip_and_name_themselves_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "camera.json"
    config.save(Camera(name="front", height=4, width=6), path)
    assert config.load(path) == Camera(name="front", height=4, width=6)
    assert list(tmp_path.iterdir()) == [path], "no temporary file is left"
    path.write_text(path.read_text()[:20])
    with pytest.raises(KinemaError, match=r"cannot read .*camera\.json"):
        config.load(path)
    with pytest.raises(KinemaError, match=r"cannot read .*gone\.json"):
        config.load(tmp_path / "gone.json")
    with pytest.raises(KinemaError, match=r"cannot write .*x\.json"):
        config.save(1, tmp_path / "missing" / "x.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "recursion|nested"),
        ("[" * 600 + "]" * 600, "nested too deeply"),
        ('{"a":' * 100_000, "recursion|nested"),
        ("9" * 5000, "digits"),
        ("\ud800".encode("utf-8", "surrogatepass"), "decode"),
    ],
)
def test_hostile_json_is_an_error_that_names_the_file(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "policy.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(KinemaError, match=rf"cannot read .*policy\.json: .*({message})|configuration is nested too"):
        config.load(path)
