"""Convolutions that are one matrix product where few steps come out.

There oneDNN spends most of its time on reordering weights, anew at every call. A U-Net that draws one chunk has such
convolutions. Parameters, their names and the results are those of torch's modules, which are taken everywhere else.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

FEW = 16
"""From so many steps of the whole batch on, a convolution is as fast as the product."""


class Conv1d(nn.Conv1d):
    """Convolves (B, C, L) along L."""

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, C', L')."""
        size, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        parts = 1 + (input.shape[-1] + 2 * padding - size) // stride
        if len(input) * parts >= FEW or input.device.type != "cpu":
            return super().forward(input)
        columns = F.pad(input, (padding, padding)).unfold(2, size, stride).transpose(1, 2).flatten(2)
        return F.linear(columns, self.weight.flatten(1), self.bias).transpose(1, 2)


class ConvTranspose1d(nn.ConvTranspose1d):
    """The transposed convolution of (B, C, L)."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return (B, C', L')."""
        if len(input) * input.shape[-1] >= FEW or input.device.type != "cpu" or output_size is not None:
            return super().forward(input, output_size)
        size, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        length = (input.shape[-1] - 1) * stride - 2 * padding + size
        columns = (input.transpose(1, 2) @ self.weight.flatten(1)).transpose(1, 2)
        joined = F.fold(columns, (1, length), (1, size), stride=(1, stride), padding=(0, padding))[:, :, 0]
        return joined if self.bias is None else joined + self.bias[:, None].to(joined.dtype)
