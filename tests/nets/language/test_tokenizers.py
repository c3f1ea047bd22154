"""Bytes by hand, and a tokenizer.json made by the library that reads it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from kinema.core.errors import CheckpointError, KinemaError, UnavailableError
from kinema.nets.language.tokenizers import ByteTokenizer, tokenizer


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A word-level tokenizer whose file also asks for truncation and padding."""
    vocabulary = {"<s>": 0, "<unk>": 1, "open": 2, "the": 3, "drawer": 9}
    made = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made.add_special_tokens(["<s>"])
    made.enable_truncation(2)
    made.enable_padding(length=8, pad_id=1)
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_bytes_by_hand() -> None:
    words = tokenizer("bytes")
    assert isinstance(words, ByteTokenizer) and words.vocabulary == 258
    assert words.encode("Hi é") == [256, 72, 105, 32, 0xC3, 0xA9]
    assert words.encode("Hi", special=False) == [72, 105]
    for text in ("", "open the drawer", "öffne die Schublade\n"):
        assert words.decode([*words.encode(text), ByteTokenizer.END]) == text
    assert words.decode([0xC3, 65]) == "�A"
    with pytest.raises(KinemaError, match="'bytes' has no file, so it takes no sha256"):
        tokenizer("bytes", "00")


def test_a_tokenizer_file_is_read_whole(directory: Path) -> None:
    words = tokenizer(str(directory))
    assert words.encode("open the drawer") == [0, 2, 3, 9]
    assert words.encode("open the drawer", special=False) == [2, 3, 9]
    assert words.encode("close the drawer") == [0, 1, 3, 9]
    assert words.decode([0, 2, 3, 9]) == "open the drawer"
    assert words.vocabulary == 10, "one more than the highest number, whatever gaps there are"


def test_a_tokenizer_file_is_pinned_by_its_digest(directory: Path) -> None:
    path = directory / "tokenizer.json"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert tokenizer(str(directory), digest).sha256 == digest
    with pytest.raises(CheckpointError, match=f"sha256 is {digest}, expected 00"):
        tokenizer(str(directory), "00")
    path.write_text("{}")
    with pytest.raises(CheckpointError, match="cannot be read"):
        tokenizer(str(directory))
    path.unlink()
    with pytest.raises(UnavailableError, match=r"expected 'bytes' or a local directory with a tokenizer\.json"):
        tokenizer(str(directory))
