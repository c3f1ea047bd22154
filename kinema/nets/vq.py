"""Residual vector quantisation: each codebook rounds what the one before it left over (Zeghidour et al. 2021, alg. 1).

Codebooks are not trained by gradient: each code is the moving average of the vectors that chose it (van den Oord et al.
2017, appendix A.1), here with VQ-BeT's constants. What makes the vectors learns through the straight-through estimate
and the commitment loss.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.nets.noise import Rng, draw, uniform

SMOOTHING = 1e-5


class Quantised(NamedTuple):
    """Vectors (B, D) rounded, the codes (B, Q) they are made of, and each vector's commitment loss (B,).

    The commitment is the squared distance between a layer's input and its code, mean over D and summed over layers.
    """

    vectors: Tensor
    codes: Tensor
    commitment: Tensor


class ResidualQuantiser(nn.Module):
    """`layers` codebooks (Q) of `codes` vectors (V) of `width` numbers (D), kept in buffers.

    A code is dead when its moving count falls below `revive` of its fair share: then it becomes one of the batch's
    vectors. With `revive` 0, as in VQ-BeT, codes that no vector chooses at first stay dead.
    """

    codebook: Tensor
    count: Tensor
    total: Tensor

    def __init__(self, *, width: int, layers: int, codes: int, decay: float = 0.8, revive: float = 0.0) -> None:
        super().__init__()
        if layers < 1 or codes < 2 or not 0.0 <= decay < 1.0 or not 0.0 <= revive < 1.0:
            raise KinemaError(
                f"residual quantiser: {layers} layers (1 or more) of {codes} codes (2 or more), decay {decay} and "
                f"revive {revive} (0 to below 1) are out of range"
            )
        self.decay, self.revive = decay, revive
        bound = (6.0 / (codes * width)) ** 0.5
        codebook = torch.empty(layers, codes, width).uniform_(-bound, bound)
        self.register_buffer("codebook", codebook)
        self.register_buffer("count", torch.zeros(layers, codes))
        self.register_buffer("total", codebook.clone())

    def forward(self, vectors: Tensor) -> Quantised:
        """Return `vectors` (B, D) rounded, with the gradient of the straight-through estimate of every layer.

        Those add up, as in the reference: the gradient of the result reaches `vectors` once for each layer.
        """
        with torch.autocast(vectors.device.type, enabled=False):
            return self._round(vectors.float())

    def _round(self, residual: Tensor) -> Quantised:
        rounded, commitment, codes = torch.zeros_like(residual), torch.zeros_like(residual[:, 0]), []
        for book in self.codebook.unbind():
            # |x - c|^2 without |x|^2, which is the same for all codes
            code = (book.square().sum(-1) - 2.0 * residual.detach() @ book.T).argmin(-1)
            chosen = book[code]
            rounded = rounded + residual + (chosen - residual).detach()
            commitment = commitment + (chosen - residual).square().mean(-1)
            residual = residual - chosen
            codes.append(code)
        return Quantised(rounded, torch.stack(codes, dim=-1), commitment)

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the vectors (B, D) that `codes` (B, Q) stand for: the sum of one code of each layer."""
        layers = len(self.codebook)
        if codes.shape[-1] != layers:
            raise KinemaError(f"{codes.shape[-1]} codes a vector for {layers} codebooks")
        return self.codebook[torch.arange(layers, device=codes.device), codes].sum(-2)

    @torch.no_grad()
    def learn(self, vectors: Tensor, codes: Tensor, keep: Tensor, *, rng: Rng) -> None:
        """Move the codebooks towards the `vectors` (B, D) that chose `codes` (B, Q).

        Entries where `keep` (B,) is False count for nothing; without any that is kept nothing moves.
        """
        with torch.autocast(vectors.device.type, enabled=False):
            self._follow(vectors.detach().float(), codes, keep, rng)

    def _follow(self, residual: Tensor, codes: Tensor, keep: Tensor, rng: Rng) -> None:
        some = keep.any()
        rate = (1.0 - self.decay) * some
        for layer, book in enumerate(self.codebook.unbind()):
            hits = nn.functional.one_hot(codes[:, layer], book.shape[0]).float() * keep[:, None]
            count = torch.lerp(self.count[layer], hits.sum(0), rate)
            total = torch.lerp(self.total[layer], hits.T @ residual, rate)
            if self.revive:
                dead = some & (count < self.revive * count.mean())
                rows = draw(torch.where(keep, 0.0, -torch.inf), uniform(count.shape, rng, count.device))
                count = torch.where(dead, count.mean(), count)
                total = torch.where(dead[:, None], residual[rows] * count[:, None], total)
            share = (count + SMOOTHING) / (count.sum() + SMOOTHING * len(count)) * count.sum()
            residual = residual - book[codes[:, layer]]
            moved = torch.where(some, total / share[:, None], book)
            for buffer, new in ((self.count, count), (self.total, total), (self.codebook, moved)):
                buffer[layer] = new


class ChunkAutoencoder(nn.Module):
    """Chunks, flattened (B, H A = `size`), to a latent vector that is rounded to codes, and back."""

    def __init__(self, size: int, *, hidden: int, latent: int, layers: int, codes: int, revive: float) -> None:
        super().__init__()
        self.encoder = _mlp(size, hidden, latent)
        self.decoder = _mlp(latent, hidden, size)
        self.quantiser = ResidualQuantiser(width=latent, layers=layers, codes=codes, revive=revive)

    def codes(self, chunk: Tensor) -> Tensor:
        """Return the codes (B, Q) of `chunk` (B, H A)."""
        return self.quantiser(self.encoder(chunk)).codes

    def decode(self, codes: Tensor) -> Tensor:
        """Return the chunk (B, H A) that `codes` (B, Q) stand for."""
        return self.decoder(self.quantiser.lookup(codes))

    def as_buffers(self) -> ChunkAutoencoder:
        """Return a copy whose parameters are buffers, so that nothing trains them."""
        fixed = copy.deepcopy(self)
        for part in fixed.modules():
            for name, parameter in list(part.named_parameters(recurse=False)):
                delattr(part, name)
                part.register_buffer(name, parameter.detach())
        return fixed


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def perplexity(codes: Tensor, size: int) -> Tensor:
    """Return for each layer (Q,) how many of its `size` codes are in use by `codes` (B, Q): exp of their entropy."""
    share = nn.functional.one_hot(codes, size).float().mean(0)
    return torch.special.entr(share).sum(-1).exp()
