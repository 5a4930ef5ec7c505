"""The periodicity profile: its formula, crops, and what each kind of upsampling leaves."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from passband.metrics import Planes
from passband.metrics.probes import PeriodicityProfile
from passband.metrics.probes.periodicity import height_frequencies, mean_periodogram, profile_frequencies

PROBE = PeriodicityProfile()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def heights(x: torch.Tensor) -> torch.Tensor:
    """Of the gray plane over the surroundings, dB."""
    return 10 * torch.log10(PROBE.derive(PROBE(Planes(x)).double().mean(0)))[0]


def at(found: torch.Tensor, frequency: float, shape: tuple[int, ...]) -> list[float]:
    place = int((height_frequencies(shape) - frequency).abs().argmin())
    return found[:, place].tolist()


def test_follows_its_formula() -> None:
    x = noise(1, 1, 40, 30)
    segment, length = 27, 48
    window = np.hanning(segment + 2)[1:-1]
    for axis, across in ((0, 1), (1, 0)):
        expected = np.zeros(length // 2 + 1)
        for order in (2, 3):
            profile = np.abs(np.diff(x[0, 0].numpy(), n=order, axis=axis)).mean(across)
            relative = (profile / profile.mean() - 1)[:segment]
            power = np.abs(np.fft.rfft(relative * window, length)) ** 2
            expected += power / power[12:].mean() / 2
        found = mean_periodogram(PROBE(Planes(x)).mean(0))[0, axis]
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-4)


def test_long_signals_are_averaged_in_segments() -> None:
    shape = (1, 5000)
    frequencies = profile_frequencies(shape)
    assert len(frequencies) == 241
    assert frequencies[-1] == 0.5
    assert tuple(PROBE(Planes(noise(2, *shape))).shape) == (2, 1, 1, 242)
    stretched = noise(4, 1, 1250).repeat_interleave(4, -1)
    found = heights(stretched)
    assert at(found, 0.25, shape)[0] > 10
    assert at(found, 0.3, shape)[0] < 3


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("factor", [2, 4])
def test_upsampling_shows_at_its_frequency_wherever_it_is_cut(mode: str, factor: int) -> None:
    corners = {} if mode == "nearest" else {"align_corners": False}
    up = functional.interpolate(noise(64, 1, 96 // factor, 96 // factor), scale_factor=factor, mode=mode, **corners)
    crops = torch.stack([image[:, i % 7 : i % 7 + 64, i % 5 : i % 5 + 64] for i, image in enumerate(up)])
    found = heights(crops)
    strongest = height_frequencies((1, 64, 64))[found.argmax(1)]
    assert strongest.tolist() in ([1 / factor] * 2, [0.5] * 2)
    assert min(at(found, 1 / factor, (1, 64, 64))) > 6


def test_white_noise_has_no_peaks() -> None:
    assert float(heights(noise(400, 1, 64, 64)).max()) < 2


def test_a_sample_weighs_the_same_whatever_its_contrast() -> None:
    x = noise(6, 3, 32, 32)
    scaled = x * torch.logspace(-2, 1, 6).reshape(6, 1, 1, 1) + 0.5
    torch.testing.assert_close(PROBE(Planes(scaled)), PROBE(Planes(x)), rtol=1e-2, atol=1e-2)


def test_flat_samples_are_left_out() -> None:
    x = noise(4, 1, 32, 32)
    with_flat = torch.cat([x, torch.full((3, 1, 32, 32), 0.7)])
    both = [mean_periodogram(PROBE(Planes(each)).double().mean(0)) for each in (x, with_flat)]
    torch.testing.assert_close(both[0], both[1])
    assert mean_periodogram(PROBE(Planes(torch.zeros(2, 1, 32, 32))).mean(0)).isnan().all()
    stripes = noise(2, 1, 32, 1).expand(2, 1, 32, 32)  # nothing changes along the rows
    valid = PROBE(Planes(stripes))[..., -1]
    assert valid.tolist() == [[[1, 0]], [[1, 0]]]


def test_labels_name_what_is_derived() -> None:
    planes, axes, frequencies = PROBE.labels((3, 64, 80))
    assert planes == ("luma", "Cb", "Cr")
    assert axes == ("vertical", "horizontal")
    assert tuple(heights(noise(2, 3, 64, 80)).shape) == (2, len(frequencies))
    assert frequencies[-1] == "0.5000"
    assert PROBE.labels((1, 64))[:2] == (("1",), ("along",))
    assert PeriodicityProfile("latents").labels((3, 64, 80))[0] == ("all",)
    assert PROBE.check((1, 24, 24))
    assert not PROBE.check((1, 23, 64))


def test_each_plane_has_the_profile_of_its_own_picture() -> None:
    x = noise(3, 3, 40, 30)
    red, green, blue = x.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    found = PROBE(Planes(x))
    for plane, picture in enumerate((luma, (blue - luma) / 1.772, (red - luma) / 1.402)):  # ITU-R BT.601
        torch.testing.assert_close(found[:, plane], PROBE(Planes(picture[:, None]))[:, 0], rtol=1e-3, atol=1e-3)
