"""The instruction through a frozen sentence encoder and a trained projection.

Sentence encoders place "open the drawer" and "close the drawer" close together (cosine 0.90), so the projection is
trained with the policy. Embeddings are computed once a text and kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kinema.core.errors import SpecMismatch
from kinema.core.spec import INSTRUCTION, ObservationSpec
from kinema.nets.base import Encoder, EncoderConfig, Tokens
from kinema.nets.sentences import BUNDLED, SentenceModel, sentence_model


@dataclass(frozen=True, kw_only=True)
class Sentence(EncoderConfig):
    """`model` is "all-MiniLM-L6-v2" (the bundled package), a local directory or a hub id; `sha256` pins its weights."""

    model: str = BUNDLED
    sha256: str | None = None
    condition: str | None = None
    hidden: int = 256

    def pinned(self) -> Sentence:
        """Return the configuration with the digest of the weights that are installed now."""
        return replace(self, sha256=sentence_model(self.model, self.sha256).sha256)

    @property
    def reads(self) -> tuple[str, ...]:
        """The instruction."""
        return (INSTRUCTION,)

    def build(self, spec: ObservationSpec, *, obs_horizon: int, width: int) -> SentenceEncoder:
        """Return the encoder; the whole instruction becomes one token."""
        if self.condition is not None:
            raise SpecMismatch(f"sentence takes no condition, got {self.condition!r}")
        spec.select(self.reads)
        return SentenceEncoder(sentence_model(self.model, self.sha256), hidden=self.hidden, width=width)


class SentenceEncoder(Encoder):
    """B texts to one token (B, 1, D); only the projection is trained and stored."""

    tokens = 1

    def __init__(self, model: SentenceModel, *, hidden: int, width: int) -> None:
        super().__init__()
        # In a list, so that the frozen model is no submodule: its weights are pinned by digest, not stored again.
        self._model = [model]
        self.project = nn.Sequential(nn.Linear(model.width, hidden), nn.SiLU(), nn.Linear(hidden, width))

    def forward(self, sample: Mapping[str, Any], condition: Tensor | None) -> Tokens:
        """Return the projected sentence embeddings."""
        embeddings = self._model[0].embed(list(sample[INSTRUCTION]))
        device = next(self.project.parameters()).device
        return Tokens.present(self.project(embeddings.to(device, torch.float32))[:, None])
