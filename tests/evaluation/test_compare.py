import pytest

from kinema.core.errors import KinemaError
from kinema.evaluation.compare import Comparison, holm, paired


def test_paired_counts_each_cell():
    table = paired([True, True, False, False, True], [True, False, True, False, False])
    assert table == Comparison(both=1, only_first=2, only_second=1, neither=1)
    assert table.n == 5
    assert table.difference == pytest.approx(1 / 5)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(5, 0, 2 / 32), (0, 6, 2 / 64), (4, 1, 12 / 32), (3, 3, 1.0), (0, 0, 1.0), (10, 2, 158 / 4096)],
)
def test_exact_mcnemar_by_hand(only_first, only_second, p):
    """(10, 2): 2 * (C(12,0) + C(12,1) + C(12,2)) / 2^12 = 2 * 79 / 4096."""
    assert Comparison(both=7, only_first=only_first, only_second=only_second, neither=3).p_value == pytest.approx(p)


def test_pairs_must_match():
    with pytest.raises(KinemaError, match="cannot pair 2 with 1"):
        paired([True, False], [True])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
