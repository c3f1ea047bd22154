"""The long forms of what tests/evaluation checks quickly: the page's table, coverage and risk over many rates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from kinema.evaluation.clusters import cluster_bootstrap
from kinema.evaluation.intervals import Rate
from kinema.evaluation.power import power
from kinema.evaluation.rejection import rejected
from kinema.evaluation.sequential.base import characteristics, independent
from kinema.evaluation.sequential.e_process import EProcess
from kinema.evaluation.sequential.lai import Lai
from kinema.evaluation.sequential.step import Step

PAGE = Path(__file__).resolve().parents[2] / "docs" / "statistics.md"
RATES = ((0.9, 0.6), (0.85, 0.65), (0.9, 0.8))
SHARED = (0.63, 0.22, 0.02, 0.13)

pytestmark = pytest.mark.slow


def number(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")


def cell(found: float, pairs: float) -> str:
    return f"{number(found)}, {pairs:.0f}"


def row(test: Step | Lai | EProcess) -> str:
    found = [characteristics(test, chances) for chances in (*(independent(*r) for r in RATES), SHARED)]
    equal = characteristics(test, independent(0.5, 0.5))
    cells = [*(cell(c.first, c.pairs) for c in found), f"{equal.first + equal.second:.3f}".removeprefix("0")]
    return " | ".join(cells) + " |"


@pytest.mark.parametrize("kind", [Step, Lai, EProcess])
def test_the_table_is_what_is_computed(kind: type[Step] | type[Lai] | type[EProcess]) -> None:
    [line] = [x for x in PAGE.read_text("utf-8").splitlines() if x.startswith(f"| `{kind.__name__}`")]
    assert line.endswith("| " + row(kind(n_max=200)))


def test_the_fixed_test_of_the_table() -> None:
    cells = " | ".join(cell(power(*rates, 200, formula="barnard"), 200) for rates in RATES)
    assert f"| Barnard, 200 pairs fixed | {cells} |" in PAGE.read_text("utf-8")


@pytest.mark.parametrize("kind", [Step, Lai, EProcess])
@pytest.mark.parametrize("n_max", [10, 50, 200])
def test_risk_over_many_common_rates(kind: type[Step], n_max: int) -> None:
    test = kind(n_max=n_max)
    found = [characteristics(test, independent(p, p)) for p in np.linspace(0.01, 0.99, 25)]
    assert max(c.first + c.second for c in found) <= 0.05


def test_step_spends_what_it_may() -> None:
    test = Step(n_max=200, alternative="greater")
    found = [characteristics(test, independent(p, p)).first for p in np.linspace(0.06, 0.94, 45)]
    assert max(found) <= 0.05
    assert min(found) > 0.0495


@pytest.mark.parametrize("n", [10, 15, 25, 40, 80, 150])
def test_coverage_of_intervals(n: int) -> None:
    rates = np.linspace(0.001, 0.999, 1997)
    middle = (rates >= 0.1) & (rates <= 0.9)
    chance = stats.binom.pmf(np.arange(n + 1)[:, None], n, rates)
    found = {}
    for method in ("wilson", "clopper-pearson", "jeffreys"):
        ends = np.array([Rate(k, n).interval(method=method) for k in range(n + 1)])
        found[method] = (chance * ((ends[:, :1] <= rates) & (rates <= ends[:, 1:]))).sum(axis=0)
    assert found["wilson"][middle].min() > 0.91
    assert found["wilson"].min() > 0.83
    assert found["clopper-pearson"].min() >= 0.95
    assert all(0.945 < values.mean() < 0.99 for values in found.values())


@pytest.mark.parametrize(("tasks", "low", "high"), [(10, 0.88, 0.93), (20, 0.91, 0.95), (50, 0.93, 0.97)])
def test_coverage_over_tasks(tasks: int, low: float, high: float) -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(3000):
        values = rng.binomial(20, rng.beta(4, 1, tasks)) / 20
        ends = cluster_bootstrap(values, rng=rng, resamples=1000)
        hits += ends[0] <= 0.8 <= ends[1]
    assert low < hits / 3000 < high


@pytest.mark.parametrize("formula", ["fisher", "barnard", "boschloo"])
@pytest.mark.parametrize("n", [5, 33, 100, 250])
def test_size_of_exact_tests(formula: str, n: int) -> None:
    p = np.linspace(0, 1, 2001)
    region = rejected(n, formula=formula, alpha=0.05, alternative="two-sided")
    outcomes = stats.binom.pmf(np.arange(n + 1), n, p[:, None])
    assert (outcomes @ region * outcomes).sum(axis=1).max() <= 0.05 + 1e-5
