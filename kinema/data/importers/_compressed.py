"""Compressed bytes to bytes that are no more than they may be: a small file can claim or become any number of them."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Mapping
from typing import Any

import numcodecs
import numpy as np

from kinema.core.errors import UnavailableError

IMAGE_CODECS = ("imagecodecs_jpegxl",)
STREAMS = ("bz2", "gzip", "lzma", "zlib")
"""These say nothing about their length and are decoded as far as they may be."""
STATED = ("blosc", "lz4", "zstd")
"""These say how long they are."""
CODECS = tuple(sorted((*STREAMS, *STATED, "delta", "fixedscaleoffset", "shuffle")))
"""numcodecs that decode plain numbers; others could build objects (pickle, json, vlen)."""


def decode(codec: Mapping[str, Any], data: Any, most: int) -> Any:
    """Return what `data` holds, in the numcodecs `codec` (its configuration); what is compressed, at most `most` bytes.

    Raises ValueError for more and for data that is cut short, and what the library of the codec raises.
    """
    if codec["id"] in IMAGE_CODECS:
        try:
            import imagecodecs
        except ImportError as error:
            raise UnavailableError(f"images are compressed with {codec['id']}: pip install imagecodecs") from error
        room: Any = bytearray(most)  # more is a ValueError, before a pixel is decoded
        return imagecodecs.jpegxl_decode(bytes(data), out=room)
    if codec["id"] in STREAMS:
        return _decompressed(codec, bytes(data), most)
    if codec["id"] in STATED:
        size = _stated(codec["id"], bytes(data))
        if size > most:
            raise ValueError(f"{len(data)} bytes of {codec['id']} state {size} bytes, there is room for {most}")
        return numcodecs.get_codec(dict(codec)).decode(data, out=np.empty(size, np.uint8))
    if any(np.dtype(codec.get(name) or "u1").kind not in "fiub" for name in ("dtype", "astype")):
        raise ValueError(f"{codec['id']} makes something else than plain numbers")
    return numcodecs.get_codec(dict(codec)).decode(data)


def _decompressed(codec: Mapping[str, Any], data: bytes, most: int) -> bytes:
    stream = _stream(codec)
    content: bytes = stream.decompress(data, most + 1)
    if len(content) > most:
        raise ValueError(f"{len(data)} bytes of {codec['id']} become more than the {most} that there is room for")
    if not stream.eof or stream.unused_data:
        raise ValueError("cut short, or with something behind its end")
    return content


def _stream(codec: Mapping[str, Any]) -> Any:
    if codec["id"] == "lzma":
        made = numcodecs.get_codec(dict(codec))
        return lzma.LZMADecompressor(format=made.format, filters=made.filters)
    return bz2.BZ2Decompressor() if codec["id"] == "bz2" else zlib.decompressobj(31 if codec["id"] == "gzip" else 15)


def _stated(name: str, data: bytes) -> int:
    """Return the decoded size that the first bytes state: of a blosc or LZ4 header, or a zstd frame (RFC 8878)."""
    if name == "blosc":
        # The library takes the length from here too, and would read on behind the end.
        if int.from_bytes(data[12:16], "little") != len(data):
            raise ValueError("cut short, or with something behind its end")
        return int.from_bytes(data[4:8], "little")
    if name == "lz4":
        return int.from_bytes(data[:4], "little")
    if len(data) < 6 or data[:4] != b"\x28\xb5\x2f\xfd":
        raise ValueError("no zstd frame")
    single = data[4] >> 5 & 1
    width = (single, 2, 4, 8)[data[4] >> 6]
    if not width:
        raise ValueError("the zstd frame does not say how long it is")
    start = 6 - single + (0, 1, 2, 4)[data[4] & 3]
    return int.from_bytes(data[start : start + width], "little") + 256 * (width == 2)
