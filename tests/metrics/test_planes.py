"""The shared transforms of a batch against NumPy and PyWavelets."""

import numpy as np
import pytest
import pywt
import torch

from passband.metrics import Planes
from passband.metrics.planes import wavelet_levels
from passband.transforms import taper_window


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def numpy_power(plane: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Power of one plane at every frequency, as its definition says."""
    plane = plane.astype(float)
    tapered = window * (plane - (window * plane).sum() / window.sum())
    return np.abs(np.fft.rfftn(tapered)) ** 2 / plane.size


@pytest.mark.parametrize("size", [(16, 12), (9, 7), (31,)])
@pytest.mark.parametrize("taper", ["hann", "none"])
def test_power_of_every_plane_is_that_of_its_own_picture(size: tuple[int, ...], taper: str) -> None:
    x = noise(2, 3, *size)
    planes, window = Planes(x, taper=taper), taper_window(size, taper).numpy()
    red, green, blue = x.numpy().swapaxes(0, 1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    pictures = [red, green, blue, luma, (blue - luma) / 1.772, (red - luma) / 1.402]  # ITU-R BT.601
    expected = np.stack([np.stack([numpy_power(each, window) for each in picture]) for picture in pictures], 1)
    assert planes.names == ("red", "green", "blue", "luma", "Cb", "Cr")
    np.testing.assert_allclose(planes.power.numpy(), expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(planes.gray.numpy(), luma, atol=1e-6)
    np.testing.assert_allclose(planes.gray_power.numpy(), expected[:, 3], rtol=1e-3, atol=1e-5)


def test_only_colour_images_have_luma() -> None:
    latents = Planes(x := noise(2, 3, 8, 8), kind="latents")
    assert latents.names == ("1", "2", "3", "all")
    torch.testing.assert_close(latents.gray, x.mean(1))
    torch.testing.assert_close(latents.gray_spectrum, latents.spectrum.mean(1))
    single = Planes(noise(2, 1, 8, 8))
    assert single.names == ("1",)
    torch.testing.assert_close(single.gray_power, single.power[:, 0])


@pytest.mark.parametrize("size", [(32, 48), (37, 50), (70,)])
def test_subbands_are_pywavelets_and_know_nothing_of_what_lies_outside(size: tuple[int, ...]) -> None:
    """Cut out of a larger field, where they meet its positions: what surrounds the cut must not matter."""
    offset, levels = 64, wavelet_levels(size)
    assert levels >= 1
    large = noise(1, 1, *(n + 2 * offset + n % 2 for n in size)).double()
    inner = large[(0, 0, *(slice(offset, offset + n) for n in size))]
    found = Planes(inner[None, None]).subbands
    reference = pywt.wavedecn(large[0, 0].numpy(), "db2", mode="periodization", level=levels)
    assert len(found) == levels
    for level, bands in enumerate(found, start=1):
        names = ("d",) if len(size) == 1 else ("ad", "da", "dd")
        places = tuple(slice((offset >> level) + 1, (offset >> level) + (n >> level) - 1) for n in size)
        expected = np.stack([reference[-level][name][places] for name in names])
        np.testing.assert_allclose(bands[0].numpy(), expected, atol=1e-5)


def test_periodic_fields_keep_all_coefficients() -> None:
    x = noise(1, 1, 16, 16)
    (band,) = Planes(x, taper="none").subbands
    _, details = pywt.wavedecn(x[0, 0].numpy(), "db2", mode="periodization", level=1)
    np.testing.assert_allclose(band[0].numpy(), np.stack([details[name] for name in ("ad", "da", "dd")]), atol=1e-6)


@pytest.mark.parametrize(("size", "levels"), [((8, 8), 0), ((15, 64), 0), ((16, 16), 1), ((256, 256), 5), ((100,), 3)])
def test_levels_stop_at_subbands_of_eight(size: tuple[int, ...], levels: int) -> None:
    assert wavelet_levels(size) == levels
    assert len(Planes(torch.zeros(1, 1, *size)).subbands) == levels


def test_bad_samples_are_refused() -> None:
    with pytest.raises(TypeError, match=r"tiles must be a real floating-point tensor, got torch\.uint8"):
        Planes(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), name="tiles")
    with pytest.raises(ValueError, match="1 or 2 spatial"):
        Planes(torch.zeros(1, 3, 8, 8, 8))
    with pytest.raises(ValueError, match=r"unknown kind of samples: got 'image' .*did you mean 'images'"):
        Planes(torch.zeros(1, 3, 8, 8), kind="image")
