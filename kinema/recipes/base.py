"""What a run is: a policy, how its data is used and how it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kinema.core.config import TRUSTED
from kinema.core.errors import DataError, KinemaError
from kinema.core.spec import RobotSpec, check_compatible
from kinema.core.transform import Chain
from kinema.data.exclude import excluded_episodes
from kinema.data.lerobot.reader import Dataset
from kinema.data.loader import Loader, split_episodes
from kinema.data.mixture import Mixture, Part
from kinema.data.shares import SharedDraws, shares
from kinema.nets.lora import Adapter, Lora
from kinema.policies.base import PolicyConfig
from kinema.policies.network import Network
from kinema.recipes._fitting import chunks, statistics
from kinema.recipes._images import Tell, kept_features, sized
from kinema.recipes._images import windows as windows_of
from kinema.recipes._samples import held_out_batches, training_sample
from kinema.recipes._start import Beginning, Trusted
from kinema.train.config import TrainConfig
from kinema.transforms.random_shift import RandomShift


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """`held_out_fraction` of each task's episodes measure the held-out loss; images shift by `random_shift` px.

    With `paraphrase` each sample is told one of all the instructions that the data has for its task, drawn anew: a
    wording that belongs to a few episodes only invites a policy to learn those by heart instead of looking.

    `resize` (height, width) makes every image that size [px] before anything else, when training and when acting; the
    robot still delivers what the data holds. With `cache_features` what frozen encoders make of the images is computed
    once, before training, and kept beside the dataset; nothing may then change images, `random_shift` least of all.

    Of several datasets samples come by number of frames, or by frames^`alpha`, or by `weights`: a number for each, in
    their order, or the name of published ones; `weights_mean` says whether they multiply the numbers of frames or
    replace them. `exclude` names files that list episodes to leave out.
    """

    held_out_fraction: float = 0.08
    random_shift: int = 0
    resize: tuple[int, int] | None = None
    cache_features: bool = False
    paraphrase: bool = True
    alpha: float | None = None
    weights: tuple[float, ...] | str | None = None
    weights_mean: Literal["multiply", "replace"] | None = None
    exclude: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.held_out_fraction < 1.0 or self.random_shift < 0:
            raise KinemaError(
                f"held_out_fraction {self.held_out_fraction} (0 to below 1) or random_shift {self.random_shift} "
                "(0 or more) is out of range"
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A complete configuration: nothing else decides what is trained.

    `start` is the directory of a run, or of a published backbone, whose weights training begins from; parts that match
    `fresh` begin anew. With `adapt` only LoRA adapters and what it names train, and the policy goes on needing `start`.
    """

    policy: PolicyConfig
    train: TrainConfig
    data: DataConfig = field(default_factory=DataConfig)
    start: str | None = None
    fresh: tuple[str, ...] = ()
    adapt: Lora | None = None


@dataclass(frozen=True)
class Prepared:
    """A recipe brought together with its datasets: ready for the training loop.

    Episodes are numbered through all datasets in their order; `share` of the samples comes from each. `adapter` says
    what the network's own weights are adapters of, the base called as in the recipe.
    """

    spec: RobotSpec
    policy: PolicyConfig
    network: Network
    batches: Callable[[int], Iterator[dict[str, Any]]]
    held_out: Callable[[], Iterator[dict[str, Any]]] | None
    train_episodes: tuple[int, ...]
    held_out_episodes: tuple[int, ...]
    excluded_episodes: tuple[int, ...]
    share: tuple[float, ...]
    adapter: Adapter | None


def prepare(
    recipe: Recipe, *datasets: Dataset, device: str = "cpu", tell: Tell | None = None, trusted: Trusted = TRUSTED
) -> Prepared:
    """Return network and batches for `recipe` on one or more datasets of one robot.

    Statistics come from all rows of the training episodes alone, whatever their weights. The network's initial weights
    depend on the seed alone, or are those of `recipe.start`, of which only classes of `trusted` packages are loaded.
    Raises SpecMismatch when the data lacks what the policy reads, or is of several robots.
    Raises KinemaError for a head that learns in stages when the run is too short for them. Features that are to be
    cached are computed on `device`, and `tell` is told of them.
    """
    recipe.policy.head.check_steps(recipe.train.steps)
    policy = sized(recipe.policy, recipe.data.resize)
    spec = _one_spec(policy, datasets)
    excluded = excluded_episodes([Path(name) for name in recipe.data.exclude or ()], datasets)
    splits = [_split(recipe, dataset, out) for dataset, out in zip(datasets, excluded, strict=True)]
    both = list(zip(datasets, splits, strict=True))
    plain = [Part(windows=windows_of(policy, dataset, episodes=train)) for dataset, (train, _) in both]
    policy = policy.fit(partial(statistics, plain, policy), partial(chunks, plain, policy))
    begins = Beginning(start=recipe.start, fresh=recipe.fresh, lora=recipe.adapt, seed=recipe.train.seed)
    network, adapter = begins.network(policy, spec, trusted)
    kept = [_features(recipe.data, policy, dataset, device, tell) for dataset in datasets]
    read = [partial(windows_of, policy, dataset, features=made) for dataset, made in zip(datasets, kept, strict=True)]
    parts = [Part(windows=cut(episodes=train)) for cut, (train, _) in zip(read, splits, strict=True)]
    unseen = [cut(episodes=held) for cut, (_, held) in zip(read, splits, strict=True) if held]
    chain, share = Chain(policy.transforms), _shares(recipe.data, parts)
    return Prepared(
        spec=spec,
        policy=policy,
        network=network,
        batches=_loader(recipe, parts, share, chain).batches,
        held_out=partial(held_out_batches, unseen, chain, recipe.train.batch_size) if unseen else None,
        train_episodes=_numbered(datasets, [train for train, _ in splits]),
        held_out_episodes=_numbered(datasets, [held for _, held in splits]),
        excluded_episodes=_numbered(datasets, [sorted(out) for out in excluded]),
        share=tuple(float(part) for part in share),
        adapter=adapter,
    )


def _features(
    data: DataConfig, policy: PolicyConfig, dataset: Dataset, device: str, tell: Tell | None
) -> dict[str, np.ndarray] | None:
    if not data.cache_features:
        return None
    shift = [RandomShift(pixels=data.random_shift)] if data.random_shift else []
    return kept_features(policy, dataset, augmentations=shift, device=device, tell=tell)


def _loader(recipe: Recipe, parts: Sequence[Part], share: np.ndarray, chain: Chain) -> Loader:
    batch_size, seed = recipe.train.batch_size, recipe.train.seed
    data = recipe.data
    augment = training_sample(parts, chain, random_shift=data.random_shift, paraphrase=data.paraphrase)
    if len(parts) == 1:
        return Loader(parts[0].windows, batch_size=batch_size, seed=seed, augment=augment)
    mixture = Mixture(parts)
    draws = SharedDraws(mixture.sizes, share, batch_size=batch_size, seed=seed)
    return Loader(mixture, batch_size=batch_size, seed=seed, augment=augment, draws=draws)


def _one_spec(policy: PolicyConfig, datasets: Sequence[Dataset]) -> RobotSpec:
    """Return what the policy uses of all datasets' spec, which must be the same."""
    first, *others = datasets
    spec = policy.needs(first.spec)
    for other in others:
        check_compatible(policy.needs(other.spec), spec, have_name=str(other.root), want_name=str(first.root))
    return spec


def _split(recipe: Recipe, dataset: Dataset, excluded: frozenset[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return training and held-out episodes; which are held out does not depend on what is excluded."""
    failures = [e.index for e in dataset.episodes if not e.success and e.index not in excluded]
    if failures:
        raise DataError(
            f"{dataset.root}: {len(failures)} of {len(dataset.episodes)} episodes are marked as failures, "
            f"such as {failures[0]}; imitation would learn them: record successes only, or exclude them"
        )
    train, held_out = split_episodes(dataset, recipe.data.held_out_fraction, recipe.train.seed)
    kept = tuple(index for index in train if index not in excluded)
    if not kept:
        raise DataError(f"{dataset.root}: no episode is left to train on, all {len(train)} are excluded or held out")
    return kept, tuple(index for index in held_out if index not in excluded)


def _shares(data: DataConfig, parts: Sequence[Part]) -> np.ndarray:
    if len(parts) == 1 and (data.alpha, data.weights, data.weights_mean) != (None, None, None):
        raise KinemaError("alpha and weights are for several datasets; there is one")
    frames, names = [len(part.windows) for part in parts], [part.name for part in parts]
    return shares(frames, names=names, alpha=data.alpha, weights=data.weights, weights_mean=data.weights_mean)


def _numbered(datasets: Sequence[Dataset], chosen: Sequence[Sequence[int]]) -> tuple[int, ...]:
    first = np.cumsum([0] + [len(dataset.episodes) for dataset in datasets])
    return tuple(int(begin) + index for begin, part in zip(first, chosen, strict=False) for index in part)
