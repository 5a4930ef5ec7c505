"""Long-term spectra against SciPy's Welch, filters of known gain, and the standard's bands."""

import itertools
import math

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.metrics import LongTermSpectrum, compare_long_term, octave_edges


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spectrum(*clips, rate=16000, n_fft=256):
    result = LongTermSpectrum(rate, n_fft)
    for clip in clips:
        result.update(clip)
    return result


@pytest.mark.parametrize(("rate", "n_fft", "samples"), [(16000, 256, 5000), (22050, 1024, 4096), (8000, 64, 64)])
def test_equals_scipys_welch(rate, n_fft, samples):
    clip = noise(0, samples)
    frequencies, psd = scipy.signal.welch(clip.double().numpy(), rate, nperseg=n_fft, detrend=False)
    found = spectrum(clip, rate=rate, n_fft=n_fft)
    np.testing.assert_allclose(found.frequencies.numpy(), frequencies, rtol=1e-12)
    np.testing.assert_allclose(found.psd.numpy(), psd, rtol=1e-10)


def test_the_power_of_a_sine_is_at_its_frequency():
    clip = 0.5 * torch.sin(2 * math.pi * 1000 * torch.arange(16000, dtype=torch.float64) / 16000)
    found = spectrum(clip)
    assert int(found.psd.argmax()) == 16  # 1000 Hz / 62.5 Hz
    assert float(found.psd.sum() * 62.5) == pytest.approx(0.5**2 / 2, rel=1e-6)


def test_clips_count_by_their_frames():
    long, short = noise(1, 256 * 9), 3 * noise(2, 256)
    alone = [spectrum(x).psd for x in (long, short)]
    torch.testing.assert_close(spectrum(long, short).psd, (17 * alone[0] + alone[1]) / 18)


def test_the_error_is_that_of_the_mean_over_equal_clips():
    clips = noise(3, 6, 2000)
    psds = torch.stack([spectrum(c).psd for c in clips])
    torch.testing.assert_close(spectrum(clips).error, psds.std(0) / math.sqrt(6))
    assert spectrum(clips[0]).error.isnan().all()


def test_the_error_says_how_far_the_mean_is_off():
    """Over 40 sets of clips, (mean - truth) / error has about unit variance."""
    truth = 2 / 16000
    z = []
    for seed in range(40):
        found = spectrum(noise(seed, 12, 1024))
        z.append((found.psd[20:100:4] - truth) / found.error[20:100:4])
    assert 0.8 < float(torch.cat(z).std()) < 1.4


@given(st.lists(st.integers(0, 2), min_size=5, max_size=5), st.integers(0, 99))
def test_a_merge_equals_one_pass(ranks, seed):
    clips = [noise(seed + i, 300 + 100 * i) for i in range(5)]
    parts = [spectrum(*(c for c, r in zip(clips, ranks, strict=True) if r == rank)) for rank in range(3)]
    merged = parts[0].merge(parts[1]).merge(parts[2])
    whole = spectrum(*clips)
    torch.testing.assert_close(merged.psd, whole.psd)
    torch.testing.assert_close(merged.error, whole.error)
    assert merged.count == 5
    assert merged.seconds == pytest.approx(whole.seconds)


def test_a_state_can_be_loaded_and_a_batch_is_its_clips():
    clips = noise(4, 3, 1, 800)
    batched, one_by_one = spectrum(clips), spectrum(*clips)
    torch.testing.assert_close(batched.psd, one_by_one.psd)
    copy = LongTermSpectrum(8000, 64)
    copy.load_state_dict(batched.state_dict())
    assert (copy.sample_rate, copy.n_fft, copy.count) == (16000, 256, 3)
    assert torch.equal(copy.error, batched.error)
    copy.reset()
    assert copy.count == 0
    with pytest.raises(ValueError, match="no clips yet"):
        _ = copy.psd
    with pytest.raises(ValueError, match="lacks"):
        copy.load_state_dict({"sum": torch.zeros(3)})


def test_the_balance_of_a_filtered_signal_is_the_filters_gain():
    clips = noise(5, 4, 65536).double()
    sos = scipy.signal.butter(2, [1000, 3000], "bandpass", fs=16000, output="sos")
    filtered = torch.from_numpy(scipy.signal.sosfilt(sos, clips.numpy()).copy())
    result = compare_long_term(spectrum(clips, n_fft=1024), spectrum(filtered, n_fft=1024), floor=0.0)
    _, response = scipy.signal.sosfreqz(sos, result.frequencies[16:384].numpy(), fs=16000)  # 250 to 6,000 Hz
    gain = torch.from_numpy(20 * np.log10(np.abs(response)))
    assert float((result.ratio_db[16:384] - gain).abs().max()) < 0.1
    for band in result.third_octaves:
        below = result.frequencies < band.high if band.high < 8000 else True
        inside = (result.frequencies >= band.low) & below
        assert band.bias == pytest.approx(float(result.ratio_db[inside].mean()))
        assert band.lsd >= abs(band.bias) - 1e-9
    in_band = [b for b in result.octaves if 1800 < b.centre < 2200]
    assert abs(in_band[0].bias) < 1.5
    assert result.octaves[0].bias < -20


def test_mel_bands_share_the_energy():
    clips = noise(6, 3, 20000)
    real = spectrum(clips, n_fft=1024)
    result = compare_long_term(real, spectrum(clips / 10, n_fft=1024), n_mels=30, floor=0.0)
    torch.testing.assert_close(result.mel_db, torch.full((30,), -20.0, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.mel_share_real, result.mel_share_fake)
    assert float(result.mel_share_real.sum()) == pytest.approx(1)
    # White noise: a triangle's energy is its width in Hz.
    assert 10 < float(result.mel_share_real[-1] / result.mel_share_real[0]) < 20
    assert bool((result.mel_frequencies.diff() > 0).all())
    assert 20 < float(result.mel_frequencies[0]) < float(result.mel_frequencies[-1]) < 8000


def test_the_floor_bounds_what_missing_frequencies_weigh():
    clips = noise(7, 2, 20000)
    result = compare_long_term(spectrum(clips), spectrum(0 * clips), floor=1e-3)
    assert float(result.ratio_db[1:-1].min()) == pytest.approx(-30, abs=1.5)
    assert result.lsd == pytest.approx(30, abs=1)


def test_thirds_and_octaves_are_those_of_the_standard():
    """Nominal centres of IEC 61260: 100, 125, 160 ... Hz are within 2 % of the exact ones; edges meet."""
    thirds = octave_edges(100, 8000)
    nominal = [100, 125, 160, 200, 250, 315, 400, 500, 630, 800, 1000, 1250, 1600, 2000, 2500, 3150, 4000, 5000, 6300]
    assert [c for _, c, _ in thirds] == pytest.approx([*nominal, 8000], rel=0.02)
    assert thirds[10][1] == 1000
    for (_, _, high), (low, _, _) in itertools.pairwise(thirds):
        assert high == pytest.approx(low)
    for low, centre, high in thirds:
        assert high / low == pytest.approx(10**0.1)
        assert math.sqrt(low * high) == pytest.approx(centre)
    assert [c for _, c, _ in octave_edges(1000, 1001, 2)] == pytest.approx([1000 * 10**0.075])


def test_bands_cover_every_frequency_but_zero_once():
    result = compare_long_term(spectrum(noise(8, 2000)), spectrum(noise(9, 2000)))
    for bands in (result.octaves, result.third_octaves):
        counts = sum(((result.frequencies >= b.low) & (result.frequencies < b.high)).long() for b in bands)
        assert counts[1:-1].tolist() == [1] * (len(counts) - 2)
        assert bands[-1].high == 8000


def test_bad_input():
    with pytest.raises(ValueError, match="even and at least 16"):
        LongTermSpectrum(16000, 255)
    with pytest.raises(TypeError, match="sample_rate must be an int"):
        LongTermSpectrum(16000.5)
    with pytest.raises(ValueError, match="at least n_fft = 256"):
        spectrum(torch.zeros(255))
    with pytest.raises(TypeError, match="floating"):
        spectrum(torch.zeros(300, dtype=torch.int16))
    found = spectrum(noise(0, 300))
    with pytest.raises(ValueError, match="1 of 2 are not, the first at index 1"):
        found.update(torch.stack([torch.zeros(300), torch.full((300,), math.nan)]))
    assert found.count == 1
    with pytest.raises(ValueError, match="resample the clips"):
        found.merge(LongTermSpectrum(8000, 256))
    with pytest.raises(ValueError, match="one sample rate"):
        compare_long_term(found, LongTermSpectrum(16000, 512))
    with pytest.raises(ValueError, match="no clips yet"):
        compare_long_term(found, LongTermSpectrum(16000, 256))
    with pytest.raises(ValueError, match="silent"):
        compare_long_term(spectrum(torch.zeros(300)), found)
    with pytest.raises(ValueError, match="at least 0; got -1"):
        compare_long_term(found, found, floor=-1)
    with pytest.raises(ValueError, match="fewer n_mels"):
        compare_long_term(found, found, n_mels=120)
    with pytest.raises(ValueError, match="0 < low < high"):
        octave_edges(10, 5)
