"""Every transform can be undone and leaves its input alone; an augmentation is a function of sample and generator."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from kinema.actions import poses, rotations
from kinema.core.config import from_data, to_data
from kinema.core.errors import KinemaError
from kinema.core.names import members
from kinema.core.transform import Augmentation, Chain, Transform

Observe = Callable[..., dict[str, Any]]
Configure = Callable[[str, str], Any]


def training_sample(observe: Observe) -> dict[str, Any]:
    """Return a sample whose actions are poses and one number more, so that any transform of actions can read them."""
    rng = np.random.default_rng(1)

    def pose_vectors(steps: int) -> np.ndarray:
        position = rng.uniform(-0.4, 0.2, (4, steps, 3))
        turn = rotations.exp(rng.uniform(-1.0, 1.0, (4, steps, 3)))
        return poses.to_vector(poses.pose(position, turn)).astype(np.float32)

    action = np.concatenate([pose_vectors(6), rng.uniform(0.0, 0.1, (4, 6, 1)).astype(np.float32)], axis=-1)
    vectors = {"vector.hand": pose_vectors(2), "vector.joints": rng.normal(size=(4, 2, 10)).astype(np.float32)}
    return {**observe(4, 2), **vectors, "action": action, "mask": np.ones((4, 6), bool)}


def statistics(sample: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    def of(rows: np.ndarray) -> dict[str, np.ndarray]:
        quantiles = {f"q{q:02d}": np.quantile(rows, q / 100, axis=0) for q in (1, 10, 50, 90, 99)}
        ends = {"mean": rows.mean(0), "std": rows.std(0), "min": rows.min(0), "max": rows.max(0)}
        return {**ends, **quantiles, "count": np.array([len(rows)])}

    keys = [key for key in sample if key.startswith("vector.") or key == "action"]
    return {key: of(sample[key].reshape(-1, sample[key].shape[-1]).astype(np.float64)) for key in keys}


def same(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and first.shape == second.shape and bool((first == second).all())
    return first == second


def unchanged(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return list(before) == list(after) and all(same(before[key], after[key]) for key in before)


def check_inverse(fitted: Transform, sample: dict[str, Any]) -> None:
    transformed, memo = fitted.forward(sample)
    restored = fitted.inverse(transformed["action"], memo)
    assert restored.dtype == np.float32
    assert np.abs(restored - sample["action"]).max() <= 1e-6, "the inverse does not undo the transform"


def check_inputs_stay(fitted: Transform, sample: dict[str, Any]) -> None:
    before = copy.deepcopy(sample)
    transformed, memo = fitted.forward(sample)
    assert unchanged(before, sample), "forward changes its input"
    action = np.array(transformed["action"])
    fitted.inverse(transformed["action"], memo)
    assert same(action, transformed["action"]), "inverse changes its input"


def check_batch_and_single_agree(fitted: Transform, sample: dict[str, Any]) -> None:
    together, memo = fitted.forward(sample)
    restored = fitted.inverse(together["action"], memo)
    for index in range(len(sample["action"])):
        alone, own = fitted.forward({key: value[index : index + 1] for key, value in sample.items()})
        for key in together:
            assert same(alone[key], together[key][index : index + 1]), f"{key} depends on the batch"
        assert same(fitted.inverse(alone["action"], own), restored[index : index + 1])


def check_acting_needs_no_action(fitted: Transform, sample: dict[str, Any]) -> None:
    observation = {key: value for key, value in sample.items() if key not in ("action", "mask")}
    transformed, memo = fitted.forward(observation)
    assert "action" not in transformed
    whole, _ = fitted.forward(sample)
    for key in transformed:
        assert same(transformed[key], whole[key]), f"{key} differs between training and acting"
    assert fitted.inverse(whole["action"], memo).shape == sample["action"].shape


def check_statistics_are_asked_for(transform: Transform, sample: dict[str, Any]) -> None:
    if transform.fit(statistics(sample)) == transform:
        return
    with pytest.raises(KinemaError, match="fit"):
        transform.forward(sample)
    with pytest.raises(KinemaError, match="fit"):
        transform.inverse(sample["action"], None)
    with pytest.raises(KinemaError, match="no statistics of"):
        transform.fit({})


CHECKS = (check_inverse, check_inputs_stay, check_batch_and_single_agree, check_acting_needs_no_action)
NAMES = members("transform")


@pytest.mark.parametrize("name", NAMES)
def test_every_member_is_a_transform_or_an_augmentation(name: str, configure: Configure) -> None:
    member = configure("transform", name)
    assert isinstance(member, Transform) != isinstance(member, Augmentation)
    assert to_data(from_data(to_data(member))) == to_data(member)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_transform(
    check: Callable[[Transform, dict[str, Any]], None], name: str, configure: Configure, observe: Observe
) -> None:
    transform = configure("transform", name)
    if isinstance(transform, Augmentation):
        return
    sample = training_sample(observe)
    fitted = transform.fit(statistics(sample))
    check(fitted, sample)
    check(Chain((fitted, fitted)), sample)
    check_statistics_are_asked_for(transform, sample)
    restored = from_data(to_data(fitted))
    assert unchanged(restored.forward(sample)[0], fitted.forward(sample)[0]), "JSON changes what the transform does"


@pytest.mark.parametrize("name", NAMES)
def test_augmentation(name: str, configure: Configure, observe: Observe) -> None:
    augmentation = configure("transform", name)
    if isinstance(augmentation, Transform):
        return
    sample = training_sample(observe)
    before = copy.deepcopy(sample)
    first = augmentation(sample, np.random.default_rng(3))
    assert unchanged(before, sample), "an augmentation changes its input"
    assert unchanged(first, augmentation(sample, np.random.default_rng(3)))
    assert not unchanged(first, augmentation(sample, np.random.default_rng(4))), "the generator changes nothing"
    for key, value in sample.items():
        if isinstance(value, np.ndarray):
            assert first[key].shape == value.shape and first[key].dtype == value.dtype


PLANTED = """
from dataclasses import dataclass
from kinema.core.transform import Transform

@dataclass(frozen=True, kw_only=True)
class Planted(Transform):
    in_place: bool = False
    wrong_inverse: bool = False

    def forward(self, sample):
        changed = dict(sample)
        if "action" in sample:
            changed["action"] = sample["action"] * 2
            if self.in_place:
                sample["action"][:] = 0
        return changed, None

    def inverse(self, action, memo):
        return action if self.wrong_inverse else action / 2
"""


def test_a_planted_transform_is_discovered_and_its_fault_found(
    plant: Callable[[str, str, str], None], configure: Configure, observe: Observe
) -> None:
    plant("transform", "planted", PLANTED)
    assert "planted" in members("transform")
    planted = type(configure("transform", "planted"))
    for check in CHECKS:
        check(planted(), training_sample(observe))
    with pytest.raises(AssertionError, match="forward changes its input"):
        check_inputs_stay(planted(in_place=True), training_sample(observe))
    with pytest.raises(AssertionError, match="does not undo"):
        check_inverse(planted(wrong_inverse=True), training_sample(observe))
