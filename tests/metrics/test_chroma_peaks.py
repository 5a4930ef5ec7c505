"""Artefacts of colour alone: found in the plane in which they lie, named for it, and not where there are none."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from passband.metrics import SampleSpectrum
from passband.metrics.peaks import PeakReport, find_peaks

SIZE, COUNT = 64, 60
#: Red, green and blue of a change in one plane that leaves the two others as they are (ITU-R BT.601).
OF_PLANE = {"luma": (1.0, 1.0, 1.0), "Cb": (0.0, -0.344136, 1.772), "Cr": (1.402, -0.714136, 0.0)}
GRID_OF_16 = "16 x 16 block grid (JPEG with halved colour, patches of 16, or a decoder that upsamples by 16)"


def fields(count: int, size: int, seed: int) -> torch.Tensor:
    """Gaussian colour fields with a power law of 2, not periodic, whose channels are alike but for some colour."""
    white = torch.randn(count, 3, 2 * size, 2 * size, generator=torch.Generator().manual_seed(seed))
    radius = (torch.fft.fftfreq(2 * size)[:, None] ** 2 + torch.fft.rfftfreq(2 * size) ** 2).sqrt().clamp_min(1 / size)
    planes = 0.05 * torch.fft.irfft2(torch.fft.rfft2(white) / radius)[..., :size, :size]
    return in_planes(planes * torch.tensor([1.0, 0.3, 0.3]).reshape(3, 1, 1))


def in_planes(planes: torch.Tensor) -> torch.Tensor:
    """Colour images of these luma and chroma planes."""
    return torch.einsum("bphw,pc->bchw", planes, torch.tensor(list(OF_PLANE.values())))


def measured(x: torch.Tensor, name: str) -> SampleSpectrum:
    spectrum = SampleSpectrum(name)
    spectrum.update(x, [f"{name} {number}" for number in range(len(x))])
    return spectrum


@pytest.fixture(scope="module")
def real() -> SampleSpectrum:
    return measured(fields(COUNT, SIZE, 0), "real")


def report(real: SampleSpectrum, x: torch.Tensor) -> PeakReport:
    return find_peaks(real, measured(x, "fake"))


@pytest.mark.parametrize("plane", list(OF_PLANE))
def test_a_checkerboard_is_found_in_its_plane_alone(real: SampleSpectrum, plane: str) -> None:
    place = torch.arange(SIZE)
    board = (1 - 2 * ((place[:, None] + place) % 2)) * 0.01
    found = report(real, fields(COUNT, SIZE, 1) + board * torch.tensor(OF_PLANE[plane]).reshape(3, 1, 1))
    (peak,) = found.peaks
    assert (peak.plane, peak.frequency) == (plane, (0.5, 0.5))
    assert peak.name == "2 x 2 checkerboard (stride-2 transposed convolution)"
    assert list(found.maps) == ["luma", "Cb", "Cr"]
    for name, ratio in found.maps.items():
        assert (float(ratio[0, 0]) > 10) == (name == plane)


def test_halved_colour_is_named_as_such(real: SampleSpectrum) -> None:
    luma, chroma = fields(COUNT, SIZE, 1), fields(COUNT, SIZE // 2, 2)
    doubled = functional.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    rows = torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)
    gray, colour = ((x * rows).sum(1, keepdim=True) for x in (luma, doubled))
    peaks = report(real, gray + doubled - colour).peaks
    assert {peak.plane for peak in peaks} == {"Cb", "Cr"}
    assert {peak.name for peak in peaks} == {
        "2 x 2 grid (colour at half the resolution, as in JPEG and video, or upsampling by 2)"
    }


def test_what_is_in_luma_too_has_one_name(real: SampleSpectrum) -> None:
    doubled = functional.interpolate(fields(COUNT, SIZE // 2, 1), scale_factor=2, mode="nearest")
    peaks = report(real, doubled).peaks
    assert {peak.plane for peak in peaks} == {"luma", "Cb", "Cr"}
    assert {peak.name for peak in peaks} == {"2 x 2 grid (upsampling by 2, or a stride-2 transposed convolution)"}


def test_gray_pictures_in_colour_have_the_patterns_of_luma() -> None:
    gray = [fields(COUNT, SIZE // factor, seed)[:, :1] for seed, factor in enumerate((1, 2))]
    gray[1] = gray[1].repeat_interleave(2, -1).repeat_interleave(2, -2)
    found = find_peaks(*(measured(x.expand(-1, 3, -1, -1), name) for x, name in zip(gray, ("a", "b"), strict=True)))
    assert [(peak.plane, peak.name[:5]) for peak in found.peaks] == [("luma", "2 x 2")]
    assert found.profiles["Cb"]["vertical"][0].isnan().all()


def tiles(pictures: list[Image.Image], seed: int, side: int = 128, each: int = 8) -> torch.Tensor:
    generator, found = torch.Generator().manual_seed(seed), []
    for picture in pictures:
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1
        for _ in range(each):
            y, x = (int(torch.randint(n - side + 1, (), generator=generator)) for n in pixels.shape[1:])
            found.append(pixels[:, y : y + side, x : x + side])
    return torch.stack(found)


def coded(picture: Image.Image) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=50, subsampling=2)
    return Image.open(file).convert("RGB")


def test_jpeg_with_halved_colour_has_a_grid_of_16_in_chroma_and_of_8_in_luma(shared: Path) -> None:
    files = sorted((shared / "data" / "photos").glob("*.jpg"))[:10]
    # Averaged over 3 x 3 pixels, the photographs have lost the block grids of their own.
    pictures = [Image.open(file).convert("RGB").reduce(3) for file in files]
    found = find_peaks(
        measured(tiles(pictures, 0), "real"), measured(tiles([coded(picture) for picture in pictures], 1), "fake")
    )
    names = {plane: [peak.name for peak in found.peaks if peak.plane == plane] for plane in OF_PLANE}
    assert names["luma"] == ["8 x 8 block grid (JPEG, or a decoder that upsamples by 8)"]
    for plane in ("Cb", "Cr"):
        assert GRID_OF_16 in names[plane]
        (grid,) = (peak for peak in found.peaks if (peak.plane, peak.name) == (plane, GRID_OF_16))
        parts = [part for place in (grid.frequency, *grid.also) for part in place]
        assert all((16 * part) % 1 == 0 for part in parts)
        assert any((16 * part) % 2 == 1 for part in parts)  # no multiple of 1/8


def partly_coloured(seed: int, coloured: int) -> torch.Tensor:
    """Noise of which few samples have any colour."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(60, 1, 48, 48, generator=generator).repeat(1, 3, 1, 1)
    x[:coloured] += torch.randn(coloured, 3, 48, 48, generator=generator)
    return x


def test_few_images_in_colour_among_gray_ones_are_not_taken_for_many() -> None:
    """Three periodograms scatter, and their bootstrap is too narrow: of these, something was called."""
    assert find_peaks(measured(partly_coloured(42, 3), "r"), measured(partly_coloured(43, 3), "f")).peaks == ()
    found = find_peaks(measured(partly_coloured(0, 2), "r"), measured(partly_coloured(1, 2), "f")).periodicity
    assert found is not None
    assert found.error[0].isfinite().all()
    assert found.error[1:].isinf().all()
