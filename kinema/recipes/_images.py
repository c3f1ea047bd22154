"""What a policy is shown of the images of a dataset: resized first, or as features that a frozen encoder has left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from kinema.core.errors import KinemaError
from kinema.core.transform import Augmentation, Chain
from kinema.data.features import cached_features
from kinema.data.lerobot.reader import Dataset
from kinema.data.windows import Windows
from kinema.nets.encoders.frozen_vision import FrozenVision
from kinema.policies.base import PolicyConfig
from kinema.transforms.resize import Resize, leading_resize

Tell = Callable[[str, int, int], None]
"""Told (dataset and camera, frames encoded, frames in all)."""


def sized(policy: PolicyConfig, size: tuple[int, int] | None) -> PolicyConfig:
    """Return the policy, which begins by resizing images to `size` (Hi, Wi) if there is one."""
    if size is None:
        return policy
    if any(isinstance(transform, Resize) for transform in policy.transforms):
        raise KinemaError(f"resize {size}: the policy resizes images already; change the size of its transform")
    return replace(policy, transforms=(Resize(height=size[0], width=size[1]), *policy.transforms))


def windows(
    policy: PolicyConfig,
    dataset: Dataset,
    *,
    episodes: Sequence[int],
    features: Mapping[str, np.ndarray] | None = None,
) -> Windows:
    """Return what `policy` reads of the episodes, its images as its first transform leaves them where that resizes.

    With `features` (key -> all rows) they come instead of the images that only frozen encoders read.
    """
    trained = [encoder.reads for encoder in policy.encoders.values() if not isinstance(encoder, FrozenVision)]
    seen = {key for reads in (*trained, *(transform.reads for transform in policy.transforms)) for key in reads}
    keys = [key for key in policy.reads if features is None or key in seen or not key.startswith("image.")]
    frames = partial(dataset.frames, resize=leading_resize(policy.transforms))
    cut = partial(Windows, obs_horizon=policy.obs_horizon, pred_horizon=policy.pred_horizon, keys=keys)
    return cut(dataset, episodes=episodes, frames=frames, columns=features)


def kept_features(
    policy: PolicyConfig,
    dataset: Dataset,
    *,
    augmentations: Sequence[Augmentation],
    device: str,
    tell: Tell | None,
) -> dict[str, np.ndarray]:
    """Return what each frozen encoder of the fitted `policy` makes of all frames, bit by bit as it does live.

    Kept in the dataset's cache, named by weights, frames, size, device and library; made where that is not there yet.
    Raises KinemaError where images do not reach the encoder as they are kept.
    """
    frozen = [encoder for encoder in policy.encoders.values() if isinstance(encoder, FrozenVision)]
    if not frozen:
        raise KinemaError("cache_features: no encoder of the policy is frozen, so there is nothing to keep")
    _check_untouched(policy, dataset)
    resize, made = leading_resize(policy.transforms), {}
    for encoder in frozen:
        made[encoder.features_key] = cached_features(
            dataset.cache / "features",
            dataset.frames(encoder.camera, resize=resize).fill(),
            partial(encoder.features, device=device),
            weights=encoder.frozen().sha256,
            preprocessing={
                "resize": None if resize is None else resize.key,
                "grid": encoder.grid,
                "device": torch.device(device).type,
                "torch": torch.__version__,
            },
            content=f"{dataset.content_hash} {encoder.camera}",
            augmentations=augmentations,
            progress=None if tell is None else partial(tell, f"{dataset.root.name} {encoder.camera}"),
        )
    return made


def _check_untouched(policy: PolicyConfig, dataset: Dataset) -> None:
    sample = windows(policy, dataset, episodes=(0,)).batch(np.array([0]))
    after = Chain(policy.transforms).forward(sample)[0]
    for key in sample:
        if key.startswith("image.") and not np.array_equal(after.get(key, ()), sample[key]):
            raise KinemaError(
                f"cache_features: the policy's transforms change {key!r} after it is read; resize first, or encode live"
            )
