"""Compressed images to arrays."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from kinema.core.errors import DataError

MOST_BYTES = 1 << 34
"""More than one field of one episode can hold: a file that claims more is broken or hostile."""
MOST_CHUNK_BYTES = 1 << 30
"""More than what is compressed in one piece becomes: a chunk of an array, a member of a zip file."""


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Return a JPEG or PNG image as (Hi, Wi, 3) uint8 in the file's order of channels; `name` is told in errors."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name}: {len(data)} bytes are not a JPEG or PNG image: {error}") from error


def stack_images(images: list[np.ndarray], name: str) -> np.ndarray:
    """Return images of one shape as (T, Hi, Wi, 3)."""
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise DataError(f"{name}: images of different shapes {sorted(shapes)[:4]}")
    check_size(name, (len(images), *images[0].shape), 1)
    return np.stack(images)


def check_size(name: str, shape: tuple[int, ...], item_bytes: int, *, most: int = MOST_BYTES) -> None:
    """Raise DataError for an array of more than `most` bytes, before memory is taken."""
    size = item_bytes
    for length in shape:
        size *= int(length)
    if size > most:
        raise DataError(f"{name}: {shape} would take {size / 1e9:.0f} GB, at most {most / 1e9:.0f} GB are read")
