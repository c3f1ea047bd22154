"""Writes survival.npz with lifelines 0.30: `python tests/goldens/make_survival.py`, in an environment of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from lifelines import KaplanMeierFitter
from lifelines.statistics import logrank_test

HERE = Path(__file__).resolve().parent


def main() -> None:
    rng = np.random.default_rng(4)
    steps = np.ceil(rng.exponential(120, (2, 60)) * np.array([[1.0], [1.6]]))
    success = steps < rng.integers(60, 260, (2, 60))
    fitted = KaplanMeierFitter(alpha=0.05).fit(steps[0], success[0])
    curve, ends = fitted.survival_function_, fitted.confidence_interval_
    test = logrank_test(steps[0], steps[1], success[0], success[1])
    np.savez_compressed(
        HERE / "survival.npz",
        steps=steps, success=success, times=curve.index.to_numpy(), remaining=curve.iloc[:, 0].to_numpy(),
        low=ends.iloc[:, 0].to_numpy(), high=ends.iloc[:, 1].to_numpy(), median=fitted.median_survival_time_,
        logrank=test.p_value,
    )  # fmt: skip


if __name__ == "__main__":
    main()
