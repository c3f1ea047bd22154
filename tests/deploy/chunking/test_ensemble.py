from dataclasses import replace

import numpy as np
import pytest

from kinema.actions import poses
from kinema.actions.rotations import columns_6d, exp
from kinema.core.errors import KinemaError
from kinema.deploy.chunking.ensemble import Ensemble, average


@pytest.mark.parametrize(
    ("decay", "order", "expected"),
    [
        (0.01, "oldest_first", 2.48750),
        (0.01, "newest_first", 2.51250),
        (0.1, "oldest_first", 2.37535),
        (1.0, "oldest_first", 1.50735),
        (0.0, "oldest_first", 2.5),
    ],
)
def test_weights_by_hand(decay, order, expected):
    predictions = np.array([[1.0], [2.0], [3.0], [4.0]])  # oldest to newest
    assert average(predictions, Ensemble(decay=decay, order=order))[0] == pytest.approx(expected, abs=5e-6)


def test_the_oldest_of_a_hundred_counts_most():
    basis = np.eye(100)
    weights = average(basis, Ensemble())
    assert weights[0] / weights[-1] == pytest.approx(np.exp(0.99))  # 2.691
    assert np.sqrt((weights**2).sum()) == pytest.approx(0.104, abs=5e-4)  # what independent noise shrinks to


def played(chunks):
    """Return a chunk function that gives `chunks` (T, B, H, A) in order."""
    return lambda step, entry, seed: chunks[step, entry]


@pytest.mark.parametrize("decay", [0.0, 0.01, 0.1, 1.0])
def test_equal_to_lerobots_ensembler(scripted, execute, lerobot, decay):
    chunks = lerobot["chunks"]
    policy = Ensemble(decay=decay).wrap(scripted(played(chunks), width=3))
    done = execute(policy, len(chunks), batch=2)
    np.testing.assert_allclose(done, lerobot[f"ensemble/{decay}"], atol=1e-6)


@pytest.mark.parametrize("order", ["oldest_first", "newest_first"])
def test_online_is_the_average_over_all_predictions_of_a_step(scripted, execute, order):
    chunks = np.random.default_rng(0).normal(size=(20, 1, 6, 2)).astype(np.float32)
    done = execute(Ensemble(decay=0.3, order=order).wrap(scripted(played(chunks))), 20)[:, 0]
    for step in range(20):
        made = range(max(0, step - 5), step + 1)
        weights = {query: np.exp(-0.3 * place) for place, query in enumerate(made)}
        if order == "newest_first":
            weights = {query: np.exp(-0.3 * (step - query)) for query in made}
        wanted = sum(w * chunks[query, 0, step - query] for query, w in weights.items()) / sum(weights.values())
        np.testing.assert_allclose(done[step], wanted, atol=1e-6)


def test_a_prediction_of_exactly_zero_counts(scripted, execute):
    chunks = np.ones((4, 1, 4, 2), np.float32)
    chunks[0] = 0.0
    done = execute(Ensemble(decay=0.0).wrap(scripted(played(chunks))), 4)[:, 0, 0]
    np.testing.assert_allclose(done, [0, 1 / 2, 2 / 3, 3 / 4], atol=1e-6)


def test_it_asks_at_every_step(scripted, labelled, execute):
    inner = scripted(labelled(4))
    execute(Ensemble().wrap(inner), 7)
    assert inner.asked == [[step] for step in range(7)]


def test_a_new_episode_forgets_the_one_before(scripted, execute):
    chunks = np.random.default_rng(1).normal(size=(12, 2, 4, 2)).astype(np.float32)
    inner = scripted(played(chunks))
    fresh = execute(Ensemble().wrap(inner), 5, batch=2)
    policy = Ensemble().wrap(inner)
    execute(policy, 3, batch=2)
    policy.reset([1], seeds=[7])
    assert inner.resets[-1] == ([1], [7])
    again = execute(policy, 5, batch=2)
    np.testing.assert_array_equal(again[:, 1], fresh[:, 1])
    assert np.abs(again[0, 0] - fresh[0, 0]).max() > 0.01


def test_what_cannot_be_averaged_is_refused(scripted, labelled):
    inner = scripted(labelled(4))
    with pytest.raises(KinemaError, match=r"decay -0\.01: expected 0 or more; .* newest_first"):
        Ensemble(decay=-0.01).wrap(inner)
    inner.spec = replace(inner.spec, action=replace(inner.spec.action, rotation="quaternion wxyz"))
    with pytest.raises(KinemaError, match="'quaternion wxyz' cannot be averaged"):
        Ensemble().wrap(inner)
    inner.spec = replace(inner.spec, action=replace(inner.spec.action, rotation=poses.LAYOUT))
    with pytest.raises(KinemaError, match="no components r11, r21, r31, r12, r22, r32 in a, b"):
        Ensemble().wrap(inner)


@pytest.mark.parametrize("prefix", ["", "left "])
def test_averaged_rotations_are_rotations(scripted, execute, prefix):
    """Of no turn and a quarter turn about z, in equal parts, the columns' mean is an eighth turn, but too short."""
    turned = exp(np.array([0.0, 0.0, np.pi / 2]))
    rows = np.array([[5.0, *columns_6d(np.eye(3)), 7.0], [9.0, *columns_6d(turned), 3.0]])
    inner = scripted(lambda step, entry, seed: np.tile(rows[step], (2, 1)), width=8)
    components = ("x", *(prefix + name for name in poses.COMPONENTS[3:]), "width")
    inner.spec = replace(inner.spec, action=replace(inner.spec.action, components=components, rotation=poses.LAYOUT))
    done = execute(Ensemble(decay=0.0).wrap(inner), 2)[:, 0]
    np.testing.assert_allclose(done[0], rows[0], atol=1e-6)
    np.testing.assert_allclose(done[1], [7.0, *columns_6d(exp(np.array([0.0, 0.0, np.pi / 4]))), 5.0], atol=1e-6)


def test_an_unknown_order_is_refused():
    with pytest.raises(KinemaError, match="unknown order 'oldest-first'; did you mean 'oldest_first'"):
        Ensemble(order="oldest-first")
