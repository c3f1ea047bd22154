"""Directories of weights: whole, in shards, cut short, and pickled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kinema.checkpoints.shards import INDEX, WHOLE, open_weights, published, read_json
from kinema.core.errors import CheckpointError, UnavailableError


def sharded(directory: Path, files: dict[str, dict[str, torch.Tensor]]) -> None:
    for name, weights in files.items():
        save_file(weights, directory / name)
    placed = {weight: name for name, weights in files.items() for weight in weights}
    (directory / INDEX).write_text(json.dumps({"weight_map": placed}))


def test_whole_and_sharded_hold_the_same(tmp_path: Path) -> None:
    weights = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4)}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    save_file(weights, whole / WHOLE)
    sharded(parts, {"1.safetensors": {"a": weights["a"]}, "2.safetensors": {"b": weights["b"]}})
    for directory in (whole, parts):
        with open_weights(directory) as found:
            assert found.shapes == {"a": (2, 3), "b": (4,)}
            assert all(torch.equal(found.load(name), value) for name, value in weights.items())


def test_half_a_download_is_named(tmp_path: Path) -> None:
    sharded(tmp_path, {f"{i}.safetensors": {f"w{i}": torch.zeros(100)} for i in range(3)})
    cut = tmp_path / "2.safetensors"
    content = cut.read_bytes()
    cut.write_bytes(content[:-40])
    with (
        pytest.raises(CheckpointError, match=r"cannot read .*2\.safetensors: .*is the download whole\?"),
        open_weights(tmp_path),
    ):
        pass
    cut.unlink()
    with (
        pytest.raises(CheckpointError, match=r"1 of 3 shards are missing, such as 2\.safetensors\nfix: finish"),
        open_weights(tmp_path),
    ):
        pass


def test_pickles_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"neither {WHOLE} nor {INDEX}$"), open_weights(tmp_path):
        pass
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with (
        pytest.raises(CheckpointError, match=r"pytorch_model\.bin is a pickle, which can run code"),
        open_weights(tmp_path),
    ):
        pass


def test_an_index_points_beside_itself(tmp_path: Path) -> None:
    for content in ({}, {"weight_map": {"a": "../b.safetensors"}}, {"weight_map": {"a": 1}}):
        (tmp_path / INDEX).write_text(json.dumps(content))
        with (
            pytest.raises(CheckpointError, match="has no weight_map of weights to files beside it"),
            open_weights(tmp_path),
        ):
            pass


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    assert published(str(tmp_path)) == tmp_path
    with pytest.raises(
        UnavailableError, match="'no/such path/at all' is neither a local directory nor a reachable hub id"
    ):
        published("no/such path/at all")
    with pytest.raises(CheckpointError, match=r"cannot read .*config\.json"):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="holds a list, expected an object"):
        read_json(tmp_path / "config.json")
