"""Power-law fields: their exact mean power, and which of their textures the low band predicts."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn, idctn

from passband.data import PowerLawFields, power_law_fields, power_law_psd, texture_coherence

SIZE = 16
OPTIONS = {"resolution": SIZE, "beta": 2.0, "share": 0.3}


def power(x: torch.Tensor) -> np.ndarray:
    """Mean DCT power and its standard error, by SciPy."""
    spectra = dctn(x[:, 0].double().numpy(), axes=(1, 2), norm="ortho") ** 2
    return np.stack([spectra.mean(0), spectra.std(0, ddof=1) / len(x) ** 0.5])


@pytest.mark.parametrize("kind", ["noise", "signal"])
@pytest.mark.parametrize(("beta", "cutoff"), [(1.0, None), (3.0, 3)])
def test_both_kinds_have_the_stated_mean_power(kind: str, beta: float, cutoff: int | None):
    options = {"resolution": SIZE, "beta": beta, "share": 0.3, "cutoff": cutoff}
    expected = power_law_psd(**options).numpy()
    mean, error = power(power_law_fields(3000, **options, kind=kind, seed=1))
    assert mean[0, 0] < 1e-9
    deviation = ((mean - expected) / error).ravel()[1:]
    # 255 deviations of about one standard error each.
    assert np.abs(deviation).max() < 5
    assert np.sqrt((deviation**2).mean()) < 1.3


def test_the_power_without_texture_is_the_power_law():
    psd = power_law_psd(24, beta=2.5, std=0.4).numpy()
    radius = np.hypot(*np.indices((24, 24)))
    assert psd[0, 0] == 0
    scaled = psd[radius > 0] * radius[radius > 0] ** 2.5
    np.testing.assert_allclose(scaled, scaled[0], rtol=1e-12)
    assert psd.sum() / 24**2 == pytest.approx(0.16)


@pytest.mark.parametrize("cutoff", [1, 4, None])
def test_the_texture_has_its_share_of_the_power_above_the_cutoff(cutoff: int | None):
    with_texture = power_law_psd(SIZE, 2.0, share=0.3, cutoff=cutoff)
    texture = with_texture - 0.7 * power_law_psd(SIZE, 2.0, cutoff=cutoff)
    assert with_texture.sum().item() == pytest.approx(SIZE**2 * 0.09)
    assert texture.sum().item() == pytest.approx(0.3 * SIZE**2 * 0.09)
    radius = torch.from_numpy(np.hypot(*np.indices((SIZE, SIZE))))
    assert texture[radius <= (cutoff or SIZE // 4)].abs().max() < 1e-12


def low_and_wave(x: np.ndarray, cutoff: int) -> tuple[np.ndarray, np.ndarray]:
    """The low band of a field and the carrier, written out with SciPy."""
    n = len(x)
    low = idctn(dctn(x, norm="ortho") * (np.hypot(*np.indices((n, n))) <= cutoff), norm="ortho")
    wave = np.cos(np.pi * ((n + cutoff) // 2) * (np.arange(n) + 0.5) / n)
    return low, np.outer(wave, wave)


def test_a_signal_can_be_computed_from_the_low_band():
    base, x = (power_law_fields(6, **OPTIONS | {"share": share}, kind="signal", seed=3) for share in (0.0, 0.3))
    gains = []
    for b, field in zip(base[:, 0].double().numpy() * 0.7**0.5, x[:, 0].double().numpy(), strict=True):
        low, wave = low_and_wave(field, 4)
        texture = field - b
        gains.append((texture * wave * low).sum() / ((wave * low) ** 2).sum())
        np.testing.assert_allclose(texture, gains[-1] * wave * low, atol=1e-6)
    assert np.ptp(gains) < 1e-4


def test_no_linear_map_of_the_low_band_predicts_noise():
    # The texture as a linear function of the 22 coefficients of the low band, fitted on half and judged on the rest.
    radius = np.hypot(*np.indices((SIZE, SIZE)))
    low, high = (radius > 0) & (radius <= 4), np.maximum(*np.abs(np.indices((SIZE, SIZE)) - 10)) <= 4
    explained = {}
    for kind in ("noise", "signal"):
        x = power_law_fields(2000, **OPTIONS | {"beta": 3.0}, kind=kind, seed=5)[:, 0].double().numpy()
        spectra = dctn(x, axes=(1, 2), norm="ortho")
        a, b = spectra[:, low], spectra[:, high]
        weights = np.linalg.lstsq(a[:1000], b[:1000], rcond=None)[0]
        explained[kind] = 1 - ((b[1000:] - a[1000:] @ weights) ** 2).sum() / (b[1000:] ** 2).sum()
        # Nor does its power follow that of the low band.
        powers = np.log((a**2).sum(1)), np.log((b**2).sum(1))
        explained[f"power of {kind}"] = np.corrcoef(*powers)[0, 1] ** 2
    assert explained["signal"] > 0.95
    assert explained["power of signal"] > 0.9
    assert explained["noise"] < 0.05
    assert explained["power of noise"] < 0.02


def test_coherence_tells_signal_from_noise():
    signal, noise = (texture_coherence(power_law_fields(400, **OPTIONS, kind=kind)) for kind in ("signal", "noise"))
    # The base has power in the band of the texture too.
    assert signal.mean() > 0.85
    assert signal.min() > 0.6
    assert abs(noise.mean()) < 5 * noise.std() / 20
    assert noise.std() > 0.05


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99), cutoff=st.sampled_from([2, 4]))
def test_coherence_is_the_closed_form(seed: int, cutoff: int):
    x = torch.randn(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    low, wave = low_and_wave(x[0, 0].numpy(), cutoff)
    carrier = (SIZE + cutoff) // 2
    inside = np.abs(np.arange(SIZE) - carrier) <= cutoff
    texture = idctn(dctn(x[0, 0].numpy(), norm="ortho") * np.outer(inside, inside), norm="ortho")
    predicted = wave * low
    expected = (texture * predicted).sum() / np.linalg.norm(texture) / np.linalg.norm(predicted)
    assert texture_coherence(x, cutoff).item() == pytest.approx(expected)
    assert texture_coherence(-3 * x, cutoff).item() == pytest.approx(expected)


def test_coherence_of_nothing_is_zero_and_of_nan_nan():
    x = torch.zeros(2, 1, SIZE, SIZE)
    x[1] = torch.nan
    assert texture_coherence(x)[0] == 0
    assert texture_coherence(x)[1].isnan()


def test_a_field_depends_on_seed_and_index_only():
    data = PowerLawFields(length=20, seed=4, beta=1.0, share=0.2, kind="signal")
    batch = power_law_fields(5, beta=1.0, share=0.2, kind="signal", seed=4, start=10)
    assert len(data) == 20
    assert all(torch.equal(data[10 + i], batch[i]) for i in range(5))
    assert torch.equal(pickle.loads(pickle.dumps(data))[7], data[7])
    assert not torch.equal(batch, power_law_fields(5, beta=1.0, share=0.2, kind="signal", seed=5, start=10))
    assert batch.dtype == torch.float32
    assert batch.unique(dim=0).shape == batch.shape


def test_the_kinds_share_their_base():
    low = np.hypot(*np.indices((SIZE, SIZE))) <= 4
    signal, noise = (dctn(power_law_fields(1, **OPTIONS, kind=kind)[0, 0].numpy()) for kind in ("signal", "noise"))
    np.testing.assert_allclose(signal[low], noise[low], atol=1e-4)
    assert np.abs(signal - noise).max() > 1


def test_channels_are_copies():
    x = PowerLawFields(SIZE, channels=3, length=2)[1]
    assert x.shape == (3, SIZE, SIZE)
    assert torch.equal(x, PowerLawFields(SIZE, length=2)[1].expand(3, -1, -1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cutoff": 6}, "cutoff must be a DCT radius from 1 to 4"),
        ({"cutoff": 0}, "cutoff must be a DCT radius from 1 to 4"),
        ({"share": 1.0}, r"a share of the power in \[0, 1\)"),
        ({"share": -0.1}, r"a share of the power in \[0, 1\)"),
        ({"beta": -1.0}, "expected beta >= 0"),
        ({"beta": float("nan")}, "expected beta >= 0"),
        ({"std": 0.0}, "std > 0"),
        ({"kind": "edges"}, "unknown kind: got 'edges'; expected one of 'noise', 'signal'"),
        ({"length": 0}, "count"),
        ({"channels": 0}, "channels"),
        ({"resolution": 4}, "cutoff must be a DCT radius from 1 to 0"),
    ],
)
def test_faults(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        PowerLawFields(**{"resolution": 14, "cutoff": 2} | changes)


@pytest.mark.parametrize("changes", [{"resolution": 16.0}, {"cutoff": 2.5}, {"beta": "2"}, {"share": None}])
def test_faults_of_type(changes: dict):
    with pytest.raises(TypeError):
        power_law_fields(1, **{"resolution": 16} | changes)


def test_index_faults():
    with pytest.raises(IndexError, match="index 3 is out of range for 3 fields"):
        PowerLawFields(length=3)[3]
    with pytest.raises(ValueError, match="x must hold square fields"):
        texture_coherence(torch.zeros(1, 1, 8, 16))
