"""Mel spectrograms against closed forms, SciPy, and librosa where it is installed."""

import math

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.transforms import MelSpectrogram, hz_to_mel, mel_filterbank, mel_to_hz


def test_closed_forms_of_the_scales():
    hz = torch.tensor([0.0, 700.0, 1000.0, 6400.0], dtype=torch.float64)
    assert hz_to_mel(hz)[1].item() == pytest.approx(2595 * math.log10(2))
    slaney = hz_to_mel(hz, "slaney")
    assert slaney.tolist() == pytest.approx([0, 10.5, 15, 15 + 27], abs=1e-12)


@given(st.floats(0, 24000), st.sampled_from(["htk", "slaney"]))
@settings(max_examples=20, deadline=None)
def test_the_scales_invert(hz, scale):
    there = torch.tensor([hz], dtype=torch.float64)
    torch.testing.assert_close(mel_to_hz(hz_to_mel(there, scale), scale), there, rtol=1e-10, atol=1e-9)


def triangles(sample_rate, n_fft, n_mels, f_min, f_max):
    """The definition, band by band, for HTK's scale."""
    low, high = (2595 * math.log10(1 + f / 700) for f in (f_min, f_max))
    edges = [700 * (10 ** ((low + i * (high - low) / (n_mels + 1)) / 2595) - 1) for i in range(n_mels + 2)]
    bank = np.zeros((n_fft // 2 + 1, n_mels))
    for k in range(n_fft // 2 + 1):
        f = k * sample_rate / n_fft
        for m in range(n_mels):
            left, centre, right = edges[m : m + 3]
            if left < f <= centre:
                bank[k, m] = (f - left) / (centre - left)
            elif centre < f < right:
                bank[k, m] = (right - f) / (right - centre)
    return bank, edges


def test_htk_bank_is_its_definition():
    bank, edges = triangles(16000, 256, 20, 20.0, 8000.0)
    np.testing.assert_allclose(mel_filterbank(16000, 256, 20).numpy(), bank, atol=1e-12)
    areas = 2 / (np.array(edges[2:]) - np.array(edges[:-2]))
    np.testing.assert_allclose(mel_filterbank(16000, 256, 20, area_norm=True).numpy(), bank * areas, atol=1e-12)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
@pytest.mark.parametrize("area_norm", [False, True])
@pytest.mark.parametrize("n_fft", [1024, 321])
def test_bank_equals_librosa(scale, area_norm, n_fft):
    librosa = pytest.importorskip("librosa", reason="librosa is another library's oracle")
    theirs = librosa.filters.mel(
        sr=22050, n_fft=n_fft, n_mels=30, fmin=20.0, htk=scale == "htk", norm="slaney" if area_norm else None,
        dtype=np.float64,
    )  # fmt: skip
    ours = mel_filterbank(22050, n_fft, 30, scale=scale, area_norm=area_norm)
    np.testing.assert_allclose(ours.numpy().T, theirs, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("win_length", [None, 200])
def test_magnitudes_equal_scipy(win_length):
    audio = torch.randn(1500, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mel = MelSpectrogram(16000, n_fft=256, win_length=win_length, hop_length=64, n_mels=20)
    length = win_length or 256
    window = scipy.signal.get_window("hann", length)  # periodic
    place = (256 - length) // 2
    padded_window = np.pad(window, (place, 256 - length - place))
    extended = np.pad(audio.numpy(), 128, mode="reflect")
    frames = np.stack([extended[i : i + 256] for i in range(0, len(extended) - 255, 64)])
    spectrum = np.abs(np.fft.rfft(frames * padded_window)) / np.sqrt((window**2).sum())
    wanted = spectrum @ triangles(16000, 256, 20, 20.0, 8000.0)[0]
    np.testing.assert_allclose(mel(audio).numpy(), wanted.T, rtol=1e-9, atol=1e-12)
    assert mel(audio).shape == (20, 1500 // 64 + 1)


def test_a_tone_has_its_closed_form():
    # At a bin's own frequency the windowed sum is amplitude x sum(w) / 2 there, and half of that in its neighbours.
    mel = MelSpectrogram(16000, n_fft=512, hop_length=128, n_mels=10)
    k = 40
    audio = 0.3 * torch.cos(2 * torch.pi * k / 512 * torch.arange(8000, dtype=torch.float64))
    window = scipy.signal.get_window("hann", 512)
    peak = 0.3 * window.sum() / 2 / np.sqrt((window**2).sum())
    bank = mel_filterbank(16000, 512, 10)
    wanted = peak * (bank[k] + 0.5 * bank[k - 1] + 0.5 * bank[k + 1])
    torch.testing.assert_close(mel(audio)[:, 30], wanted, rtol=1e-6, atol=1e-9)


@given(st.integers(0, 40), st.integers(1, 12))
@settings(max_examples=15, deadline=None)
def test_a_crop_with_its_surroundings_has_the_columns_of_the_whole(start, frames):
    mel = MelSpectrogram(16000, n_fft=128, hop_length=32, n_mels=8)
    audio = torch.randn(64 * 32, generator=torch.Generator().manual_seed(1))
    whole = mel.normalized(audio)
    extended = torch.nn.functional.pad(audio[None], (mel.margin, mel.margin), mode="reflect")[0]
    crop = extended[start * 32 : start * 32 + frames * 32 + 2 * mel.margin]
    columns = mel.normalized(crop, padded=True)
    assert columns.shape == (8, frames + 1)
    torch.testing.assert_close(columns, whole[:, start : start + frames + 1])


def test_normalized_is_the_published_formula_and_lies_in_0_to_1():
    mel = MelSpectrogram(22050)
    audio = torch.randn(2, 1, 8192, generator=torch.Generator().manual_seed(2)) * torch.tensor([[[1.0]], [[1e-4]]])
    decibels = 20 * torch.log10(mel(audio).clamp(min=1e-5)) - 20
    torch.testing.assert_close(mel.normalized(audio), ((decibels + 100) / 100).clamp(0, 1))
    assert mel.normalized(audio).shape == (2, 1, 80, 33)
    assert mel.normalized(torch.zeros(1, 8192)).max() == 0
    assert mel.normalized(1e6 * audio[:1]).max() == 1


def test_no_state_and_any_dtype():
    mel = MelSpectrogram(16000)
    assert not mel.state_dict()
    audio = torch.randn(4096, dtype=torch.float64)
    assert mel(audio).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        low = mel(audio.bfloat16())
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), mel(audio.bfloat16().double()), rtol=1e-4, atol=1e-5)
    assert mel(torch.full((4096,), torch.nan)).isnan().all()


def test_gradients():
    mel = MelSpectrogram(16000, n_fft=64, hop_length=16, n_mels=4)
    audio = torch.randn(96, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mel, (audio,))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"n_mels": 0}, ValueError, "n_mels must be at least 1, got 0"),
        ({"n_fft": 512.0}, TypeError, "n_fft"),
        ({"hop_length": 600}, ValueError, "hop_length at most half"),
        ({"win_length": 2048}, ValueError, "win_length must be at most n_fft"),
        ({"f_min": 9000.0}, ValueError, "f_min < f_max"),
        ({"f_max": 12000.0}, ValueError, "half the sample rate, 8000 Hz"),
        ({"scale": "bark"}, ValueError, "scale"),
        ({"n_mels": 400}, ValueError, "lie between two frequencies"),
    ],
)
def test_bad_options(options, error, match):
    with pytest.raises(error, match=match):
        MelSpectrogram(16000, **options)


def test_bad_audio():
    mel = MelSpectrogram(16000)
    with pytest.raises(ValueError, match="at least 513 samples"):
        mel(torch.zeros(512))
    with pytest.raises(ValueError, match="at least 1024 samples"):
        mel(torch.zeros(1000), padded=True)
    with pytest.raises(TypeError, match="floating"):
        mel(torch.zeros(4096, dtype=torch.int16))


def test_it_moves_to_devices_without_float64_and_float64_audio_keeps_its_digits():
    mel = MelSpectrogram(8000, n_fft=256, hop_length=64, n_mels=10)
    assert {buffer.dtype for buffer in mel.buffers()} == {torch.float32}
    audio = torch.randn(1, 2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = mel(audio)
    torch.testing.assert_close(mel(audio.float()).double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mel.float()(3 * audio), 3 * expected, rtol=1e-13, atol=1e-15)
    exact = mel_filterbank(8000, 256, 10)
    window = torch.hann_window(256, dtype=torch.float64)
    first = torch.fft.rfft(audio[0, 64:320] * window / window.square().sum().sqrt()).abs() @ exact
    torch.testing.assert_close(expected[0, :, 3], first, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("n_fft", [255, 256])
def test_frames_of_even_and_odd_transforms(n_fft):
    mel = MelSpectrogram(8000, n_fft=n_fft, hop_length=64, n_mels=8)
    for samples in (640, 641, 703):
        frames = samples // 64 + 1 if n_fft % 2 == 0 else (samples - 1) // 64 + 1
        assert mel(torch.randn(samples)).shape == (8, frames)
        assert mel(torch.randn(samples + 2 * mel.margin), padded=True).shape == (8, frames)
