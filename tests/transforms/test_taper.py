"""The taper against SciPy's window, and what it is for: steps at the edges stay out of the spectrum."""

import pytest
import torch
from scipy.signal.windows import hann

from passband.transforms import gaussian_blur, radial_psd, rfftn, taper, taper_window


@pytest.mark.parametrize("size", [(16,), (7,), (1,), (8, 5), (4, 6, 3)])
@pytest.mark.parametrize("kind", ["hann", "none"])
def test_white_noise_keeps_its_power(size: tuple[int, ...], kind: str) -> None:
    window = taper_window(size, kind)
    assert tuple(window.shape) == size
    assert float(window.square().mean()) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("length", [8, 9, 33])
def test_the_window_is_scipys_between_its_points(length: int) -> None:
    expected = torch.from_numpy(hann(2 * length + 1)[1::2])  # symmetric, and nowhere 0
    window = taper_window((length,))
    torch.testing.assert_close(window / window.max(), expected / expected.max())
    plane = taper_window((length, 6))
    torch.testing.assert_close(plane, window[:, None] * taper_window((6,)))


def test_a_constant_leaves_nothing_and_the_mean_does_not_matter() -> None:
    x = torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(taper(torch.full_like(x, 7.0)).abs().max()) < 1e-14
    torch.testing.assert_close(taper(x + 100), taper(x), atol=1e-12, rtol=0)
    torch.testing.assert_close(taper(x).sum((2, 3)), x.new_zeros(2, 3), atol=1e-12, rtol=0)
    torch.testing.assert_close(taper(x, "none"), x - x.mean((2, 3), keepdim=True))


def test_mirrored_fields_have_the_same_power() -> None:
    x = torch.randn(1, 1, 9, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(rfftn(taper(x.flip(-1, -2))).abs(), rfftn(taper(x)).abs())


def test_a_blur_reads_as_what_it_is_on_fields_that_are_not_periodic() -> None:
    """Power that falls with the square of the frequency, as a random walk's, hides the blur without a taper."""
    walk = torch.randn(400, 1, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(-1)
    inside, blurred = walk[..., 16:-16], gaussian_blur(walk, 0.5)[..., 16:-16]
    frequency = torch.arange(30, 47).double() / 96
    taps = torch.exp(torch.tensor([0.0, -2.0, -8.0], dtype=torch.float64))  # sigma 0.5: 3 taps on each side, cut at 2
    gain = (taps[0] + 2 * sum(taps[k] * torch.cos(2 * torch.pi * k * frequency) for k in (1, 2))) / (
        taps[0] + 2 * taps[1:].sum()
    )
    expected = 20 * gain.log10()
    read = {
        kind: 10
        * (radial_psd(taper(blurred, kind)).mean(0)[0] / radial_psd(taper(inside, kind)).mean(0)[0])[30:47].log10()
        for kind in ("hann", "none")
    }
    assert float((read["hann"] - expected).abs().max()) < 0.15
    assert float((read["none"] - expected).abs().max()) > 0.5


def test_half_precision_is_computed_in_float32() -> None:
    assert taper(torch.randn(1, 1, 8, 8, dtype=torch.bfloat16)).dtype == torch.float32
    assert taper(torch.randn(1, 1, 8, 8, dtype=torch.float64)).dtype == torch.float64


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(ValueError, match=r"unknown taper: got 'han' \(did you mean 'hann'\?\)"):
        taper(torch.zeros(1, 1, 8), "han")
    with pytest.raises(ValueError, match="positive side lengths"):
        taper_window((0, 4))
