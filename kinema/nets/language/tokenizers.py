"""From text to numbers of words: by bytes, which needs no file, or by a published tokenizer.json."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import tokenizers

from kinema.core.errors import CheckpointError, KinemaError, UnavailableError

BYTES = "bytes"


class Tokenizer(ABC):
    """Numbers of words, below `vocabulary`; `sha256` is that of its file, None if there is none."""

    vocabulary: int
    sha256: str | None = None

    @abstractmethod
    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Return the words of `text`; if `special` with those that a prompt begins and ends with, as a first mark."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the words `ids`, without special ones."""


class ByteTokenizer(Tokenizer):
    """The bytes of UTF-8, 0 to 255, and two marks: a prompt begins with `BEGIN`, and what is spoken ends with `END`."""

    BEGIN, END = 256, 257
    vocabulary = 258

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Return the bytes of `text`, after the mark `BEGIN` if `special`."""
        return [self.BEGIN] * special + list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the bytes `ids`; marks are left out, and broken characters are U+FFFD."""
        return bytes(word for word in ids if word < self.BEGIN).decode(errors="replace")


class FileTokenizer(Tokenizer):
    """What `directory`/tokenizer.json describes, by the library `tokenizers`; nothing is cut and nothing padded."""

    def __init__(self, directory: Path, sha256: str | None) -> None:
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise UnavailableError(
                f"tokenizer {str(directory)!r}: there is no {path}\n"
                f"expected {BYTES!r} or a local directory with a tokenizer.json"
            )
        content = path.read_bytes()
        self.sha256 = hashlib.sha256(content).hexdigest()
        if sha256 not in (None, self.sha256):
            raise CheckpointError(f"tokenizer {path}: its sha256 is {self.sha256}, expected {sha256}")
        try:
            self._inner = tokenizers.Tokenizer.from_str(content.decode())
        except Exception as error:  # the library raises plain Exception for every kind of broken file
            raise CheckpointError(f"tokenizer {path} cannot be read: {error!r:.200}") from error
        self._inner.no_truncation()
        self._inner.no_padding()
        self.vocabulary = 1 + max(self._inner.get_vocab(with_added_tokens=True).values(), default=-1)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Return the words of `text`, with the marks of the file's post-processor if `special`."""
        return list(self._inner.encode(text, add_special_tokens=special).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the words `ids`, without special ones."""
        return str(self._inner.decode(list(ids), skip_special_tokens=True))


def tokenizer(name: str, sha256: str | None = None) -> Tokenizer:
    """Return the tokenizer "bytes", or that of a local directory; `sha256` is what its tokenizer.json must have."""
    if name != BYTES:
        return FileTokenizer(Path(name).expanduser(), sha256)
    if sha256 is not None:
        raise KinemaError(f"tokenizer {BYTES!r} has no file, so it takes no sha256, got {sha256!r}")
    return ByteTokenizer()
