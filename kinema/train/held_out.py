"""The loss on held-out batches, without a trace in the training."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kinema.core.errors import KinemaError
from kinema.nets.ema import Ema
from kinema.train.step import Batch, Network, as_module, seeded, summed_loss, to_tensors


@torch.no_grad()
def held_out_loss(
    network: Network, batches: Iterator[Batch], ema: Ema | None, *, seed: int, rng: torch.Generator, precision: str
) -> tuple[float, int]:
    """Return the mean loss over all steps that the masks keep, and the number of batches.

    The averaged weights are used when there are any. Randomness depends on `seed` and the batch's number alone;
    weights, buffers and modes are afterwards as before.
    """
    module = as_module(network)
    modes = [(part, part.training) for part in module.modules()]
    total, steps, number = 0.0, 0, 0
    # An average that starts here is the weights themselves: it keeps and restores the buffers all the same.
    with (ema or Ema(module, 0.5)).swapped(module):
        module.eval()
        try:
            for given in batches:
                batch = to_tensors(given, rng.device)
                summed, kept = summed_loss(network, batch, seeded(rng, "held out", seed, number), precision)
                total, steps, number = total + float(summed), steps + kept, number + 1
        finally:
            for part, training in modes:
                part.training = training
    if not steps:
        raise KinemaError("the held-out batches are empty")
    return total / steps, number
