"""The learning rate, against its formulas."""

import itertools
import math

import pytest

from passband.training.schedule import learning_rate
from passband.training.sections import OptimizerSettings


def rates(steps, **settings) -> list[float]:
    return [learning_rate(OptimizerSettings(lr=0.5, **settings), step) for step in steps]


def test_constant():
    assert rates(range(5)) == [0.5] * 5


def test_warm_up_reaches_the_rate_at_its_last_step():
    assert rates(range(6), warmup_steps=4) == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_falls_from_the_rate_to_zero_after_the_warm_up(schedule: str):
    found = rates(range(4, 25), warmup_steps=4, schedule=schedule, decay_steps=20)
    middle = found[8]
    assert found[0] == 0.5
    assert found[16:] == pytest.approx([0] * 5, abs=1e-12)
    assert middle == pytest.approx(0.25)
    quarter = 0.75 if schedule == "linear" else 0.5 * (1 + math.cos(math.pi / 4))
    assert found[4] == pytest.approx(0.5 * quarter)
    assert all(now <= before for before, now in itertools.pairwise(found))


def test_inverse_square_root_starts_where_it_is_told():
    found = rates([0, 99, 100, 400], schedule="inverse_sqrt", decay_steps=100)
    assert found == pytest.approx([0.5, 0.5, 0.5, 0.25])


def test_a_schedule_needs_its_length():
    with pytest.raises(ValueError, match="needs decay_steps"):
        OptimizerSettings(schedule="cosine")
