"""Every importer keeps the contract of `kinema.data.importers.base`, and one that does not is found."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kinema.core.errors import DataError
from kinema.core.names import find, members

Importer = Callable[[Path], Any]
GARBAGE = {
    "empty": b"",
    "text": b"not a recording",
    "hdf5": b"\x89HDF\r\n\x1a\n" + b"\0" * 64,
    "zip": b"PK\x03\x04" * 9,
}

PLANTED = '''
from kinema.core.errors import DataError

def planted(path):
    """Return nothing."""
    if path.is_file():
        return path.read_bytes()
    raise DataError("not here")
'''


def check_it_takes_a_path_alone(importer: Importer, tmp_path: Path) -> None:
    assert list(inspect.signature(importer).parameters) == ["path"]
    assert (inspect.getdoc(importer) or "").startswith("Return the source")


def check_a_missing_path_is_a_data_error(importer: Importer, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        importer(tmp_path / "nowhere")
    assert "nowhere" in str(error.value)


def check_an_empty_directory_is_a_data_error(importer: Importer, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir(exist_ok=True)
    with pytest.raises(DataError) as error:
        importer(folder)
    assert "bare" in str(error.value)


def check_garbage_is_a_data_error(importer: Importer, tmp_path: Path) -> None:
    for name, content in GARBAGE.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError) as error:
            importer(tmp_path / name)
        assert name in str(error.value) and len(str(error.value).splitlines()) <= 10


CHECKS = [value for name, value in sorted(globals().items()) if name.startswith("check_")]


@pytest.mark.parametrize("name", members("importer"))
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_importer(check: Callable[[Importer, Path], None], name: str, tmp_path: Path) -> None:
    check(find("importer", name), tmp_path)


def test_a_planted_importer_is_discovered_and_its_faults_found(
    plant: Callable[[str, str, str], None], tmp_path: Path
) -> None:
    plant("importer", "planted", PLANTED)
    assert "planted" in members("importer")
    planted = find("importer", "planted")
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check_garbage_is_a_data_error(planted, tmp_path)
    with pytest.raises(AssertionError):
        check_a_missing_path_is_a_data_error(planted, tmp_path)
    with pytest.raises(AssertionError):
        check_it_takes_a_path_alone(planted, tmp_path)
