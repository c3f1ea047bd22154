"""What is special about single encoders; what all share is in the contract tests."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinema.core.errors import SpecMismatch
from kinema.core.spec import Camera, ObservationSpec, Vector
from kinema.nets.encoders.film_cnn import FilmCnn, spatial_softmax
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.encoders.words import Words, word_buckets

SPEC = ObservationSpec(
    cameras=(Camera(name="front", height=32, width=24),),
    vectors=(Vector(name="proprioception", components=("x", "y"), units=("m", "m"), frame="world"),),
    instruction=True,
)


@pytest.mark.parametrize(("row", "column", "x", "y"), [(0, 0, -1, -1), (4, 2, 1, 1), (1, 1, 0, -0.5), (2, 0, -1, 0)])
def test_spatial_softmax_of_a_delta_is_its_coordinate(row: int, column: int, x: float, y: float) -> None:
    heatmaps, values = torch.zeros(1, 2, 5, 3), torch.arange(30.0).view(1, 2, 5, 3)
    heatmaps[0, 0, row, column] = 100.0
    located = spatial_softmax(heatmaps, values)[0]
    assert located.shape == (6,)
    assert located[[0, 2]].tolist() == pytest.approx([x, y], abs=1e-6)
    assert located[4].item() == pytest.approx(3 * row + column, abs=1e-4)
    # A flat map looks at the middle and averages its values.
    assert located[[1, 3, 5]].tolist() == pytest.approx([0.0, 0.0, 22.0], abs=1e-5)


def test_film_cnn_refuses_what_it_cannot_build() -> None:
    with pytest.raises(SpecMismatch, match="2 channels but 3 strides"):
        FilmCnn(camera="front", channels=(8, 8), strides=(1, 1, 1)).build(SPEC, obs_horizon=1, width=8)
    with pytest.raises(SpecMismatch, match="camera 'front' at 32x24 px is too small"):
        FilmCnn(camera="front", channels=(8, 8, 8), strides=(2, 2, 2)).build(SPEC, obs_horizon=1, width=8)
    with pytest.raises(SpecMismatch, match=r"did you mean 'image\.front'"):
        FilmCnn(camera="frnt").build(SPEC, obs_horizon=1, width=8)
    unconditioned = FilmCnn(camera="front", condition=None).build(SPEC, obs_horizon=1, width=8)
    with pytest.raises(ValueError, match="conditioned: False, but a condition is given"):
        unconditioned({"image.front": torch.zeros(1, 1, 32, 24, 3, dtype=torch.uint8)}, torch.zeros(1, 8))


def test_every_step_of_a_window_is_one_token() -> None:
    torch.manual_seed(0)
    encoder = FilmCnn(camera="front", condition=None).build(SPEC, obs_horizon=3, width=8).eval()
    images = torch.randint(0, 256, (2, 3, 32, 24, 3), dtype=torch.uint8)
    tokens = encoder({"image.front": images}, None).values
    single = encoder({"image.front": images[1:, 2:]}, None).values
    assert torch.allclose(tokens[1, 2], single[0, 0], atol=1e-5)


def test_proprioception_says_with_what_chance_it_is_hidden() -> None:
    assert Proprioception(dropout=0.5).build(SPEC, obs_horizon=1, width=8).dropout == 0.5
    with pytest.raises(SpecMismatch, match=r"dropout 1.0 is outside \[0, 1\)"):
        Proprioception(dropout=1.0).build(SPEC, obs_horizon=1, width=8)


def test_proprioception_by_steps_is_the_same_function_of_each() -> None:
    torch.manual_seed(0)
    encoder = Proprioception(per_step=True).build(SPEC, obs_horizon=3, width=8).eval()
    sample = {"vector.proprioception": torch.randn(2, 3, 2)}
    made = encoder(sample, None).values
    assert (encoder.tokens, encoder.steps, made.shape) == (3, 3, (2, 3, 8))
    last = {"vector.proprioception": sample["vector.proprioception"][:, 2:].expand(-1, 3, -1)}
    assert torch.allclose(encoder(last, None).values, made[:, 2:].expand(-1, 3, -1), atol=1e-6)


def test_raw_proprioception_is_the_numbers_and_refuses_layers() -> None:
    encoder = Proprioception(per_step=True, hidden=None, raw=True).build(SPEC, obs_horizon=2, width=4)
    vector = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert encoder({"vector.proprioception": vector}, None).values.tolist() == [[[1, 2, 0, 0], [3, 4, 0, 0]]]
    with pytest.raises(SpecMismatch, match="raw numbers pass no layers, so hidden must be None, got 128"):
        Proprioception(per_step=True, raw=True).build(SPEC, obs_horizon=2, width=4)


def test_word_buckets_are_pinned() -> None:
    assert word_buckets("Open the drawer!", 4096) == [2083, 1977, 2515, 370, 2975]
    assert word_buckets("  open, THE drawer ", 4096) == [2083, 1977, 2515, 370, 2975]
    assert word_buckets("", 4096) == [227] and word_buckets("!?", 4096) == [227]


def test_words_average_their_buckets_whatever_else_is_in_the_batch() -> None:
    encoder = Words(buckets=64).build(SPEC, obs_horizon=1, width=8).eval()
    texts = ["open the drawer", "", "push"]
    together = encoder({"instruction": texts}, None).values
    table = encoder.embedding.weight
    for index, text in enumerate(texts):
        by_hand = encoder.project(table[word_buckets(text, 64)].mean(0))
        assert torch.allclose(together[index, 0], by_hand, atol=1e-6)
    assert np.isfinite(together.detach().numpy()).all()


def test_autocast_does_not_round_keypoint_coordinates() -> None:
    heatmaps, values = torch.randn(4, 8, 24, 24), torch.randn(4, 8, 24, 24)
    exact = spatial_softmax(heatmaps, values)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(spatial_softmax(heatmaps, values), exact)
