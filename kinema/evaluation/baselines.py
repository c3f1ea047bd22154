"""Controls that must fail: a policy that succeeds without seeing shows that the task does not need its cameras."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kinema.core.errors import KinemaError
from kinema.core.policy import Chunk, Observation, Policy
from kinema.core.rng import generator


class NoiseCameras(Policy):
    """The wrapped policy with every image replaced by fresh uniform noise; vectors and instruction stay as they are.

    The noise of an episode depends on `seed` and the episode's own seed alone, not on its place in the batch.
    """

    def __init__(self, policy: Policy, seed: int) -> None:
        if not policy.spec.observation.cameras:
            raise KinemaError(
                f"{type(policy).__name__} has no cameras: replacing its images by noise would change nothing"
            )
        self.policy, self.seed = policy, seed
        self.spec, self.obs_horizon = policy.spec, policy.obs_horizon
        self._noise: dict[int, np.random.Generator] = {}

    def reset(self, which: Sequence[int] | None = None, *, seeds: Sequence[int] | None = None) -> None:
        """Begin new noise in the batch entries `which`, and reset the wrapped policy."""
        self.policy.reset(which, seeds=seeds)
        if which is None:
            self._noise.clear()
            return
        for place, slot in enumerate(which):
            own = (slot,) if seeds is None else ("episode", seeds[place])
            self._noise[slot] = generator("noise-cameras", self.seed, *own)

    def act(self, observation: Observation) -> Chunk:
        """Return the wrapped policy's chunk for noise in place of every image."""
        blind = dict(observation)
        for camera in self.spec.observation.cameras:
            if camera.key in observation:
                blind[camera.key] = self._images(observation[camera.key].shape)
        return self.policy.act(blind)

    def _images(self, shape: tuple[int, ...]) -> np.ndarray:
        images = np.empty(shape, np.uint8)
        for slot in range(shape[0]):
            if slot not in self._noise:
                self._noise[slot] = generator("noise-cameras", self.seed, slot)
            images[slot] = self._noise[slot].integers(0, 256, shape[1:], dtype=np.uint8)
        return images
