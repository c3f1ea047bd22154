"""What a run is: a policy, how its data is used and how it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from kinema.core.errors import DataError, KinemaError
from kinema.core.rng import seed_of
from kinema.core.spec import INSTRUCTION, RobotSpec
from kinema.core.transform import Chain, Sample
from kinema.data.lerobot.reader import Dataset
from kinema.data.loader import Augment, Loader, split_episodes
from kinema.data.stats import statistics
from kinema.data.windows import Windows
from kinema.policies.base import Network, PolicyConfig
from kinema.train.config import TrainConfig
from kinema.transforms.random_shift import RandomShift


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """`held_out_fraction` of each task's episodes measure the held-out loss; images shift by `random_shift` px.

    With `paraphrase` each sample is told one of all the instructions that the data has for its task, drawn anew: a
    wording that belongs to a few episodes only invites a policy to learn those by heart instead of looking.
    """

    held_out_fraction: float = 0.08
    random_shift: int = 0
    paraphrase: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.held_out_fraction < 1.0 or self.random_shift < 0:
            raise KinemaError(
                f"held_out_fraction {self.held_out_fraction} (0 to below 1) or random_shift {self.random_shift} "
                "(0 or more) is out of range"
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A complete configuration: nothing else decides what is trained."""

    policy: PolicyConfig
    train: TrainConfig
    data: DataConfig = field(default_factory=DataConfig)


@dataclass(frozen=True)
class Prepared:
    """A recipe brought together with a dataset: ready for the training loop."""

    spec: RobotSpec
    policy: PolicyConfig
    network: Network
    batches: Callable[[int], Iterator[dict[str, Any]]]
    held_out: Callable[[], Iterator[dict[str, Any]]] | None
    train_episodes: tuple[int, ...]
    held_out_episodes: tuple[int, ...]


def prepare(recipe: Recipe, dataset: Dataset) -> Prepared:
    """Return network and batches for `recipe` on `dataset`; statistics come from the training episodes alone.

    The network's initial weights depend on the seed alone. Raises SpecMismatch when the data lacks what the policy
    reads.
    """
    spec = recipe.policy.needs(dataset.spec)
    failures = [episode.index for episode in dataset.episodes if not episode.success]
    if failures:
        raise DataError(
            f"{dataset.root}: {len(failures)} of {len(dataset.episodes)} episodes are marked as failures, "
            f"such as {failures[0]}; imitation would learn them: record successes only"
        )
    train, held_out = split_episodes(dataset, recipe.data.held_out_fraction, recipe.train.seed)
    policy = recipe.policy.fit(statistics(dataset, train))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("weights", recipe.train.seed))
        network = Network(policy, spec)
    chain = Chain(policy.transforms)

    def windows(episodes: tuple[int, ...]) -> Windows:
        return Windows(
            dataset,
            obs_horizon=policy.obs_horizon,
            pred_horizon=policy.pred_horizon,
            episodes=episodes,
            keys=policy.reads,
        )

    loader = Loader(
        windows(train),
        batch_size=recipe.train.batch_size,
        seed=recipe.train.seed,
        augment=_training_sample(recipe, dataset, train, chain),
    )

    def held_out_batches(unseen: Windows) -> Iterator[dict[str, Any]]:
        every = max(1, len(unseen) // 2048)  # a fixed, evenly spaced part keeps the measurement short
        rows = np.arange(0, len(unseen), every)
        for begin in range(0, len(rows), recipe.train.batch_size):
            yield dict(chain.forward(unseen.batch(rows[begin : begin + recipe.train.batch_size]))[0])

    return Prepared(
        spec=spec,
        policy=policy,
        network=network,
        batches=loader.batches,
        held_out=partial(held_out_batches, windows(held_out)) if held_out else None,
        train_episodes=train,
        held_out_episodes=held_out,
    )


def _training_sample(recipe: Recipe, dataset: Dataset, episodes: Sequence[int], chain: Chain) -> Augment:
    """Return what happens to a training batch after it was cut from the data: shift, other words, transforms."""
    shift = RandomShift(pixels=recipe.data.random_shift)
    wordings = paraphrases(dataset, episodes) if recipe.data.paraphrase else {}

    def transformed(sample: Sample, rng: np.random.Generator) -> Sample:
        shifted = dict(shift(sample, rng))
        if wordings and INSTRUCTION in shifted:
            choices = [wordings[text] for text in shifted[INSTRUCTION]]
            shifted[INSTRUCTION] = [texts[rng.integers(len(texts))] for texts in choices]
        return chain.forward(shifted)[0]

    return transformed


def paraphrases(dataset: Dataset, episodes: Sequence[int]) -> dict[str, tuple[str, ...]]:
    """Return for every instruction of `episodes` all those of the same task, itself among them.

    An instruction that several tasks share stands for itself alone, as it says not which task is meant.
    """
    texts: dict[str, set[str]] = {}
    tasks: dict[str, set[str]] = {}
    for index in episodes:
        episode = dataset.episodes[index]
        task = str(episode.origin.get("task", episode.instruction))
        texts.setdefault(task, set()).add(episode.instruction)
        tasks.setdefault(episode.instruction, set()).add(task)
    return {text: tuple(sorted(texts[next(iter(own))])) if len(own) == 1 else (text,) for text, own in tasks.items()}
