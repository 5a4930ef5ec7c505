"""Losses over short-time frames against torch.stft, SciPy and the plain losses."""

import copy
import gc
import math
import pickle
import weakref

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import passband
from passband.process import VP
from passband.regularization import (
    AmplitudeLoss,
    AmplitudePhaseLoss,
    FramedLoss,
    PixelLoss,
    SpectralLoss,
    SpectralRegularizer,
    WaveletLoss,
    amplitude_loss,
    framed_loss,
)

LOSSES = {
    "amplitude": FramedLoss(AmplitudeLoss(), (8, 16)),
    "energy": FramedLoss(AmplitudePhaseLoss("energy"), (8, 12), overlap=0.5),
    "norm": FramedLoss(AmplitudePhaseLoss("norm"), (9,), window="rectangular"),
    "haar": FramedLoss(WaveletLoss(), (8, 16)),
    "sum": FramedLoss(AmplitudeLoss() + 0.5 * WaveletLoss("bior1.3", levels=1), (12,)),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def pair(samples: int = 40, dtype: torch.dtype = torch.float64, seed: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    estimate, clean = (torch.randn(2, 2, samples, generator=generator, dtype=torch.float64) for _ in range(2))
    return estimate.to(dtype), clean.to(dtype)


def mean_square(estimate: Tensor, clean: Tensor) -> Tensor:
    return (estimate - clean).square().flatten(1).mean(1)


def mirrored(x: np.ndarray, length: int, hop: int) -> np.ndarray:
    """Continued so that as many frames as there are hops in the signal fit, half of it on each side."""
    missing = (-(-x.shape[-1] // hop) - 1) * hop + length - x.shape[-1]
    return np.pad(x, [(0, 0), (0, 0), (missing // 2, missing - missing // 2)], mode="symmetric")


# What it is.


@pytest.mark.parametrize("samples", [64, 61, 70])
@pytest.mark.parametrize(("length", "overlap"), [(16, 0.75), (16, 0.5), (12, 0.75), (15, 0.6), (16, 0.0)])
def test_amplitude_is_the_difference_of_stft_magnitudes(samples, length, overlap):
    hop = round(length * (1 - overlap))
    window = torch.hann_window(length, dtype=torch.float64)
    magnitudes = []
    for x in pair(samples):
        rows = torch.from_numpy(mirrored(x.numpy(), length, hop)).flatten(0, 1)
        spectrum = torch.stft(rows, length, hop, window=window, center=False, onesided=False, return_complex=True)
        magnitudes.append(spectrum.abs().unflatten(0, (2, 2)) / window.square().sum().sqrt())
    assert magnitudes[0].shape[-1] == math.ceil(samples / hop)
    expected = (magnitudes[0] - magnitudes[1]).abs().flatten(1).mean(1)
    result = framed_loss(*pair(samples), amplitude_loss, (length,), overlap)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=0)


def test_amplitude_is_scipys_at_several_resolutions():
    expected = np.zeros(2)
    for length in (16, 32):
        spectra = [
            scipy.signal.stft(
                mirrored(x.numpy(), length, length // 4),
                window="hann",
                nperseg=length,
                noverlap=length - length // 4,
                boundary=None,
                padded=False,
                return_onesided=False,
                scaling="psd",  # over the root of the window's power, and of a sampling rate of 1
            )[2]
            for x in pair(96)
        ]
        expected += np.abs(np.abs(spectra[0]) - np.abs(spectra[1])).reshape(2, -1).mean(1) / 2
    np.testing.assert_allclose(framed_loss(*pair(96), amplitude_loss, (16, 32)).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("samples", [16, 17])
@pytest.mark.parametrize(
    "loss", [AmplitudeLoss(), AmplitudePhaseLoss("energy"), WaveletLoss(), PixelLoss()], ids=lambda loss: loss.name
)
def test_one_rectangular_frame_is_the_plain_loss(loss, samples):
    estimate, clean = pair(samples)
    assert torch.equal(framed_loss(estimate, clean, loss, (samples,), 0.0, "rectangular"), loss(estimate, clean))


@given(st.sampled_from([(8, 0.75), (8, 0.5), (4, 0.5), (6, 0.0), (12, 2 / 3)]), st.integers(2, 12), st.integers(0, 99))
def test_all_samples_count_alike(resolution, hops, seed):
    length, overlap = resolution
    hop = round(length * (1 - overlap))
    estimate, clean = pair(max(length, hop * hops) // hop * hop, seed=seed)
    result = framed_loss(estimate, clean, mean_square, (length,), overlap, "rectangular")
    torch.testing.assert_close(result, mean_square(estimate, clean), rtol=1e-12, atol=0)


@given(st.integers(2, 9), st.integers(0, 30), st.floats(0, 0.9))
def test_frames_cover_every_sample(length, more, overlap):
    estimate, clean = pair(length + more)
    estimate.requires_grad_()
    value = framed_loss(estimate, clean, mean_square, (length,), overlap, "rectangular")
    (grad,) = torch.autograd.grad(value.sum(), estimate)
    assert (grad / (estimate - clean) > 0).all()


@pytest.mark.parametrize("length", [64, 256, 1024])
@pytest.mark.parametrize("window", ["hann", "rectangular"])
def test_white_noise_keeps_its_level(length, window):
    generator = torch.Generator().manual_seed(0)
    noise = 3 * torch.randn(1, 1, 2**16, generator=generator, dtype=torch.float64)
    silent = torch.zeros_like(noise)
    assert framed_loss(noise, silent, mean_square, (length,), window=window).item() == pytest.approx(9, rel=0.03)
    # |X| is Rayleigh: its mean is sqrt(pi) / 2 of the level (the two real frequencies have a little less).
    level = framed_loss(noise, silent, amplitude_loss, (length,), window=window).item()
    assert level == pytest.approx(3 * math.sqrt(math.pi) / 2, rel=0.02)


def test_a_change_of_level_in_time_is_seen():
    # The same amplitudes over the whole signal, at another place: the plain loss sees nothing.
    _, clean = pair(64)
    clean = clean * (torch.arange(64) < 16)
    moved = clean.roll(32, dims=-1)
    assert amplitude_loss(moved, clean).max() < 1e-13
    assert framed_loss(moved, clean, amplitude_loss, (8, 16)).min() > 0.1


def test_resolutions_are_averaged():
    estimate, clean = pair()
    alone = [framed_loss(estimate, clean, amplitude_loss, (length,)) for length in (8, 12, 32)]
    result = framed_loss(estimate, clean, amplitude_loss, (8, 12, 32))
    torch.testing.assert_close(result, sum(alone) / 3, rtol=1e-14, atol=0)


@every_loss
def test_one_value_per_sample(loss):
    estimate, clean = pair()
    whole = loss(estimate, clean)
    assert whole.shape == (2,)
    assert (whole > 0).all()
    alone = torch.cat([loss(estimate[i : i + 1], clean[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(whole, alone, rtol=1e-12, atol=0)
    assert loss(clean, clean).abs().max() == 0


# Gradients, precision, devices.


@every_loss
@pytest.mark.parametrize("samples", [24, 27])
def test_gradcheck(loss, samples):
    estimate, clean = pair(samples)
    estimate.requires_grad_()
    clean.requires_grad_()
    assert torch.autograd.gradcheck(loss, (estimate, clean), eps=1e-7, atol=1e-6, fast_mode=True)


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(loss, dtype):
    estimate, clean = pair(dtype=dtype)
    value = loss(estimate, clean)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(estimate.float(), clean.float()))
    assert loss(estimate, clean.double()).dtype == torch.float64


def gradient(loss: SpectralLoss, estimate: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    estimate = estimate.clone().requires_grad_()
    value = loss(estimate, clean)
    (grad,) = torch.autograd.grad(value.sum(), estimate)
    return value.detach(), grad


@every_loss
def test_autocast_changes_nothing(loss):
    estimate, clean = pair(dtype=torch.float32)
    expected, expected_gradient = gradient(loss, estimate, clean)
    with torch.autocast("cpu", torch.bfloat16):
        value, grad = gradient(loss, estimate, clean)
    assert torch.equal(value, expected)
    assert torch.equal(grad, expected_gradient)


class Kept:
    """What autograd holds of one tensor, for as long as it does."""

    def __init__(self, tensor: Tensor, alive: "weakref.WeakSet[Kept]") -> None:
        self.tensor = tensor
        alive.add(self)


@every_loss
@pytest.mark.parametrize(("backend", "signals"), [("auto", 1), ("plain", 0)])
def test_one_signal_besides_the_inputs_is_kept_for_backward(loss, backend, signals):
    estimate, clean = pair()
    estimate.requires_grad_()
    alive: weakref.WeakSet[Kept] = weakref.WeakSet()
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda x: Kept(x, alive), lambda kept: kept.tensor),
        passband.backend(backend),
    ):
        value = loss(estimate, clean)
    gc.collect()
    inputs = {x.untyped_storage().data_ptr() for x in (estimate, clean)}
    own = [x.tensor for x in alive if x.tensor.untyped_storage().data_ptr() not in inputs and x.tensor.numel() > 1]
    assert sum(x.untyped_storage().nbytes() for x in own) == signals * estimate.nbytes
    first, second = (torch.autograd.grad(value.sum(), estimate, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


@every_loss
def test_silence_and_extremes_have_finite_gradients(loss):
    estimate, clean = pair(dtype=torch.float32)
    silent = torch.zeros_like(clean)
    cases = [(silent, clean), (clean, clean), (silent, silent), (estimate, silent), (1e14 * estimate, clean)]
    for case in cases:
        value, grad = gradient(loss, *case)
        assert value.isfinite().all()
        assert grad.isfinite().all()


@every_loss
def test_not_a_number_in_not_a_number_out(loss):
    estimate, clean = pair()
    estimate[0, 1, 39] = math.nan  # the very last sample
    assert loss(estimate, clean).isnan().tolist() == [True, False]


@every_loss
def test_no_value_is_looked_at(loss):
    estimate, clean = (x.to("meta") for x in pair())
    estimate.requires_grad_()
    loss(estimate, clean).mean().backward()
    assert estimate.grad.shape == estimate.shape


# As a part of the whole.


def test_module_equals_function():
    estimate, clean = pair()
    loss = FramedLoss(AmplitudeLoss(), [8, 20], overlap=0.5, window="rectangular")
    expected = framed_loss(estimate, clean, amplitude_loss, (8, 20), 0.5, "rectangular")
    assert torch.equal(loss(estimate, clean), expected)
    long = pair(2048)
    defaults = framed_loss(*long, amplitude_loss, (512, 1024, 2048), 0.75, "hann")
    assert torch.equal(FramedLoss(AmplitudeLoss())(*long), defaults)
    assert "frame_lengths=(8, 20), overlap=0.5, window='rectangular'" in repr(loss)


@every_loss
def test_no_state_and_copies(loss):
    assert loss.state_dict() == {}
    estimate, clean = pair()
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(twin(estimate, clean), loss(estimate, clean))


def test_names_and_sums():
    assert LOSSES["energy"].name == "framed_amplitude_phase"
    assert LOSSES["sum"].name == "framed_amplitude_wavelet"
    estimate, clean = pair()
    total = LOSSES["amplitude"] + 0.5 * PixelLoss()
    expected = LOSSES["amplitude"](estimate, clean) + 0.5 * PixelLoss()(estimate, clean)
    torch.testing.assert_close(total(estimate, clean), expected, rtol=1e-14, atol=0)
    framed = [FramedLoss(PixelLoss(), (8,)), FramedLoss(PixelLoss(), (9,))]
    parts = sum(part(estimate, clean) for part in framed) / 2
    torch.testing.assert_close(framed_loss(estimate, clean, PixelLoss(), (8, 9)), parts, rtol=1e-14, atol=0)


def test_in_the_regularizer():
    process, generator = VP(), torch.Generator().manual_seed(0)
    clean, noise, pred = torch.randn(3, 2, 1, 64, generator=generator)
    t = torch.tensor([10, 200])
    noisy = process.add_noise(clean, noise, t)
    loss = FramedLoss(AmplitudePhaseLoss(), (16, 32))
    spectral = SpectralRegularizer(loss, weight=1)
    expected = loss(process.clean_estimate(noisy, pred, t), clean)
    torch.testing.assert_close(spectral.per_sample(process, noisy, pred, t, clean=clean), expected)
    assert set(spectral.terms) == {"framed_amplitude_phase", "total"}


# Bad input.


def test_a_signal_shorter_than_a_frame():
    estimate, clean = pair(20)
    message = "frames of 32 samples need signals at least as long, got 20 samples"
    with pytest.raises(ValueError, match=message):
        framed_loss(estimate, clean, amplitude_loss, (8, 32))
    assert framed_loss(estimate, clean, amplitude_loss, (20,)).isfinite().all()


def test_wrong_options():
    x, _ = pair()
    for make in (
        lambda **options: FramedLoss(AmplitudeLoss(), **options),
        lambda **options: framed_loss(x, x, amplitude_loss, **options),
    ):
        with pytest.raises(TypeError, match=r"frame_lengths must be a sequence of ints .* got 512"):
            make(frame_lengths=512)
        with pytest.raises(TypeError, match=r"each of frame_lengths must be an int, got 8\.0"):
            make(frame_lengths=(8.0,))
        with pytest.raises(ValueError, match="frame_lengths must hold at least one length"):
            make(frame_lengths=())
        with pytest.raises(ValueError, match="each of frame_lengths must be at least 2 samples, got 1"):
            make(frame_lengths=(8, 1))
        for overlap in (1.0, -0.1, math.nan):
            with pytest.raises(ValueError, match=r"overlap is the share of a frame .* in \[0, 1\); got"):
                make(frame_lengths=(8,), overlap=overlap)
        with pytest.raises(TypeError, match="overlap must be a number"):
            make(overlap="half")
        with pytest.raises(ValueError, match=r"unknown window: got 'han' \(did you mean 'hann'\?\)"):
            make(window="han")


def test_wrong_losses_and_fields():
    estimate, clean = pair()
    with pytest.raises(TypeError, match=r"loss must be a SpectralLoss such as AmplitudeLoss\(\)"):
        FramedLoss(amplitude_loss)
    for loss in ("amplitude", AmplitudeLoss):
        with pytest.raises(TypeError, match="loss must be a function of"):
            framed_loss(estimate, clean, loss)
    with pytest.raises(ValueError, match=r"estimate must have shape .* with 1 spatial dimension"):
        LOSSES["amplitude"](estimate.unsqueeze(-1), clean.unsqueeze(-1))
    with pytest.raises(ValueError, match="estimate and clean must have the same shape"):
        LOSSES["amplitude"](estimate[..., :-1], clean)
    with pytest.raises(TypeError, match="estimate must be a real floating-point tensor"):
        LOSSES["amplitude"](estimate.long(), clean)


def test_a_loss_of_ones_own():
    class Peak(SpectralLoss):
        def forward(self, estimate: Tensor, clean: Tensor) -> Tensor:
            return (estimate - clean).abs().flatten(1).amax(1)

    estimate, clean = pair()
    loss = FramedLoss(Peak(), (8,), window="rectangular")
    assert loss.name == "framed_peak"
    torch.testing.assert_close(loss(estimate, clean), Peak()(estimate, clean))
