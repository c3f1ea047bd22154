"""What happens to a batch after it was cut from the data: shift and other words in training, transforms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from kinema.core.spec import INSTRUCTION
from kinema.core.transform import Chain, Sample
from kinema.data.lerobot.reader import EpisodeRecord
from kinema.data.loader import Augment
from kinema.data.mixture import Part
from kinema.data.windows import Windows
from kinema.transforms.random_shift import RandomShift


def training_sample(parts: Sequence[Part], chain: Chain, *, random_shift: int, paraphrase: bool) -> Augment:
    """Return the function that does it, with images shifted by up to `random_shift` [px]."""
    shift = RandomShift(pixels=random_shift)
    told = [part.windows.dataset.episodes[index] for part in parts for index in part.windows.episodes]
    wordings = paraphrases(told) if paraphrase else {}

    def transformed(sample: Sample, rng: np.random.Generator) -> Sample:
        shifted = dict(shift(sample, rng))
        if wordings and INSTRUCTION in shifted:
            choices = [wordings.get(text, (text,)) for text in shifted[INSTRUCTION]]
            shifted[INSTRUCTION] = [texts[rng.integers(len(texts))] for texts in choices]
        return chain.forward(shifted)[0]

    return transformed


def held_out_batches(unseen: Sequence[Windows], chain: Chain, batch_size: int) -> Iterator[dict[str, Any]]:
    """Yield the held-out batches of `unseen`, as `chain` transforms them."""
    every = max(1, sum(map(len, unseen)) // 2048)  # a fixed, evenly spaced part keeps the measurement short
    for windows in unseen:
        rows = np.arange(0, len(windows), every)
        for begin in range(0, len(rows), batch_size):
            yield dict(chain.forward(windows.batch(rows[begin : begin + batch_size]))[0])


def paraphrases(episodes: Iterable[EpisodeRecord]) -> dict[str, tuple[str, ...]]:
    """Return for every instruction of `episodes` all those of the same task, itself among them.

    An instruction that several tasks share stands for itself alone, as it says not which task is meant.
    """
    texts: dict[str, set[str]] = {}
    tasks: dict[str, set[str]] = {}
    for episode in episodes:
        task = str(episode.origin.get("task", episode.instruction))
        texts.setdefault(task, set()).add(episode.instruction)
        tasks.setdefault(episode.instruction, set()).add(task)
    return {text: tuple(sorted(texts[next(iter(own))])) if len(own) == 1 else (text,) for text, own in tasks.items()}
