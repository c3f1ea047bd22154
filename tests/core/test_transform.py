"""A chain runs forwards in order and backwards in reverse order, each part with its own memo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from kinema.core.transform import Chain, Sample, Statistics, Transform


@dataclass(frozen=True, kw_only=True)
class Affine(Transform):
    """x * scale + the first element of the sample's vector, which the memo keeps."""

    scale: float

    def forward(self, sample: Sample) -> tuple[Sample, Any]:
        offset = sample["vector.x"][:, 0]
        return {**sample, "action": sample["action"] * self.scale + offset, "vector.x": sample["vector.x"] + 1}, offset

    def inverse(self, action: np.ndarray, memo: Any) -> np.ndarray:
        return (action - memo) / self.scale

    def fit(self, statistics: Statistics) -> Affine:
        return Affine(scale=self.scale + float(statistics["action"]["max"]))


def test_by_hand() -> None:
    chain = Chain((Affine(scale=2.0), Affine(scale=10.0)))
    sample = {"action": np.array([[3.0]]), "vector.x": np.array([[5.0]])}
    changed, memo = chain.forward(sample)
    assert changed["action"].item() == (3 * 2 + 5) * 10 + 6 and changed["vector.x"].item() == 7
    assert [m.item() for m in memo] == [5, 6]
    assert chain.inverse(changed["action"], memo).item() == 3
    assert sample["action"].item() == 3
    fitted = chain.fit({"action": {"max": np.array(1.0)}})
    assert fitted == Chain((Affine(scale=3.0), Affine(scale=11.0))) and chain != fitted


def test_a_memo_of_another_chain_is_refused_and_an_empty_chain_is_the_identity() -> None:
    chain = Chain((Affine(scale=2.0),))
    with pytest.raises(ValueError, match="zip"):
        chain.inverse(np.ones((1, 1)), ())
    assert Chain(()).forward({"a": 1}) == ({"a": 1}, ()) and Chain(()).inverse(np.ones(1), ()).item() == 1
