"""Writes step.npz: 500 streams and what the authors' own STEP says of them.

`python tests/goldens/make_step.py` in an environment of its own with sequentialized-barnard-tests 0.0.9.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sequentialized_barnard_tests import Decision, Hypothesis, StepTest

HERE = Path(__file__).resolve().parent
N_MAX, ALPHA = 200, 0.05
RATES = (
    (0.5, 0.5),
    (0.85, 0.65),
    (0.7, 0.5),
    (0.3, 0.1),
    (0.9, 0.85),
    (0.9, 0.6),
    (0.1, 0.1),
    (0.95, 0.8),
    (0.6, 0.5),
    (0.9, 0.4),
)


def main() -> None:
    rng = np.random.default_rng(20250310)
    rates = np.array([RATES[i % len(RATES)] for i in range(500)])
    streams = rng.random((500, N_MAX, 2)) < rates[:, None, :]
    test = StepTest(alternative=Hypothesis.P0MoreThanP1, n_max=N_MAX, alpha=ALPHA, random_seed=0)
    test.load_existing_policy()  # the constructor of 0.0.9 does not find the policy that the package brings along
    assert test.policy is not None
    stopped = np.array([stopping_pair(test, stream) for stream in streams])
    np.savez_compressed(
        HERE / "step.npz",
        rates=rates,
        streams=np.packbits(streams),
        stopped=stopped.astype(np.int16),
        n_max=N_MAX,
        alpha=ALPHA,
    )


def stopping_pair(test: StepTest, stream: np.ndarray) -> int:
    """Return after which pair the first was found better, 0 for never."""
    test.reset()
    for n, (first, second) in enumerate(stream, start=1):
        if test.step(bool(first), bool(second)).decision == Decision.AcceptAlternative:
            return n
    return 0


if __name__ == "__main__":
    main()
