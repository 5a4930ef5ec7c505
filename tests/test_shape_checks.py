"""The run-time shape checks that conftest.py switches on do check, and step aside for tests of bad input."""

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.transforms import rfftn


def wrong_rank_error() -> type[Exception]:
    try:
        rfftn(torch.zeros(8))
    except (TypeError, ValueError) as error:
        return type(error)
    raise AssertionError("a field without batch and channels was accepted")


def test_annotations_are_checked():
    assert wrong_rank_error() is jaxtyping.TypeCheckError


@pytest.mark.bad_input
def test_marked_tests_meet_the_library_s_own_error():
    assert wrong_rank_error() is ValueError


def test_tests_that_expect_errors_are_marked():
    with pytest.raises(ValueError, match="batch, channels"):
        rfftn(torch.zeros(8))


@given(st.integers(1, 8))
def test_hypothesis_tests_that_expect_errors_are_marked(size):
    with pytest.raises(ValueError, match="batch, channels"):
        rfftn(torch.zeros(size))
