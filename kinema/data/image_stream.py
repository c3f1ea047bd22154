"""Images of an episode that are decoded one at a time whenever they are gone through, instead of lying in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kinema.core.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageStream:
    """The images (T, Hi, Wi, 3) uint8 of the samples `index` (T,), which never falls; one at a time is in memory.

    `read(numbers)` yields the images of distinct samples, ascending. In an episode that is only written this stands in
    for the array; `np.asarray` makes the array. Raises DataError when an image is not `size` (Hi, Wi).
    """

    name: str
    index: np.ndarray
    size: tuple[int, int]
    read: Callable[[np.ndarray], Iterator[np.ndarray]]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the array that it stands in for."""
        return (len(self.index), *self.size, 3)

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """The type of the array that it stands in for."""
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[np.ndarray]:
        images = self.read(np.unique(self.index))
        shown = -1
        for number in self.index.tolist():
            if number != shown:
                shown, image = number, next(images)
                if image.shape != self.shape[1:] or image.dtype != np.uint8:
                    raise DataError(
                        f"{self.name}: image {number} is {image.shape} {image.dtype}, expected {self.shape[1:]} uint8"
                    )
            yield image

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        made = np.empty(self.shape, np.uint8)
        for place, image in enumerate(self):
            made[place] = image
        return made if dtype is None else made.astype(dtype)

    def take(self, rows: np.ndarray) -> ImageStream:
        """Return the images of some rows, which may not fall."""
        return replace(self, index=self.index[rows])

    def mapped(self, change: Callable[[np.ndarray], np.ndarray]) -> ImageStream:
        """Return the stream of what `change` makes of each image."""
        return replace(self, read=lambda numbers: map(change, self.read(numbers)))
