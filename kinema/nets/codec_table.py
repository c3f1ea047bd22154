"""An elementwise codec as tables on the device, so that numbers become tokens without leaving it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from kinema.actions.codec import Elementwise


class CodecTable(nn.Module):
    """Equal to the codec for every finite float32; what is not finite is the caller's to refuse."""

    edges: Tensor
    values: Tensor

    def __init__(self, codec: Elementwise) -> None:
        super().__init__()
        # A float32 is at or above an edge where it is at or above the next float32 from there.
        edges = codec.edges.astype(np.float32)
        edges = np.where(edges < codec.edges, np.nextafter(edges, np.float32(np.inf)), edges)
        values = codec.decode(np.arange(codec.size)).astype(np.float32)
        self.register_buffer("edges", torch.from_numpy(edges), persistent=False)
        self.register_buffer("values", torch.from_numpy(values), persistent=False)

    def encode(self, action: Tensor) -> Tensor:
        """Return the tokens (...) int64 of `action` (...)."""
        return torch.bucketize(action.detach().float(), self.edges, right=True)

    def decode(self, tokens: Tensor) -> Tensor:
        """Return the values (...) float32 of `tokens` (...)."""
        return self.values[tokens]
