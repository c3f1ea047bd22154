"""What a policy is fitted to: statistics of the training data, and its chunks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from kinema.core.spec import ACTION
from kinema.core.transform import Chain, Statistics
from kinema.data.mixture import Mixture, Part, statistics_by_robot
from kinema.data.stats import streamed
from kinema.data.windows import MASK, Windows
from kinema.policies.base import PolicyConfig
from kinema.transforms.centre_crop import CentreCrop
from kinema.transforms.letterbox import Letterbox
from kinema.transforms.resize import Resize

OF_IMAGES = (Resize, Letterbox, CentreCrop)
"""Transforms that leave vectors and actions as they are."""
_FITTED_CHUNKS = 16384
"""At most so many chunks are shown to a head that is fitted to them."""


def statistics(parts: Sequence[Part], policy: PolicyConfig, before: Chain) -> Statistics:
    """Return the statistics of the parts' vectors and actions: of all rows, or of windows after transforms `before`."""
    if all(isinstance(transform, OF_IMAGES) for transform in before.transforms):
        [statistics] = statistics_by_robot(parts).values()
        return statistics
    return streamed(_imageless(parts, policy), lambda sample: before.forward(sample)[0])


def chunks(parts: Sequence[Part], policy: PolicyConfig, chain: Chain) -> tuple[np.ndarray, np.ndarray]:
    """Return actions (B, H, A) and their mask after the transforms, of training windows evenly apart."""
    windows = _imageless(parts, policy)
    sample = windows.batch(np.arange(0, len(windows), 1 + len(windows) // _FITTED_CHUNKS))
    after = chain.forward(sample)[0]
    mask, components = after[MASK], after.get(f"components.{ACTION}")
    return after[ACTION], mask if components is None else mask[..., None] & components[:, None]


def _imageless(parts: Sequence[Part], policy: PolicyConfig) -> Mixture:
    """Return what the policy reads of the parts but for images."""
    keys = [key for key in policy.reads if not key.startswith("image.")]
    cut = partial(Windows, keys=keys, obs_horizon=policy.obs_horizon, pred_horizon=policy.pred_horizon)
    return Mixture([Part(windows=cut(p.windows.dataset, episodes=p.windows.episodes)) for p in parts])
