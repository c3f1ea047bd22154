"""The instruction as a token a word piece, through a frozen T5 and a trained projection (Octo 2024, with T5-base).

What T5 makes of a text is computed once and kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import T5EncoderModel

from kinema.core.errors import CheckpointError, KinemaError, SpecMismatch
from kinema.core.spec import INSTRUCTION, ObservationSpec
from kinema.nets.base import Encoder, EncoderConfig, Tokens
from kinema.nets.language.tokenizers import FileTokenizer


@dataclass(frozen=True, kw_only=True)
class T5(EncoderConfig):
    """`model` is a local directory with config.json, model.safetensors and tokenizer.json, which `sha256` pins.

    `length` is how many word pieces an instruction may have, with the mark at its end. Octo reads what pads it up to
    there, too; here that is absent.
    """

    model: str
    sha256: str | None = None
    length: int = 16
    condition: str | None = None

    def pinned(self) -> T5:
        """Return the configuration with the digest of the model that is there now."""
        return replace(self, sha256=frozen_t5(self.model, self.sha256).sha256)

    @property
    def reads(self) -> tuple[str, ...]:
        """The instruction."""
        return (INSTRUCTION,)

    def build(self, spec: ObservationSpec, *, obs_horizon: int, width: int) -> T5Encoder:
        """Return the encoder; the instruction becomes `length` tokens, those after its end absent."""
        if self.condition is not None:
            raise SpecMismatch(f"t5 takes no condition, got {self.condition!r}")
        if self.length < 1:
            raise KinemaError(f"t5: length {self.length} is below 1")
        spec.select(self.reads)
        return T5Encoder(frozen_t5(self.model, self.sha256), length=self.length, width=width)


class T5Encoder(Encoder):
    """B texts to tokens (B, N, D); only the projection is trained and stored."""

    padded = True

    def __init__(self, model: FrozenT5, *, length: int, width: int) -> None:
        super().__init__()
        self.tokens = length
        # In a list, so that the frozen model is no submodule: its weights are pinned by digest, not stored again.
        self._model = [model]
        self.project = nn.Linear(model.width, width)

    def forward(self, sample: Mapping[str, Any], condition: Tensor | None) -> Tokens:
        """Return the projected word pieces; raises KinemaError for a text that is longer than there are tokens."""
        texts, weight = sample[INSTRUCTION], self.project.weight
        # One row more, as long as all may be.
        rows = [*map(self._model[0].embed, texts), torch.zeros(self.tokens, weight.shape[1])]
        for text, pieces in zip(texts, rows, strict=False):
            if len(pieces) > self.tokens:
                raise KinemaError(
                    f"t5: {text[:60]!r} has {len(pieces)} word pieces, more than the encoder's length {self.tokens}"
                )
        lengths = torch.tensor([len(pieces) for pieces in rows[:-1]])
        mask = torch.arange(self.tokens) < lengths[:, None]
        values = pad_sequence(rows, batch_first=True)[:-1]
        return Tokens(self.project(values.to(weight)), mask.to(weight.device))


@lru_cache(maxsize=2)
def frozen_t5(directory: str, sha256: str | None) -> FrozenT5:
    """Return the model in `directory`; the same object for the same arguments, so that what it knows is shared."""
    return FrozenT5(Path(directory).expanduser(), sha256)


class FrozenT5:
    """The encoder of a T5; `embed` remembers every text it has seen.

    Raises CheckpointError for a directory that lacks a file, or another digest of the three files than `sha256`.
    """

    def __init__(self, directory: Path, sha256: str | None) -> None:
        parts = []
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if not (directory / name).is_file():
                raise CheckpointError(f"t5 {directory}: {name} does not exist; expected a local directory with it")
            parts.append(hashlib.sha256((directory / name).read_bytes()).hexdigest())
        self.sha256 = hashlib.sha256("".join(parts).encode()).hexdigest()
        if sha256 not in (None, self.sha256):
            raise CheckpointError(f"t5 {directory}: sha256 of its files is {self.sha256}, expected {sha256}")
        said = json.loads((directory / "config.json").read_text("utf-8"))
        if said.get("model_type") != "t5" or "d_model" not in said:
            raise CheckpointError(f"t5 {directory}: config.json is of {said.get('model_type')!r}, expected 't5'")
        self.width = int(said["d_model"])
        self._directory, self._tokenizer = directory, FileTokenizer(directory, None)
        self._model: T5EncoderModel | None = None
        self._known: dict[str, Tensor] = {}

    @torch.no_grad()
    def embed(self, text: str) -> Tensor:
        """Return what T5 makes of the word pieces of `text` (L, width), float32 on the CPU."""
        if text not in self._known:
            if not text.strip():
                raise KinemaError(f"t5: the instruction is {text!r}; expected a text")
            ids = torch.tensor([self._tokenizer.encode(text)])
            with torch.autocast("cpu", enabled=False):
                self._known[text] = self._load()(input_ids=ids).last_hidden_state[0].float()
        return self._known[text]

    def _load(self) -> T5EncoderModel:
        if self._model is None:
            model, report = T5EncoderModel.from_pretrained(
                self._directory, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
            if report["missing_keys"] or report["mismatched_keys"]:
                lacks = sorted(report["missing_keys"])[:1] or list(report["mismatched_keys"])[:1]
                raise CheckpointError(f"t5 {self._directory}: model.safetensors lacks weights, such as {lacks}")
            self._model = model.float().eval().requires_grad_(False)
        return self._model
