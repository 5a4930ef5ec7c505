"""Amplitude and phase losses against the full complex FFT in NumPy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from passband.regularization import AmplitudeLoss, AmplitudePhaseLoss, amplitude_loss, amplitude_phase_loss

COUPLINGS = ("frequency", "energy", "norm")
SIZES = [(8,), (7,), (1,), (2,), (6, 8), (5, 7), (6, 7), (1, 5), (4, 3, 5), (3, 5, 4)]


def pair(size: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    estimate, clean = (torch.randn(3, 2, *size, generator=generator, dtype=torch.float64) for _ in range(2))
    return estimate.to(dtype), clean.to(dtype)


def spectrum(x: Tensor) -> np.ndarray:
    return np.fft.fftn(x.numpy().astype(np.float64), axes=tuple(range(2, x.ndim)), norm="ortho")


def mean(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).mean(1)


def by_hand(estimate: Tensor, clean: Tensor, coupling: str, rel: float = 1e-3) -> np.ndarray:
    x, y = spectrum(estimate), spectrum(clean)
    gap, amplitude = np.abs(np.abs(y) - np.abs(x)), np.abs(y)
    e2 = np.maximum(rel**2 * mean(amplitude**2), 1e-12).reshape(-1, *(1,) * (x.ndim - 1))
    fade = np.abs(x) ** 2 / (np.abs(x) ** 2 + e2) * amplitude**2 / (amplitude**2 + e2)
    turn = fade * np.abs(np.angle(x * y.conj()))
    if coupling == "frequency":
        return mean(gap * (1 + turn))
    if coupling == "energy":
        return mean(gap + amplitude * turn)
    return mean(gap) * (1 + mean(turn))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_amplitude_is_the_mean_over_the_full_spectrum(size):
    estimate, clean = pair(size)
    expected = mean(np.abs(np.abs(spectrum(clean)) - np.abs(spectrum(estimate))))
    np.testing.assert_allclose(amplitude_loss(estimate, clean).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("rel", [1e-3, 0.3])
@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_couplings_are_their_formulas_on_the_full_spectrum(size, coupling, rel):
    estimate, clean = pair(size)
    result = amplitude_phase_loss(estimate, clean, coupling, rel).numpy()
    np.testing.assert_allclose(result, by_hand(estimate, clean, coupling, rel), rtol=1e-11)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_float32_agrees_with_float64(coupling):
    estimate, clean = pair((8, 9))
    single = amplitude_phase_loss(estimate.float(), clean.float(), coupling)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), amplitude_phase_loss(estimate, clean, coupling), rtol=1e-5, atol=0)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000), st.sampled_from(COUPLINGS))
def test_any_size(height, width, seed, coupling):
    estimate, clean = pair((height, width), seed)
    result = amplitude_phase_loss(estimate, clean, coupling).numpy()
    np.testing.assert_allclose(result, by_hand(estimate, clean, coupling), rtol=1e-10)


# What the losses see.


def test_zero_at_equality_and_positive_elsewhere():
    estimate, clean = pair((6, 7))
    losses = [amplitude_loss, *(AmplitudePhaseLoss(coupling) for coupling in COUPLINGS)]
    for loss in losses:
        assert loss(clean, clean).tolist() == [0, 0, 0]
        assert (loss(estimate, clean) > 0).all()


@pytest.mark.parametrize("shift", [1, 4])
def test_amplitude_and_two_couplings_are_blind_to_a_shift(shift):
    _, clean = pair((8, 9))
    moved = clean.roll((shift, 2 * shift), dims=(2, 3))
    assert amplitude_loss(moved, clean).max() < 1e-14
    assert amplitude_phase_loss(moved, clean, "frequency").max() < 1e-13
    assert amplitude_phase_loss(moved, clean, "norm").max() < 1e-13
    assert amplitude_phase_loss(moved, clean, "energy").min() > 0.1


def test_only_the_energy_coupling_sees_a_change_of_sign():
    _, clean = pair((8, 8))
    assert amplitude_phase_loss(-clean, clean, "frequency").tolist() == [0, 0, 0]
    assert amplitude_phase_loss(-clean, clean, "norm").tolist() == [0, 0, 0]
    expected = math.pi * mean(np.abs(spectrum(clean)))
    # rel fades the phases of the weakest frequencies only.
    np.testing.assert_allclose(amplitude_phase_loss(-clean, clean, "energy").numpy(), expected, rtol=1e-4)


def test_a_turned_cosine_by_hand():
    # One frequency, two of 16 columns of the spectrum, of amplitude 16 / 2 / sqrt(16) = 2, at a phase of 3 radians.
    n = torch.arange(16, dtype=torch.float64) * 2 * math.pi * 3 / 16
    clean, turned = n.cos().reshape(1, 1, -1), 1.5 * (n + 3).cos().reshape(1, 1, -1)
    assert amplitude_loss(turned, clean).item() == pytest.approx(2 / 16 * 1.0)
    # Two more decimals than the fade's bias at rel = 1e-3.
    assert amplitude_phase_loss(turned, clean, "frequency").item() == pytest.approx(2 / 16 * (1 + 3), rel=1e-5)
    assert amplitude_phase_loss(turned, clean, "energy").item() == pytest.approx(2 / 16 * (1 + 2 * 3), rel=1e-5)
    assert amplitude_phase_loss(turned, clean, "norm").item() == pytest.approx(2 / 16 * (1 + 2 / 16 * 3), rel=1e-5)


def test_phase_differences_are_wrapped():
    # Phases 3 and -3 lie 2 pi - 6 apart, not 6.
    n = torch.arange(16, dtype=torch.float64) * 2 * math.pi * 3 / 16
    clean, turned = (n - 3).cos().reshape(1, 1, -1), 1.5 * (n + 3).cos().reshape(1, 1, -1)
    expected = 2 / 16 * (1 + 2 * math.pi - 6)
    assert amplitude_phase_loss(turned, clean).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_scale_is_carried_through(coupling):
    estimate, clean = pair((6, 6))
    for scale in (1e-3, 1e3):
        scaled = amplitude_phase_loss(scale * estimate, scale * clean, coupling)
        torch.testing.assert_close(scaled, scale * amplitude_phase_loss(estimate, clean, coupling), rtol=1e-10, atol=0)


def test_samples_do_not_see_each_other():
    estimate, clean = pair((6, 6))
    clean = clean * torch.tensor([1.0, 1e-4, 1e4], dtype=torch.float64).reshape(3, 1, 1, 1)
    for coupling in COUPLINGS:
        whole = amplitude_phase_loss(estimate, clean, coupling)
        alone = torch.cat([amplitude_phase_loss(estimate[i : i + 1], clean[i : i + 1], coupling) for i in range(3)])
        torch.testing.assert_close(whole, alone, rtol=1e-12, atol=0)


def test_the_phase_fades_out_under_the_floor():
    # A frequency that the clean sample does not have has no phase to compare.
    n = torch.arange(16, dtype=torch.float64) * 2 * math.pi / 16
    clean = (3 * n).cos().reshape(1, 1, -1)
    estimate = clean + 1e-3 * (5 * n + 1).cos().reshape(1, 1, -1)
    assert amplitude_phase_loss(estimate, clean, "norm").item() == pytest.approx(2 / 16 * 2e-3, rel=1e-6)


# Options.


def test_modules_equal_functions():
    estimate, clean = pair((6, 7))
    assert torch.equal(AmplitudeLoss()(estimate, clean), amplitude_loss(estimate, clean))
    for coupling in COUPLINGS:
        expected = amplitude_phase_loss(estimate, clean, coupling, 0.1)
        assert torch.equal(AmplitudePhaseLoss(coupling, rel=0.1)(estimate, clean), expected)
    assert torch.equal(AmplitudePhaseLoss()(estimate, clean), amplitude_phase_loss(estimate, clean, "frequency", 1e-3))
    assert repr(AmplitudePhaseLoss("energy")) == "AmplitudePhaseLoss(coupling='energy', rel=0.001)"
    assert (AmplitudeLoss().name, AmplitudePhaseLoss().name) == ("amplitude", "amplitude_phase")


def test_options_out_of_range():
    estimate, clean = pair((6, 7))
    for make in (AmplitudePhaseLoss, lambda *options: amplitude_phase_loss(estimate, clean, *options)):
        with pytest.raises(
            ValueError, match=r"unknown coupling: got 'energi' \(did you mean 'energy'\?\); expected one of"
        ):
            make("energi")
        for rel in (0.0, 1.0, -1e-3, math.nan):
            with pytest.raises(ValueError, match=r"rel must be in \(0, 1\), got"):
                make("norm", rel)
