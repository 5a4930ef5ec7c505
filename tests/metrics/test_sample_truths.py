"""The whole chain from samples to what is called different, on sets whose difference is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from passband.metrics import SampleComparison, SampleSpectrum, compare_samples
from passband.transforms import gaussian_blur, half_weights, radial_bins

PHOTOS = (
    "Picture_0B_by_freespace",
    "Picture_1A_by_freespace",
    "free_by_Peter_Nerlich",
    "friends_by_Aitzol_Berasategi",
    "greentock_by_Peter_Nerlich",
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def power_law(count: int, size: int, beta: float, seed: int = 0) -> torch.Tensor:
    """Fields of power f^-beta and unit variance, cut out of larger ones, so that they are not periodic."""
    large = 2 * size
    square = torch.fft.fftfreq(large)[:, None].square() + torch.fft.rfftfreq(large).square()
    square[0, 0] = torch.inf if beta else 1.0
    field = torch.fft.irfft2(torch.fft.rfft2(noise(count, 1, large, large, seed=seed)) * square ** (-beta / 4))
    return (field / field.std())[..., :size, :size]


def compared(real: torch.Tensor, fake: torch.Tensor, paired: bool = False, **options: object) -> SampleComparison:
    sets = [SampleSpectrum(name, **options) for name in ("real", "fake")]
    for number, (samples, x) in enumerate(zip(sets, (real, fake), strict=True)):
        samples.update(x, [f"{0 if paired else number}-{i}" for i in range(len(x))])
    return compare_samples(*sets)


@pytest.mark.parametrize("beta", [1.0, 2.0, 3.0])
def test_the_exponent_of_a_power_law_field_is_found(beta: float) -> None:
    law = compared(power_law(200, 64, beta, seed=1), power_law(200, 64, beta, seed=2)).law
    assert law.real.exponent == pytest.approx(beta, abs=0.05)
    assert law.fake.exponent == pytest.approx(beta, abs=0.05)
    assert law.real.error < 0.025


def test_white_noise_is_found_in_its_octaves_with_its_size() -> None:
    level = 0.5
    real, fake = power_law(200, 64, 2.0, seed=1), power_law(200, 64, 2.0, seed=2)
    octaves = compared(real, fake + level * noise(*fake.shape, seed=3)).contrasts["octaves"]
    expected = 10 * torch.log10(1 + level**2 / octaves.reference[0])  # white noise of variance 1 has power 1
    found, different = octaves.difference[0], octaves.different[0]
    assert expected[0] > 2
    assert expected[1] > 0.5
    assert expected[3] < 0.1
    torch.testing.assert_close(found[:3], expected[:3], atol=0.15, rtol=0)
    assert different[:2].all()
    assert not different[3:].any()
    assert ((octaves.low[0] < expected) & (expected < octaves.high[0])).all()


def test_half_the_amplitude_is_six_decibels_everywhere() -> None:
    x = power_law(40, 32, 1.0)
    contrasts = compared(x, x / 2, paired=True).contrasts
    for name in ("octaves", "directions", "wavelet energy"):
        torch.testing.assert_close(contrasts[name].difference, torch.full_like(contrasts[name].difference, -6.0206))
        assert contrasts[name].different.all()
    for name in ("wavelet kurtosis", "coherence"):  # the same picture but for its contrast
        assert not contrasts[name].different.any()


def test_phases_alone_are_seen_by_kurtosis_and_not_by_power() -> None:
    """Sharp edges against noise of the very same spectrum: a measure of power must stay silent."""
    place = torch.arange(64)
    centre, radius = 16 + 32 * torch.rand(120, 2, generator=torch.Generator().manual_seed(0)), 6 + noise(120).abs()
    away = (place - centre[:, :1]).square()[:, :, None] + (place - centre[:, 1:]).square()[:, None]
    discs = (away < radius[:, None, None].square()).float()[:, None]
    discs = discs - discs.mean((2, 3), keepdim=True)
    turned = torch.fft.rfft2(noise(120, 1, 64, 64, seed=1))
    blurred = torch.fft.irfft2(torch.fft.rfft2(discs).abs() * turned / turned.abs(), s=(64, 64))
    found = compared(discs, blurred, paired=True, taper="none")
    assert float(found.contrasts["octaves"].difference.abs().max()) < 1e-3
    assert not found.contrasts["octaves"].different.any()
    assert found.contrasts["wavelet kurtosis"].difference[0].max() < -50
    assert found.contrasts["wavelet kurtosis"].different[0].all()


@pytest.fixture(scope="module")
def tiles(shared: Path) -> torch.Tensor:
    """60 tiles of 128 x 128 of five photographs, in [-1, 1]."""
    found = []
    for name in PHOTOS:
        pixels = np.asarray(Image.open(shared / "data" / "photos" / f"{name}.jpg").convert("RGB"))
        photo = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1
        height, width = photo.shape[1:]
        rows, columns = (torch.linspace(0, most - 128, n).long().tolist() for most, n in ((height, 3), (width, 4)))
        found += [photo[:, y : y + 128, x : x + 128] for y in rows for x in columns]
    return torch.stack(found)


def test_a_blur_of_photographs_is_measured_as_its_closed_form(tiles: torch.Tensor) -> None:
    found = compared(tiles, gaussian_blur(tiles, 0.5), paired=True)
    octaves = found.contrasts["octaves"]
    luma = found.planes.index("luma")
    assert found.paired
    assert octaves.difference[luma, :3].tolist() == pytest.approx([-3.1, -1.1, -0.3], abs=0.3)
    torch.testing.assert_close(octaves.difference[luma], blurred_octaves(tiles, found.octaves), atol=0.1, rtol=0)
    assert octaves.different[luma, :3].all()
    for contrast in (octaves, found.contrasts["directions"], found.contrasts["wavelet energy"]):
        octave = contrast.axes.index("octave") if "octave" in contrast.axes else contrast.axes.index("level")
        below = contrast.different.movedim(octave, 0)[3:]  # from 1/16 cycle per pixel down
        assert not below.any(), f"{contrast.name}: {contrast.different}"


def blurred_octaves(tiles: torch.Tensor, octaves: tuple[tuple[float, float], ...]) -> torch.Tensor:
    """What the kernel's transfer function makes of the luma's mean power, summed over each octave."""
    measured = SampleSpectrum()
    measured.update(tiles)
    power, size = measured.plane.mean(0) * half_weights((128, 128)), (128, 128)
    taps = torch.exp(-2 * torch.arange(3.0).double().square())  # sigma 0.5, cut at 4 sigma
    taps = taps / (taps[0] + 2 * taps[1:].sum())
    vertical, horizontal = (
        sum((1 + (k > 0)) * taps[k] * torch.cos(2 * torch.pi * k * f) for k in range(3))
        for f in (torch.fft.fftfreq(128).double()[:, None], torch.fft.rfftfreq(128).double())
    )
    frequency = radial_bins(size) / 128
    inside = [(frequency > low) & (frequency <= high) for low, high in octaves]
    left = power * (vertical * horizontal).square()
    return torch.stack([10 * torch.log10(left[part].sum() / power[part].sum()) for part in inside])


def test_two_random_halves_of_one_set_are_called_the_same_in_95_of_100_splits() -> None:
    """Colour fields of very different contrast, as photographs have: half the power is in a few of them."""
    contrast = noise(96, 1, 1, 1, seed=1).mul(0.7).exp()
    mixed = torch.tensor([[1.0, 0.3, 0.2], [1.0, -0.1, 0.1], [1.0, -0.2, -0.3]])
    planes = power_law(3 * 96, 24, 1.5).reshape(96, 3, 24, 24)
    x = contrast * torch.einsum("cp,bphw->bchw", mixed, planes)
    parts = []
    for first in range(0, 96, 4):  # each is measured once
        parts.append(SampleSpectrum(replicates=100))
        parts[-1].update(x[first : first + 4], [str(first + i) for i in range(4)])
    generator, same, clean = torch.Generator().manual_seed(2), 0, 0
    for _ in range(100):
        halves = SampleSpectrum(replicates=100), SampleSpectrum(replicates=100)
        for place, part in enumerate(torch.randperm(len(parts), generator=generator).tolist()):
            halves[place % 2].merge(parts[part])
        found = compare_samples(*halves)
        same += found.same
        clean += not found.peaks.peaks  # in luma and both chroma planes
    assert same >= 95
    assert clean >= 98
