"""Which differences are called: the simultaneous level, the noise floor, and the smallest difference."""

import pytest
import torch
from scipy import stats

from passband.metrics.contrast import Family, as_student, decide


def spread(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def family(difference, replicates, *, least=0.0, halves=None, half_replicates=None, name="power"):
    labels = (tuple(str(i) for i in range(difference.shape[-1])),)
    shown = (name, "dB", ("band",), labels, least, difference, difference, difference)
    return Family(*shown, replicates, halves, half_replicates)


def test_about_five_in_a_hundred_experiments_call_anything():
    """The true differences are 0: what is measured is one more draw of the same noise."""
    called = 0
    for seed in range(400):
        drawn = spread(201, 12, seed=seed)
        called += bool(decide([family(drawn[0], drawn[0] + drawn[1:])]).contrasts["power"].different.any())
    assert 8 <= called <= 34  # 20 expected; three standard deviations


def test_families_are_decided_together():
    one, other = spread(400, 5), spread(400, 50, seed=1)
    zero = torch.zeros(5, dtype=torch.float64), torch.zeros(50, dtype=torch.float64)
    alone = decide([family(zero[0], one)]).factor
    together = decide([family(zero[0], one), family(zero[1], other, name="other")])
    assert 2.2 < alone < 2.9 < together.factor < 3.7
    assert set(together.contrasts) == {"power", "other"}


def test_the_floor_of_the_halves_holds_a_difference_back():
    shift = torch.tensor([1.0, 1.0], dtype=torch.float64)
    replicates = shift + 0.01 * spread(300, 2)
    wide = torch.tensor([1.0, 0.01], dtype=torch.float64) * spread(300, 2, seed=1)
    found = decide([family(shift, replicates, halves=shift, half_replicates=wide)]).contrasts["power"]
    assert found.different.tolist() == [False, True]
    assert float(found.floor[0]) > 1.5
    assert torch.equal(found.halves, shift)


def test_what_is_certain_but_small_is_not_called():
    shift = torch.tensor([0.05, 0.2, -0.2], dtype=torch.float64)
    found = decide([family(shift, shift + 1e-4 * spread(300, 3), least=0.1)]).contrasts["power"]
    assert found.different.tolist() == [False, True, True]


def test_identical_sets_are_the_same():
    zero = torch.zeros(4, dtype=torch.float64)
    found = decide([family(zero, torch.zeros(50, 4, dtype=torch.float64))]).contrasts["power"]
    assert not found.different.any()
    assert found.low.tolist() == [0.0] * 4


@pytest.mark.parametrize("freedom", [4, 10, 50, 1000])
@pytest.mark.parametrize("normal", [1.0, 1.96, 3.2])
def test_quantiles_of_student(freedom, normal):
    exact = stats.t.isf(stats.norm.sf(normal), freedom)
    assert as_student(normal, freedom) == pytest.approx(exact, rel=0.04 if freedom < 10 else 0.01)


def test_few_groups_make_wider_intervals():
    zero = torch.zeros(3, dtype=torch.float64)
    drawn = spread(300, 3)
    few, many = (decide([family(zero, drawn)], groups=groups) for groups in (5.0, float("inf")))
    assert few.factor == as_student(many.factor, 4)
    assert few.factor > 1.4 * many.factor


@pytest.mark.parametrize("groups", [1.0, 2.0])
def test_of_one_or_two_groups_nothing_is_known(groups):
    shift = torch.tensor([9.0], dtype=torch.float64)
    decision = decide(
        [family(shift, shift.expand(50, 1), halves=shift, half_replicates=shift.expand(50, 1))], groups=groups
    )
    found = decision.contrasts["power"]
    assert decision.factor == float("inf")
    assert (found.low.tolist(), found.high.tolist()) == ([-float("inf")], [float("inf")])
    assert not found.different.any()


def test_where_replicates_are_missing_nothing_is_called():
    shift = torch.tensor([5.0, 5.0], dtype=torch.float64)
    replicates = shift + 0.1 * spread(100, 2)
    replicates[:60, 0] = torch.nan
    found = decide([family(shift, replicates)]).contrasts["power"]
    assert found.different.tolist() == [False, True]
    assert float(found.error[0]) == float("inf")


def test_rows_name_each_cell():
    drawn = spread(50, 3)
    found = decide([family(drawn[0], drawn)]).contrasts["power"]
    assert list(found.rows()) == [(("0",), (0,)), (("1",), (1,)), (("2",), (2,))]
