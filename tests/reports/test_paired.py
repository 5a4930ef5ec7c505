"""Paired comparisons over seeds."""

import pytest
from scipy import stats

from passband.reports.paired import Estimate, is_clear, student_t


@pytest.mark.parametrize("freedom", [1, 2, 5, 10, 11, 15, 40, 1000])
def test_student_t_is_scipys(freedom: int):
    assert student_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-3)


def test_what_is_clear():
    assert is_clear(Estimate(-4.4, 1.0, 3))
    assert not is_clear(Estimate(-4.2, 1.0, 3))
    assert is_clear(Estimate(2.3, 1.0, 11))
    assert not is_clear(Estimate(100.0, None, 1))
    assert is_clear(Estimate(0.1, 0.0, 2))
