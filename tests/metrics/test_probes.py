"""The probes against sums over all frequencies, constructed sub-bands and fields of known content."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from passband.metrics import Planes
from passband.metrics.probes import (
    DirectionalPower,
    RadialPower,
    WaveletEnergy,
    WaveletKurtosis,
    frequency_octaves,
    standard_probes,
)
from passband.transforms import dwt, idwt, radial_psd


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def waves(size: int, vertical: float, horizontal: float) -> torch.Tensor:
    """A wave of so many cycles per pixel along each axis; rows count downwards."""
    place = torch.arange(size, dtype=torch.float32)
    return torch.cos(2 * math.pi * (vertical * place[:, None] + horizontal * place))[None, None]


def test_octaves_are_counted_from_the_top_and_mean_the_same_at_every_size() -> None:
    assert frequency_octaves(64)[:2] == frequency_octaves(300)[:2] == ((0.25, 0.5), (0.125, 0.25))
    for shortest in (4, 33, 64, 100):
        low, high = frequency_octaves(shortest)[-1]
        assert low * shortest < 1 <= high * shortest  # the last one holds bin 1


def test_radial_power_of_periodic_fields_is_the_radial_psd() -> None:
    x = noise(2, 3, 12, 10)
    power = RadialPower("latents")(Planes(x, kind="latents", taper="none"))
    torch.testing.assert_close(power[:, :3], radial_psd(x - x.mean((2, 3), keepdim=True)))
    torch.testing.assert_close(power[:, 3], power[:, :3].mean(1))


def test_white_noise_has_power_one_under_the_taper() -> None:
    power = RadialPower()(Planes(noise(400, 1, 32, 32))).mean(0)[0]
    assert float((power[2:] - 1).abs().max()) < 0.06  # 5 standard errors where a ring holds 16 frequencies
    assert float(power[0]) < 1e-10


@pytest.mark.parametrize("size", [(16, 16), (15, 21), (48, 32)])
def test_directional_power_is_the_mean_over_all_frequencies_of_a_cell(size: tuple[int, int]) -> None:
    x = noise(1, 1, *size)
    found = DirectionalPower()(Planes(x, taper="none"))[0].numpy()
    power = np.abs(np.fft.fft2(x[0, 0].numpy() - float(x.mean()))) ** 2 / x[0, 0].numel()
    sums, counts = np.zeros((20, 12)), np.zeros((20, 12))
    for row, vertical in enumerate(np.fft.fftfreq(size[0])):
        for column, horizontal in enumerate(np.fft.fftfreq(size[1])):
            frequency = math.hypot(vertical, horizontal)
            ring = math.floor(frequency * min(size) + 0.5) / min(size)
            if ring == 0 or frequency > 0.5 + 1e-12:
                continue
            octave = math.ceil(-math.log2(ring) - 1e-12) - 1
            while not 0.5 ** (octave + 2) < ring <= 0.5 ** (octave + 1):
                octave += 1 if ring <= 0.5 ** (octave + 2) else -1
            angle = math.degrees(math.atan2(-vertical, horizontal)) % 180
            sector = round(angle / 15) % 12
            sums[octave, sector] += power[row, column]
            counts[octave, sector] += 1
    octaves = found.shape[0]
    assert octaves >= 1
    assert counts[:octaves].min() > 0
    assert counts[octaves].min() == 0
    np.testing.assert_allclose(found, sums[:octaves] / counts[:octaves], rtol=1e-4)


@pytest.mark.parametrize("sector", range(12))
def test_angles_are_counted_as_the_picture_is_seen(sector: int) -> None:
    angle = math.radians(15 * sector)
    up, right = 0.35 * math.sin(angle), 0.35 * math.cos(angle)
    power = DirectionalPower()(Planes(waves(64, -up, right)))[0]
    assert divmod(int(power.argmax()), 12) == (0, sector)


@pytest.mark.parametrize(
    ("vertical", "horizontal", "level", "orientation"),
    [(0, 0.4, 0, 0), (0.4, 0, 0, 1), (0.4, 0.4, 0, 2), (0, 0.17, 1, 0), (0.08, 0, 2, 1)],
)
def test_energy_lies_at_the_waves_level_and_orientation(
    vertical: float, horizontal: float, level: int, orientation: int
) -> None:
    probe = WaveletEnergy()
    energy = probe(Planes(waves(64, vertical, horizontal)))[0]
    assert divmod(int(energy.argmax()), 3) == (level, orientation)
    names = probe.labels((1, 64, 64))
    assert names[1][orientation] == ("horizontal", "vertical", "diagonal")[orientation]
    assert len(names[0]) == energy.shape[0]


def test_white_noise_has_energy_one_and_the_kurtosis_of_a_gaussian() -> None:
    planes = Planes(noise(100, 1, 64, 64))
    assert float((WaveletEnergy()(planes).mean(0) - 1).abs().max()) < 0.07
    probe = WaveletKurtosis()
    kurtosis = probe.derive(probe(planes).mean(0))
    assert float((kurtosis[0] - 3).abs().max()) < 0.07


def sparse(share: int, count: int = 4) -> torch.Tensor:
    """Periodic fields whose coefficients at the first level are +-1 at every share-th place and 0 elsewhere."""
    found = dwt(torch.zeros(count, 1, 16, 16), "db2", levels=1, mode="periodization")
    band = torch.zeros(count, 1, 64)
    band[..., ::share] = noise(count, 1, 64 // share).sign()
    details = ({name: band.reshape(count, 1, 8, 8) for name in found.details[0]},)
    return idwt(found._replace(details=details))


@pytest.mark.parametrize("share", [1, 4, 16])
def test_kurtosis_of_sparse_coefficients_is_one_over_their_share(share: int) -> None:
    probe = WaveletKurtosis()
    block = probe(Planes(sparse(share), taper="none"))
    torch.testing.assert_close(probe.derive(block.mean(0)), torch.full((1, 3), float(share)), rtol=1e-3, atol=0)


def test_kurtosis_is_the_geometric_mean_of_scipys() -> None:
    x = noise(8, 1, 32, 32) ** 3
    probe, planes = WaveletKurtosis(), Planes(x)
    bands = planes.subbands[0][:, 1].flatten(1).double()
    # SciPy takes the mean off first; here it is nearly 0, and is not taken off.
    each = [stats.moment(band, 4, center=0) / stats.moment(band, 2, center=0) ** 2 for band in bands.numpy()]
    assert float(probe.derive(probe(planes).mean(0))[0, 1]) == pytest.approx(stats.gmean(each), rel=1e-4)


def test_flat_samples_do_not_count_for_the_kurtosis() -> None:
    probe = WaveletKurtosis()
    flat = torch.full((3, 1, 16, 16), 0.3)
    both = probe(Planes(torch.cat([sparse(4), flat]), taper="none"))
    assert both[:, 0, 0, 1].tolist() == [1] * 4 + [0] * 3
    torch.testing.assert_close(probe.derive(both.mean(0)), torch.full((1, 3), 4.0), rtol=1e-3, atol=0)
    assert probe.derive(probe(Planes(flat)).mean(0)).isnan().all()


def test_kurtosis_does_not_depend_on_the_scale() -> None:
    probe, x = WaveletKurtosis(), noise(4, 1, 32, 32) ** 3
    for scale in (1e-8, 1e8):
        torch.testing.assert_close(probe(Planes(scale * x)), probe(Planes(x)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["images", "latents", "signals"])
@pytest.mark.parametrize("shape", [(3, 64, 64), (4, 8, 8), (1, 200), (3, 50, 37), (2, 5, 9), (2, 4)])
def test_every_probe_labels_what_it_derives(kind: str, shape: tuple[int, ...]) -> None:
    planes = Planes(noise(2, *shape), kind=kind)
    probes = standard_probes(kind)
    assert len({probe.name for probe in probes}) == len(probes)
    for probe in probes:
        if not probe.check(shape):
            continue
        block = probe(planes)
        quantity, labels = probe.derive(block.mean(0)), probe.labels(shape)
        assert block.isfinite().all()
        assert tuple(len(each) for each in labels) == tuple(quantity.shape)
        assert len(labels) == len(probe.axes)
        assert probe.derive(block).shape == (2, *quantity.shape)
        assert probe.unit in ("dB", "%", "")


def test_latents_of_eight_and_signals_are_measured_by_what_fits_them() -> None:
    fitting = {shape: {p.name for p in standard_probes() if p.check(shape)} for shape in ((4, 8, 8), (1, 64))}
    assert {"radial", "directions"} <= fitting[4, 8, 8]
    assert "wavelet energy" not in fitting[4, 8, 8]
    assert {"radial", "wavelet energy", "wavelet kurtosis"} <= fitting[1, 64]
    assert "directions" not in fitting[1, 64]
