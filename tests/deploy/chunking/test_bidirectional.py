import numpy as np
import pytest

from kinema.core.errors import KinemaError
from kinema.deploy.chunking.bidirectional import Bidirectional
from kinema.deploy.chunking.receding_horizon import RecedingHorizon


def sides(step, entry, seed):
    """Half of the seeds go left, half right, always; a little noise tells them apart."""
    rng = np.random.default_rng(seed)
    return rng.choice([-1.0, 1.0]) * np.full((8, 2), 500.0) + rng.normal(size=(8, 2))


def flips(policy, execute, batch=60, every=4):
    """Return how often an episode's second chunk is on the other side than its first."""
    policy.reset(range(batch), seeds=range(batch))
    side = np.sign(execute(policy, 2 * every, batch=batch)[:, :, 0])
    return float((side[0] != side[every]).mean())


def test_it_stays_on_its_side(scripted, execute):
    assert flips(Bidirectional(exec_horizon=4).wrap(scripted(sides)), execute) <= 0.05
    assert 0.3 < flips(Bidirectional(exec_horizon=4, decay=0.0).wrap(scripted(sides)), execute) < 0.7


def test_without_coherence_and_contrast_it_is_the_policy_itself(scripted, execute):
    """The first sample is what the seed alone gives, and with equal scores the first is taken."""
    rule, plain = Bidirectional(exec_horizon=4, decay=0.0, samples=16), Bidirectional(exec_horizon=4, samples=16)
    policies = [chosen.wrap(scripted(sides)) for chosen in (rule, plain)]
    for policy in policies:
        policy.reset([0], seeds=[3])
    done = [execute(policy, 12)[:, 0] for policy in policies]
    seeds = policies[0].policy.seeds[::16]
    wanted = np.concatenate([sides(0, 0, seed)[:4] for seed in seeds]).astype(np.float32)
    np.testing.assert_array_equal(done[0], wanted)
    assert np.abs(done[1] - wanted).max() > 1.0


def test_the_score_by_hand(scripted, execute):
    """The old chunk goes on at 0; sample k is away from it by k at one step of the overlap, which rho discounts."""
    levels = {}

    def chunk(step, entry, seed):
        rows = np.zeros((4, 2))
        if step:
            place = levels.setdefault(seed, len(levels))
            rows[:] = 7.0  # beyond the overlap nothing counts
            rows[:2] = 0.0
            rows[place] = [300.0, 400.0][place]
        return rows

    # 300 at the next step: rho 0.3^2 = 0.045; 400 one step later: rho^2 0.4^2 = 0.04. The second is nearer.
    done = execute(Bidirectional(samples=2, exec_horizon=2, decay=0.5).wrap(scripted(chunk)), 4)[:, 0, 0]
    np.testing.assert_array_equal(done, [0, 0, 0, 400])
    levels.clear()
    done = execute(Bidirectional(samples=2, exec_horizon=2, decay=1.0).wrap(scripted(chunk)), 4)[:, 0, 0]
    np.testing.assert_array_equal(done, [0, 0, 300, 0])


def test_contrast_prefers_what_a_weaker_policy_does_not_do(scripted, execute):
    weak = scripted(lambda step, entry, seed: np.full((8, 2), -500.0))
    policy = Bidirectional(exec_horizon=4, decay=0.0, contrast=1.0).wrap(scripted(sides), weak=weak)
    policy.reset(range(40), seeds=range(40))
    assert (execute(policy, 4, batch=40)[0, :, 0] > 0).all()


def test_misfits_are_refused(scripted, labelled):
    inner = scripted(labelled(8))
    with pytest.raises(KinemaError, match=r"contrast 1\.0: above 0 it needs a weaker policy"):
        Bidirectional(contrast=1.0).wrap(inner)
    with pytest.raises(KinemaError, match="another interface or pred_horizon"):
        Bidirectional(contrast=1.0).wrap(inner, weak=scripted(labelled(6)))
    with pytest.raises(KinemaError, match="exec_horizon 9: expected 1 to 8"):
        Bidirectional(exec_horizon=9).wrap(inner)
    for rule in (Bidirectional(decay=1.5), Bidirectional(samples=1), Bidirectional(contrast=-1.0)):
        with pytest.raises(KinemaError, match=r"must lie in \[0, 1\]"):
            rule.wrap(inner)
    with pytest.raises(KinemaError, match="RecedingHorizonPolicy only acts step after step"):
        Bidirectional().wrap(RecedingHorizon().wrap(inner))
