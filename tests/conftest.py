"""What holds for all tests: MuJoCo draws with a backend that works here, chosen before anything imports it."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from kinema.core.errors import UnavailableError
from kinema.sim.rendering import choose_backend


def pytest_configure() -> None:
    """Choose once; test workers inherit the choice. Where nothing can draw, the tests that need it skip."""
    if find_spec("mujoco") is None:
        return
    try:
        choose_backend()
    except UnavailableError:
        return


@pytest.fixture(scope="session")
def tiny_vision(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`tiny_vision(height, width, seed=0)` returns a directory with a random image transformer of 8 px patches."""

    def build(height: int, width: int, *, seed: int = 0) -> Path:
        transformers = pytest.importorskip("transformers")
        import torch

        folder: Path = tmp_path_factory.mktemp("vision")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = transformers.ViTConfig(
                image_size=(height, width), patch_size=8, hidden_size=24, num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=32, initializer_range=0.5,
            )  # fmt: skip
            transformers.ViTModel(config).save_pretrained(folder)
        scaling = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2]}
        (folder / "preprocessor_config.json").write_text(json.dumps(scaling), "utf-8")
        return folder

    return build
