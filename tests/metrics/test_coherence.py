"""Phase coherence: against a direct evaluation, edges, Gaussian fields, symmetries."""

import math

import pytest
import torch

from passband.metrics import Planes
from passband.metrics.probes import PhaseCoherence

PROBE = PhaseCoherence()


def coherence(x: torch.Tensor) -> torch.Tensor:
    return PROBE.derive(PROBE(Planes(x)).double().mean(0))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def edges(size: int, count: int = 40) -> torch.Tensor:
    """Discs of all sizes."""
    places = torch.arange(float(size))
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    draws = torch.rand(count, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([size, size, size / 3])
    return torch.stack([((columns - x) ** 2 + (rows - y) ** 2 < r * r).float() for x, y, r in draws.tolist()])[:, None]


@pytest.mark.parametrize("size", [(32, 32), (37, 45)])
def test_agrees_with_a_direct_evaluation_at_the_same_points(size: tuple[int, int]) -> None:
    x = noise(1, 1, *size)
    tapered = torch.fft.irfft2(Planes(x).gray_spectrum, s=size, norm="ortho")[0].double()
    transformed = torch.fft.fft2(tapered)
    vertical, horizontal = (torch.fft.fftfreq(n, dtype=torch.float64) for n in size)
    radius = (vertical[:, None] ** 2 + horizontal**2).sqrt().clamp_min(1e-9)
    angle = torch.atan2(-vertical[:, None], horizontal[None])
    points = [math.ceil(n / 4) for n in size]
    at = [torch.arange(n, dtype=torch.float64) / n for n in points]
    waves = [
        torch.exp(2j * math.pi * place[:, None] * torch.fft.fftfreq(n, 1 / n, dtype=torch.float64))
        for place, n in zip(at, size, strict=True)
    ]
    for number, degrees in enumerate((0, 45, 90, 135)):
        off = torch.remainder(angle - math.radians(degrees) + math.pi, 2 * math.pi) - math.pi
        turn = torch.where(off.abs() < math.pi / 4, torch.cos(2 * off) ** 2, 0.0)
        z = []
        for octave in range(3):
            octaves = torch.log2(radius * 2 ** (octave + 1.5))
            gain = turn * torch.where(octaves.abs() < 0.5, torch.cos(math.pi * octaves), 0.0)
            response = waves[0] @ (transformed * gain) @ waves[1].T
            z.append(response / response.abs().square().mean().sqrt())
        weight = (z[0] * z[1] * z[2]).abs()
        phase = z[0].angle() - 3 * z[1].angle() + 2 * z[2].angle()
        expected = (weight * phase.cos()).sum() / weight.sum()
        assert float(coherence(x)[0, number]) == pytest.approx(float(expected), abs=1e-4)


def test_edges_and_lines_are_coherent() -> None:
    place = torch.arange(64)
    for profile in (place >= 29, place == 29):
        x = profile.float().expand(1, 1, 64, 64)
        assert float(coherence(x)[:, 0].min()) > 0.9  # vertical edges: the wave runs horizontally
        assert float(coherence(x.mT)[:, 2].min()) > 0.9
    assert float(coherence(edges(64)).min()) > 0.4


def test_gaussian_fields_have_none_whatever_their_colour() -> None:
    white = noise(300, 1, 64, 64)
    frequency = (torch.fft.fftfreq(64)[:, None] ** 2 + torch.fft.rfftfreq(64) ** 2).sqrt().clamp_min(1 / 64)
    coloured = torch.fft.irfft2(torch.fft.rfft2(white) * frequency**-1.3)
    for x in (white, coloured[..., 8:56, 8:56]):
        block = PROBE(Planes(x)).double()
        mean = PROBE.derive(block.mean(0))
        error = (block[..., 0] - mean * block[..., 1]).std(0) / block[..., 1].mean(0) / len(x) ** 0.5
        assert float((mean / error).abs().max()) < 4.5
        assert float(error.max()) < 0.05


def test_phases_alone_make_the_difference() -> None:
    x = edges(64)
    phase = torch.angle(torch.fft.rfft2(noise(*x.shape)))
    scrambled = torch.fft.irfft2(torch.polar(torch.fft.rfft2(x).abs(), phase))
    assert float(coherence(x)[0].mean()) > float(coherence(scrambled)[0].mean()) + 0.3


def test_brightness_contrast_and_mirrors() -> None:
    x = edges(32) + 0.05 * noise(40, 1, 32, 32)
    found = coherence(x)
    torch.testing.assert_close(coherence(3 * x - 1), found, atol=1e-3, rtol=1e-3)
    # From left to right: 45 and 135 degrees change places; turned by 90 degrees: 0 and 90, too.
    torch.testing.assert_close(coherence(x.mT)[:, [2, 1, 0, 3]], found, atol=1e-3, rtol=1e-3)


def test_signals_have_one_orientation() -> None:
    step = (torch.arange(256) >= 100).float().expand(1, 1, 256)
    assert PROBE.check((1, 256))
    assert PROBE.labels((1, 256))[1] == ("along",)
    assert float(coherence(step).min()) > 0.9
    assert coherence(step).shape == tuple(map(len, PROBE.labels((1, 256))))


def test_labels_name_what_is_measured() -> None:
    octaves, orientations = PROBE.labels((3, 64, 96))
    assert octaves == ("1/16–1/2", "1/32–1/4")
    assert orientations == ("0°", "45°", "90°", "135°")
    assert coherence(noise(2, 3, 64, 96)).shape == (2, 4)


def test_small_samples_are_left_out_and_flat_ones_are_zero() -> None:
    assert not PROBE.check((1, 31, 64))
    assert PROBE.check((1, 32, 32))
    assert not PROBE.check((1, 64, 64, 64))
    assert PROBE(Planes(torch.full((2, 1, 32, 32), 0.3))).abs().max() == 0
    assert coherence(torch.zeros(1, 1, 32, 32)).tolist() == [[0.0] * 4]
