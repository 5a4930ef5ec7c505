"""How kernels are launched."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband._triton import block_size, cdiv, even_block, launch, power_of_two, strides

CPU = torch.device("cpu")


class Kernel:
    """Writes down how it is launched."""

    def __init__(self):
        self.calls = []

    def __getitem__(self, programs):
        return lambda *arguments, **options: self.calls.append((programs, arguments, options))


def test_one_axis_of_programs_with_or_without_fused_products():
    kernel = Kernel()
    launch(kernel, 70_000, CPU, 1, 2, BLOCK=64)
    launch(kernel, 1, CPU, fused=False)
    assert kernel.calls == [
        ((70_000,), (1, 2), {"BLOCK": 64, "enable_fp_fusion": True}),
        ((1,), (), {"enable_fp_fusion": False}),
    ]


def test_nothing_is_launched_for_nothing():
    kernel = Kernel()
    launch(kernel, 0, CPU)
    assert kernel.calls == []


def test_too_many_programs_are_an_error():
    with pytest.raises(ValueError, match="at most 2\\^31 - 1 programs, got 2147483648"):
        launch(Kernel(), 2**31, CPU)


@given(st.integers(0, 2**34), st.integers(0, 5), st.integers(5, 11))
def test_blocks_cover_with_little_left_over(n, smallest, largest):
    for size in (block_size(n, 2**smallest, 2**largest), even_block(n, 2**smallest, 2**largest)):
        assert size == power_of_two(size)
        assert 2**smallest <= size <= 2**largest
        assert cdiv(n, size) * size >= n
    even = even_block(n, 2**smallest, 2**largest)
    assert even == 2**smallest or 4 * (cdiv(n, even) * even - n) <= n


@pytest.mark.parametrize(("n", "power"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (2**31 + 1, 2**32)])
def test_power_of_two(n, power):
    assert power_of_two(n) == power


def test_strides_of_a_signal_have_a_row():
    assert strides(torch.empty(2, 3, 4, 5)) == (60, 20, 5, 1)
    assert strides(torch.empty(2, 3, 5).transpose(1, 2)) == (15, 1, 0, 5)
