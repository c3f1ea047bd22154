"""Diffusion Policy replay buffers: zarr, `data/action` beside any other arrays, `meta/episode_ends`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kinema.core.errors import DataError
from kinema.data.cards import Card, Field
from kinema.data.importers._propose import proposed
from kinema.data.importers._zarr import ReplayBuffer, open_replay_buffer
from kinema.data.importers.base import RawEpisode, Source


def diffusion_policy(path: Path) -> Source:
    """Return the source of a replay buffer, `x.zarr` or `x.zarr.zip`; it names its arrays and says no more of them."""
    buffer = open_replay_buffer(path)
    if "action" not in buffer.arrays:
        raise DataError(f"{path} has no data/action; it has: {', '.join(list(buffer.arrays)[:8])}")
    return _Buffer(buffer=buffer)


@dataclass(frozen=True, kw_only=True)
class _Buffer(Source):
    buffer: ReplayBuffer

    @property
    def fields(self) -> Mapping[str, Field]:
        return self.buffer.fields

    @cached_property
    def card(self) -> Card:
        return proposed(self.fields, ["action"])

    def __len__(self) -> int:
        return len(self.buffer.ends)

    def read(self, index: int) -> RawEpisode:
        return self.buffer.read(index)
