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


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`tiny_t5(width=24)` returns a directory with a random T5 that knows a few words."""

    def build(width: int = 24) -> Path:
        transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
        import torch

        folder: Path = tmp_path_factory.mktemp("t5")
        known = "<pad> </s> <unk> open close push reach the drawer window puck target red green blue"
        words = {word: index for index, word in enumerate(known.split())}
        inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
        inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        inner.post_processor = tokenizers.processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", words["</s>"])]
        )
        inner.save(str(folder / "tokenizer.json"))
        config = transformers.T5Config(
            vocab_size=len(words), d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=2, dropout_rate=0.0
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            transformers.T5EncoderModel(config).save_pretrained(folder)
        return folder

    return build
