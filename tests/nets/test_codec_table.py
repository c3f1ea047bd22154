"""Tables of codecs against the codecs themselves, at every edge."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinema.actions.bins import Bins
from kinema.actions.codec import Elementwise
from kinema.actions.mu_law import MuLaw
from kinema.nets.codec_table import CodecTable

CODECS = [Bins(convention=name) for name in ("rt1", "openvla", "centred", "left_edge")]
CODECS += [Bins(convention="rt1", low=-0.3, high=1.7), MuLaw(), MuLaw(mu=10.0, limit=2.0, bins=33)]


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_table_is_the_codec(codec: Elementwise) -> None:
    table = CodecTable(codec)
    values = np.concatenate([codec.edges, np.random.default_rng(0).uniform(-2, 2, 20_000), [-1e6, 1e6]]).astype(
        np.float32
    )
    tokens = codec.encode(values)
    assert (tokens == table.encode(torch.from_numpy(values)).numpy()).mean() > 1 - 1e-3
    for side in (-1, 1):  # beside an edge by more than the codec's own rounding
        beside = (codec.edges + side * (1e-8 + 3e-7 * np.abs(codec.edges))).astype(np.float32)
        assert (codec.encode(beside) == table.encode(torch.from_numpy(beside)).numpy()).all()
    decoded = table.decode(torch.from_numpy(tokens))
    assert decoded.numpy() == pytest.approx(codec.decode(tokens), rel=1e-7, abs=1e-7)
    assert len(codec.edges) == codec.size - 1 and (np.diff(codec.edges) > 0).all()


def test_edges_of_rt1_and_openvla_by_hand() -> None:
    """RT-1's last token is of +1 alone; OpenVLA's tokens are worth 2/255 each too, Octo's 2/256."""
    assert Bins(convention="rt1").edges[[0, -1]] == pytest.approx([-1 + 2 / 255, 1.0])
    assert Bins(convention="openvla").edges[[0, -1]] == pytest.approx([-1 + 2 / 255, 1.0])
    assert Bins(convention="centred").edges[[0, -1]] == pytest.approx([-1 + 2 / 256, 1 - 2 / 256])
