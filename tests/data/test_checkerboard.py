import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.data import Checkerboard, checkerboard_patterns, checkerboard_support, checkerboards


def closed_form(size, cell, row, column):
    return torch.tensor(
        [[[(-1.0) ** ((v + row) // cell + (u + column) // cell) for u in range(size)] for v in range(size)]]
    )


def test_patterns_are_the_closed_form():
    # All offsets over both periods, written out; the set, not the order, is what is promised.
    expected = {
        closed_form(8, c, a, b).numpy().tobytes() for c in (1, 2, 4) for a in range(2 * c) for b in range(2 * c)
    }
    patterns = checkerboard_patterns(8, (1, 2, 4))
    assert patterns.dtype == torch.float32
    assert len(patterns) == 2 * (1 + 4 + 16)
    assert {p.numpy().tobytes() for p in patterns} == expected


def test_every_drawn_image_is_a_pattern_and_every_pattern_is_drawn():
    patterns = checkerboard_patterns(16, (2, 4)).flatten(1)
    drawn = checkerboards(600, 16, (2, 4), seed=5).flatten(1)
    match = (drawn @ patterns.T) == 256
    assert torch.equal(match.sum(1), torch.ones(600, dtype=torch.int64))
    assert match.any(0).all()


def test_cells_and_offsets_are_uniform():
    patterns = checkerboard_patterns(16, (2, 4)).flatten(1)
    count = 4000
    hits = ((checkerboards(count, 16, (2, 4), seed=1).flatten(1) @ patterns.T) == 256).double().sum(0)
    p = torch.cat([torch.full((8,), 0.5 / 8), torch.full((32,), 0.5 / 32)]).double()
    chi2 = ((hits - count * p) ** 2 / (count * p)).sum()
    assert chi2 < 39 + 5 * (2 * 39) ** 0.5  # mean + 5 standard deviations of chi-square with 39 degrees of freedom


@settings(max_examples=20, deadline=None)
@given(size=st.sampled_from([16, 24, 32]), cell=st.sampled_from([1, 2, 4]), seed=st.integers(0, 99))
def test_values_balance_and_period(size, cell, seed):
    x = checkerboards(4, size, (cell,), seed=seed)
    assert x.shape == (4, 1, size, size)
    assert x.abs().eq(1).all()
    assert x.sum((2, 3)).eq(0).all()
    assert torch.equal(x.roll(cell, 2), -x)
    assert torch.equal(x.roll(cell, 3), -x)


@pytest.mark.parametrize(("size", "cell"), [(32, 1), (32, 2), (32, 16), (24, 3), (24, 4)])
def test_fourier_support_is_odd_multiples_of_the_fundamental(size, cell):
    spectrum = torch.fft.fft2(checkerboards(6, size, (cell,), seed=3).double()).abs()
    step = size // (2 * cell)
    odd = torch.tensor([k % step == 0 and k // step % 2 == 1 for k in range(size)])
    inside = odd[:, None] & odd
    assert spectrum[..., ~inside].max() < 1e-9
    assert spectrum[..., inside].min() > 0.5


def test_support_mask_is_where_the_patterns_have_power():
    size, cells = 24, (2, 3, 6)
    power = torch.fft.rfft2(checkerboard_patterns(size, cells).double()).abs().amax((0, 1))
    assert torch.equal(checkerboard_support(size, cells), power > 1e-9)


def test_item_depends_on_seed_and_index_only():
    data = Checkerboard(size=32, length=20, seed=4)
    batch = checkerboards(5, 32, seed=4, start=10)
    assert len(data) == 20
    assert all(torch.equal(data[10 + i], batch[i]) for i in range(5))
    assert torch.equal(pickle.loads(pickle.dumps(data))[7], data[7])
    assert not torch.equal(batch, checkerboards(5, 32, seed=5, start=10))


def test_channels_are_copies():
    x = Checkerboard(size=32, channels=3, length=2)[1]
    assert x.shape == (3, 32, 32)
    assert torch.equal(x, Checkerboard(size=32, length=2)[1].expand(3, -1, -1))


def test_no_images():
    assert checkerboards(0, 16, (2,)).shape == (0, 1, 16, 16)


@pytest.mark.parametrize(
    "make", [Checkerboard, checkerboard_patterns, checkerboard_support, lambda s, c: checkerboards(1, s, c)]
)
@pytest.mark.parametrize(
    ("size", "cells", "message"),
    [
        (24, (4, 8), r"got cells \[8\] for size 24; expected some of \[1, 2, 3, 4, 6, 12\]"),
        (16, (0,), r"got cells \[0\] for size 16"),
        (16, (-2,), r"got cells \[-2\] for size 16"),
        (15, (1,), r"for size 15"),
        (0, (1,), r"for size 0"),
        (16, (), "at least one"),
        (16, (2, 2), "distinct"),
    ],
)
def test_bad_cells(make, size, cells, message):
    with pytest.raises(ValueError, match=message):
        make(size, cells)


def test_bad_numbers():
    with pytest.raises(ValueError, match="length 0"):
        Checkerboard(length=0)
    with pytest.raises(ValueError, match="channels 0"):
        Checkerboard(channels=0)
    with pytest.raises(ValueError, match="count -1"):
        checkerboards(-1)
    with pytest.raises(IndexError, match="index 3 is out of range for 3"):
        Checkerboard(length=3)[3]
