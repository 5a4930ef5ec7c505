"""Artefacts of known kind: found at their frequency, named, and not where there are none."""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from passband.metrics import SampleSpectrum
from passband.metrics.line_peaks import find_lines
from passband.metrics.peaks import Peak, PeakReport, find_peaks

SIZE, COUNT = 64, 120


def fields(count: int, size: int, seed: int) -> torch.Tensor:
    """Gaussian fields with a power law of 2, not periodic, with a contrast that varies."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(count, 1, 2 * size, 2 * size, generator=generator)
    radius = (torch.fft.fftfreq(2 * size)[:, None] ** 2 + torch.fft.rfftfreq(2 * size) ** 2).sqrt().clamp_min(1 / size)
    contrast = torch.rand(count, 1, 1, 1, generator=generator) + 0.2
    return contrast * 0.1 * torch.fft.irfft2(torch.fft.rfft2(white) / radius)[..., :size, :size]


def measured(x: torch.Tensor, name: str, **settings: object) -> SampleSpectrum:
    spectrum = SampleSpectrum(name, **settings)
    spectrum.update(x, [f"{name} {number}" for number in range(len(x))])
    return spectrum


@pytest.fixture(scope="module")
def real() -> SampleSpectrum:
    return measured(fields(COUNT, SIZE, 0), "real")


def report(real: SampleSpectrum, x: torch.Tensor) -> PeakReport:
    return find_peaks(real, measured(x, "fake"))


def everywhere(peak: Peak) -> set[tuple[float, float]]:
    return {peak.frequency, *peak.also}


def test_sets_of_one_kind_have_no_peaks(real: SampleSpectrum) -> None:
    for seed in range(1, 4):
        found = report(real, fields(COUNT, SIZE, seed))
        assert found.peaks == ()
        assert found.both == ()


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize(("factor", "name"), [(2, "2 x 2 grid"), (4, "4 x 4 grid")])
def test_upsampling_is_named(real: SampleSpectrum, mode: str, factor: int, name: str) -> None:
    corners = {} if mode == "nearest" else {"align_corners": False}
    up = functional.interpolate(fields(COUNT, SIZE // factor, 1), scale_factor=factor, mode=mode, **corners)
    (peak,) = report(real, up).peaks
    assert peak.name.startswith(name)
    assert peak.found_by == "periodicity"
    assert {(1 / factor, 0.0), (0.0, 1 / factor)} <= everywhere(peak)
    assert peak.period in (Fraction(1, factor), Fraction(1, 2))
    assert peak.height > 5
    assert peak.height - peak.in_real > 5 * peak.error


def test_a_transposed_convolution_is_a_checkerboard(real: SampleSpectrum) -> None:
    torch.manual_seed(0)
    kernel = torch.tensor([0.5, 1.0, 0.5])
    weight = (kernel[:, None] * kernel * (1 + 0.1 * torch.randn(3, 3)))[None, None]
    image = fields(COUNT, SIZE // 2, 1) + 0.3  # a brightness, as pictures have
    (peak,) = report(real, functional.conv_transpose2d(image, weight, stride=2, padding=1, output_padding=1)).peaks
    assert peak.name == "2 x 2 checkerboard (stride-2 transposed convolution)"
    assert {(0.5, 0.5), (0.0, 0.5), (0.5, 0.0)} <= everywhere(peak)
    assert peak.period == Fraction(1, 2)


def jpeg(x: torch.Tensor, quality: int) -> torch.Tensor:
    pixels = (127.5 * (x[0] + 1)).clamp(0, 255).byte().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file)))[None] / 127.5 - 1


def test_a_block_grid_is_found_in_tiles_and_called_only_where_the_real_set_lacks_it(real: SampleSpectrum) -> None:
    coded = [jpeg(picture, 50) for picture in fields(12, 256, 1)]
    tiles = torch.stack([p[:, y : y + SIZE, x : x + SIZE] for p in coded for y in (3, 70, 150) for x in (1, 77, 185)])
    found = report(real, tiles)
    assert [peak.name for peak in found.peaks] == ["8 x 8 block grid (JPEG, or a decoder that upsamples by 8)"]
    assert found.peaks[0].period.denominator in (2, 4, 8)
    assert any(0.125 in frequency or 0.375 in frequency for frequency in everywhere(found.peaks[0]))
    assert found.both == ()

    again = [jpeg(picture, 50) for picture in fields(12, 256, 2)]
    others = torch.stack([p[:, y : y + SIZE, x : x + SIZE] for p in again for y in (5, 60, 140) for x in (9, 88, 170)])
    alike = find_peaks(measured(tiles, "real"), measured(others, "fake"))
    assert alike.peaks == ()
    assert [peak.name for peak in alike.both] == [found.peaks[0].name]
    assert find_peaks(measured(tiles, "real"), real).peaks == ()


def test_photographs_that_were_jpeg_files_have_their_grid_in_both_sets(shared: Path) -> None:
    files = [
        shared / "data" / "photos" / name for name in ("Picture_1A_by_freespace.jpg", "Picture_0B_by_freespace.jpg")
    ]
    pictures = [torch.from_numpy(np.array(Image.open(file).convert("L")))[None] / 127.5 - 1 for file in files]
    corners = torch.randint(0, 900, (2, 40, 2), generator=torch.Generator().manual_seed(0)).tolist()
    sets = [torch.stack([p[:, y : y + 96, x : x + 96] for p in pictures for y, x in each]) for each in corners]
    found = find_peaks(measured(sets[0], "real"), measured(sets[1], "fake"))
    assert found.peaks == ()
    assert [peak.name for peak in found.both] == ["8 x 8 block grid (JPEG, or a decoder that upsamples by 8)"]


def test_stripes_are_found_at_their_own_frequency(real: SampleSpectrum) -> None:
    wave = torch.cos(2 * torch.pi * (11 * torch.arange(SIZE)[:, None] - 20 * torch.arange(SIZE)) / SIZE)
    found = report(real, fields(COUNT, SIZE, 1) + 0.01 * wave)
    (peak,) = found.peaks
    assert peak.frequency in ((-11 / SIZE, 20 / SIZE), (11 / SIZE, -20 / SIZE))
    assert peak.period is None
    assert peak.name == "narrow peak with a period of 2.8 pixels"
    middle = SIZE // 2
    assert found.map.shape == (SIZE, SIZE)
    assert float(found.map[middle - 11, middle + 20]) == pytest.approx(float(found.map.nan_to_num(0).max()))
    assert float(found.map[middle + 11, middle - 20]) == pytest.approx(float(found.map.nan_to_num(0).max()))


def test_what_one_sample_brings_along_is_no_artefact(real: SampleSpectrum) -> None:
    fence = torch.cos(2 * torch.pi * 16 * torch.arange(SIZE) / SIZE)
    x = fields(COUNT, SIZE, 1)
    x[0] += fence
    fake = measured(x, "fake")
    at = fake.plane.mean(0)[0, 16] / real.plane.mean(0)[0, 16]
    assert float(at) > 10  # it is there
    assert find_lines(real.plane, fake.plane, (SIZE, SIZE)) == []


def test_profiles_and_maps_are_those_of_the_sets(real: SampleSpectrum) -> None:
    six = 20 * float(np.log10(2))
    found = report(real, 2 * fields(COUNT, SIZE, 0))
    assert found.map.isnan().nonzero().tolist() == [[SIZE // 2, SIZE // 2]]
    torch.testing.assert_close(found.map.nan_to_num(six), torch.full_like(found.map, six), atol=1e-4, rtol=0)
    assert list(found.profiles["1"]) == ["vertical", "horizontal"]
    for before, after in found.profiles["1"].values():
        assert before.shape == found.frequency.shape
        torch.testing.assert_close(before, after, atol=1e-3, rtol=1e-3)
    assert found.periodicity is not None
    assert found.periodicity.axes == ("plane", "axis", "frequency")


def test_signals_and_latents_are_named_as_such() -> None:
    generator = torch.Generator().manual_seed(0)
    real = measured(torch.randn(60, 1, 512, generator=generator), "real", kind="signals")
    up = torch.randn(60, 1, 256, generator=generator).repeat_interleave(2, -1)
    found = find_peaks(real, measured(up, "fake", kind="signals"))
    assert [peak.name for peak in found.peaks] == ["pattern that repeats every 2 samples (upsampling by 2)"]
    assert found.peaks[0].frequency == (0.0, 0.5)
    assert found.map.shape == (512,)

    latents = torch.randn(2, 60, 4, 32, 32, generator=generator)
    latents[1, ..., ::2, ::2] += 0.5
    sets = [measured(x, name, kind="latents") for x, name in zip(latents, ("real", "fake"), strict=True)]
    assert "checkerboard" in find_peaks(*sets).peaks[0].name


def test_small_samples_have_a_map_and_no_profile() -> None:
    noise = torch.randn(2, 20, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    found = find_peaks(measured(noise[0], "real"), measured(noise[1], "fake"))
    assert found.peaks == ()
    assert found.profiles == {}
    assert found.periodicity is None
    assert found.map.shape == (12, 12)


def test_few_samples_call_nothing() -> None:
    noise = torch.randn(2, 2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    noise[1, ..., ::2] += 1
    assert find_peaks(measured(noise[0], "real"), measured(noise[1], "fake")).peaks == ()
