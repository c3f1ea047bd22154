"""Features of a frozen encoder: the cached are the live ones, and never those of another encoder or image."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinema.core.errors import KinemaError
from kinema.data.features import Encode, cached_features, feature_key
from kinema.transforms.random_shift import RandomShift

FRAMES = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
NAMED: dict[str, Any] = {"weights": "w", "preprocessing": {"size": 16}, "content": "c"}


def frozen() -> Encode:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(392, 6)
    )
    network.requires_grad_(False).eval()

    def encode(frames: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255).numpy()

    return encode


def test_cached_is_live_bit_by_bit_and_computed_once(tmp_path: Path) -> None:
    live, seen = frozen(), []

    def counted(frames: np.ndarray) -> np.ndarray:
        seen.append(len(frames))
        return live(frames)

    first = cached_features(tmp_path, FRAMES, counted, **NAMED)
    again = cached_features(tmp_path, FRAMES, counted, **NAMED)
    assert seen == [1] * 12 and isinstance(again, np.memmap) and not again.flags.writeable
    expected = np.concatenate([live(frame[None]) for frame in FRAMES])
    assert first.tobytes() == again.tobytes() == expected.tobytes()
    batched = cached_features(tmp_path, FRAMES, live, **NAMED, batch_size=5)
    assert batched.tobytes() == np.concatenate([live(FRAMES[i : i + 5]) for i in (0, 5, 10)]).tobytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_another_encoder_preprocessing_or_content_is_another_file() -> None:
    own = {"weights": "w", "preprocessing": {"size": 16}, "frames": "c"}
    keys = {feature_key(**own)}
    for change in ({"weights": "v"}, {"preprocessing": {"size": 17}}, {"frames": "d"}, {"batch_size": 2}):
        keys.add(feature_key(**{**own, **change}))
    assert len(keys) == 5 and feature_key(**own) in keys
    with pytest.raises(KinemaError, match="digests"):
        feature_key(weights="", preprocessing={}, frames="c")


def test_changing_images_and_wrong_features_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KinemaError, match="cannot be cached while RandomShift changes the images"):
        cached_features(tmp_path, FRAMES, frozen(), **NAMED, augmentations=(RandomShift(pixels=2),))
    for encode, message in (
        (lambda frames: frames.mean((1, 2), dtype=np.float64), "float64, expected .* float32"),
        (lambda frames: np.full((len(frames), 2), np.nan, np.float32), "not finite"),
        (lambda frames: np.zeros((3, 2), np.float32), r"returned \(3, 2\)"),
    ):
        with pytest.raises(KinemaError, match=message):
            cached_features(tmp_path, FRAMES, encode, **NAMED)
    with pytest.raises(KinemaError, match=r"expected \(N, Hi, Wi, 3\)"):
        cached_features(tmp_path, FRAMES[0], frozen(), **NAMED)
    assert list(tmp_path.iterdir()) == [], "nothing is left of what failed"


def test_an_interrupted_or_damaged_file_is_made_again(tmp_path: Path) -> None:
    def stops(frames: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_features(tmp_path, FRAMES, stops, **NAMED)
    assert list(tmp_path.iterdir()) == []
    whole = np.array(cached_features(tmp_path, FRAMES, frozen(), **NAMED))
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-40])
    assert np.array_equal(cached_features(tmp_path, FRAMES, frozen(), **NAMED), whole)


def _encode_there(folder: Path, start: Any, found: Any) -> None:
    start.wait()
    slow = cached_features(folder, FRAMES, lambda f: f.mean((1, 2)).astype(np.float32), **NAMED)
    found.put(slow.tobytes())


def test_two_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, found = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_encode_there, args=(tmp_path, start, found)) for _ in range(2)]
    for worker in workers:
        worker.start()
    results = [found.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert results[0] == results[1] == FRAMES.mean((1, 2)).astype(np.float32).tobytes()
    assert len(list(tmp_path.iterdir())) == 1
