"""The stationary wavelet transform against PyWavelets, its inverse, its shifts, its energy, gradients and errors."""

import warnings

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.transforms import WaveletCoefficients, dwt, iswt, swt

DISCRETE = pywt.wavelist(kind="discrete")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def field(size: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def to_numpy(c: WaveletCoefficients) -> list:
    return [c.approximation.numpy()] + [{k: v.numpy() for k, v in level.items()} for level in c.details]


def reference(x: torch.Tensor, wavelet: str, levels: int, norm: bool) -> list:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # norm with a biorthogonal wavelet
        return pywt.swtn(x.numpy(), wavelet, levels, axes=tuple(range(2, x.ndim)), trim_approx=True, norm=norm)


def assert_equal(c: WaveletCoefficients, expected: list) -> None:
    np.testing.assert_allclose(c.approximation.numpy(), expected[0], rtol=0, atol=1e-10)
    for bands, wanted in zip(c.details, expected[1:], strict=True):
        assert list(bands) == list(wanted)
        for name, band in bands.items():
            np.testing.assert_allclose(band.numpy(), wanted[name], rtol=0, atol=1e-10, err_msg=name)


def test_every_wavelet_equals_pywavelets():
    x = field((24,))  # shorter than the longest filters, several times at level 3
    for wavelet in DISCRETE:
        c = swt(x, wavelet, levels=3)
        assert_equal(c, reference(x, wavelet, 3, norm=False))
        if wavelet != "dmey":
            torch.testing.assert_close(iswt(c), x, rtol=0, atol=1e-9, msg=wavelet)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("wavelet", ["haar", "db3", "bior1.3", "rbio2.2", "sym8"])
@pytest.mark.parametrize(("size", "levels"), [((10,), 1), ((8, 12), 2), ((16, 8), 3), ((4, 6, 8), 1), ((4, 8, 4), 2)])
def test_one_to_three_dimensions_equal_pywavelets(size, levels, wavelet, norm):
    x = field(size)
    c = swt(x, wavelet, levels, norm=norm)
    assert_equal(c, reference(x, wavelet, levels, norm))
    torch.testing.assert_close(iswt(c), x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("size", [(16,), (8, 12)])
def test_modified_coefficients_are_inverted_as_by_pywavelets(size, norm):
    c = swt(field(size), "db3", 2, norm=norm)
    c = c._replace(details=tuple({name: band.square() for name, band in level.items()} for level in c.details))
    expected = pywt.iswtn(to_numpy(c), "db3", axes=tuple(range(2, 2 + len(size))), norm=norm)
    np.testing.assert_allclose(iswt(c).numpy(), expected, rtol=0, atol=1e-10)


def test_every_other_coefficient_is_the_decimated_one():
    x = field((16,))
    stationary, decimated = swt(x, "db2"), dwt(x, "db2", levels=1, mode="periodization")
    torch.testing.assert_close(stationary.details[0]["d"][..., ::2], decimated.details[0]["d"])


@given(shift=st.integers(-9, 9), wavelet=st.sampled_from(["haar", "db4", "bior2.4"]), seed=st.integers(0, 99))
def test_shifts_with_the_field(shift, wavelet, seed):
    x = field((8, 12), seed)
    shifted = swt(x.roll(shift, -1), wavelet, levels=2)
    for (_, _, band), (_, _, moved) in zip(swt(x, wavelet, levels=2).subbands(), shifted.subbands(), strict=True):
        torch.testing.assert_close(moved, band.roll(shift, -1))


@pytest.mark.parametrize("wavelet", ["haar", "db4", "sym5", "coif2"])
@pytest.mark.parametrize("size", [(16,), (8, 12), (4, 8, 4)])
def test_norm_keeps_the_energy(size, wavelet):
    x = field(size)
    kept = sum(band.square().sum() for _, _, band in swt(x, wavelet, 2, norm=True).subbands())
    torch.testing.assert_close(kept, x.square().sum(), rtol=1e-8, atol=0)
    plain = sum(band.square().sum() for _, _, band in swt(x, wavelet, 1).subbands())
    torch.testing.assert_close(plain, 2 ** len(size) * x.square().sum(), rtol=1e-8, atol=0)


@given(a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_linear(a, b):
    x, y = field((8, 4), 1), field((8, 4), 2)
    mixed = swt(a * x + b * y, "db3", 2).subbands()
    for (_, _, whole), (_, _, first), (_, _, second) in zip(
        mixed, swt(x, "db3", 2).subbands(), swt(y, "db3", 2).subbands(), strict=True
    ):
        torch.testing.assert_close(whole, a * first + b * second, rtol=0, atol=1e-10)


def test_gradients():
    x = field((4, 6))[:1, :1].requires_grad_()

    def bands(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(band for _, _, band in swt(x, "db2").subbands())

    torch.autograd.gradcheck(bands, (x,))
    torch.autograd.gradcheck(lambda x: iswt(swt(x, "db2")) * x, (x,))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_precision(device, dtype):
    x = field((8, 12)).to(device, dtype)
    with torch.autocast(device_type=device, dtype=torch.bfloat16):
        c = swt(x, "db2", levels=2)
    for (_, _, band), (_, _, expected) in zip(c.subbands(), swt(x.double(), "db2", levels=2).subbands(), strict=True):
        assert band.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(band.double(), expected, rtol=0, atol=1e-5)


def test_bad_input():
    with pytest.raises(TypeError, match=r"real floating-point tensor, got torch.int64"):
        swt(torch.zeros(1, 1, 8, dtype=torch.int64))
    with pytest.raises(ValueError, match="unknown wavelet: got 'harr'"):
        swt(torch.zeros(1, 1, 8), "harr")
    with pytest.raises(ValueError, match="levels must be at least 1, got 0"):
        swt(torch.zeros(1, 1, 8), levels=0)
    with pytest.raises(ValueError, match=r"3 level\(s\) needs sides divisible by 8, got .* \(8, 12\).*at most 2 level"):
        swt(torch.zeros(1, 1, 8, 12), levels=3)
    with pytest.raises(ValueError, match=r"divisible by 2, got a field of size \(7,\); crop or pad it, or use dwt"):
        swt(torch.zeros(1, 1, 7))


def test_bad_coefficients():
    c = swt(torch.zeros(1, 1, 8), levels=2)
    with pytest.raises(ValueError, match="decimated transform; invert them with idwt"):
        iswt(dwt(torch.zeros(1, 1, 8)))
    with pytest.raises(ValueError, match=r"sub-band 'd' of level 1 must have shape \(1, 1, 8\)"):
        iswt(c._replace(details=(c.details[0], {"d": torch.zeros(1, 1, 4)})))
