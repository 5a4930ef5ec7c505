"""The Fréchet audio distance against SciPy's formula, closed forms, and merges."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from passband.metrics import FeatureStatistics, FrechetAudioDistance, MelStatistics

RATE = 16000


def noise(seed, samples=40000, scale=0.1):
    return scale * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def measured(reals, fakes, **options):
    distance = FrechetAudioDistance(MelStatistics(n_mels=4), **options)
    for clip in reals:
        distance.update(real=clip, sample_rate=RATE)
    for clip in fakes:
        distance.update(fake=clip, sample_rate=RATE)
    return distance


def test_equals_scipys_formula_on_the_vectors():
    embedding = MelStatistics(n_mels=4)
    reals, fakes = [noise(i) for i in range(10)], [noise(20 + i, 50000, 0.02 + 0.01 * i) for i in range(10)]
    a, b = (np.concatenate([embedding(c).numpy() for c in side]).astype(np.float64) for side in (reals, fakes))
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    result = measured(reals, fakes).compute()
    assert result.distance == pytest.approx(expected, rel=1e-5)
    assert (result.real_count, result.fake_count) == (len(a), len(b))
    assert result.features == embedding.name


def test_a_gain_of_6_db_is_36_in_each_band():
    clips = [noise(i) for i in range(8)]
    result = measured(clips, [c * 10 ** (6 / 20) for c in clips]).compute()
    assert result.distance == pytest.approx(4 * 36, rel=1e-3)
    assert result.covariance_term < 1e-2


def test_a_merge_equals_one_pass_and_statistics_can_be_kept():
    clips, fakes = [noise(i) for i in range(6)], [noise(9 + i, scale=0.05) for i in range(6)]
    whole = measured(clips, fakes).compute().distance
    merged = measured(clips[:2], fakes[3:]).merge(measured(clips[2:], fakes[:3]))
    assert merged.compute().distance == pytest.approx(whole, rel=1e-9)
    loaded = measured([], [])
    loaded.load_state_dict(merged.state_dict())
    assert loaded.compute().distance == pytest.approx(whole, rel=1e-9)
    assert measured([], fakes, real=merged.real).compute().distance == pytest.approx(whole, rel=1e-9)


def test_clips_of_another_rate_are_resampled():
    soxr = pytest.importorskip("soxr")
    distance = FrechetAudioDistance(MelStatistics(8000, n_mels=4))
    for i in range(4):
        wide = noise(i, 96000)
        narrow = torch.from_numpy(soxr.resample(wide.numpy(), 48000, 8000, quality="VHQ"))
        distance.update(real=narrow, sample_rate=8000)
        distance.update(fake=wide, sample_rate=48000)
    assert distance.compute().distance < 1e-6


def test_halves_of_one_set_are_nearer_with_more_windows():
    """The bias of small samples falls with the number of windows."""
    few = measured([noise(i) for i in range(4)], [noise(50 + i) for i in range(4)]).compute().distance
    many = measured([noise(i) for i in range(24)], [noise(50 + i) for i in range(24)]).compute().distance
    assert many < 0.5 * few


def test_bad_input():
    distance = FrechetAudioDistance(MelStatistics())
    with pytest.raises(ValueError, match="fake audio must be finite"):
        distance.update(fake=torch.full((RATE,), math.inf), sample_rate=RATE)
    with pytest.raises(ValueError, match="real audio must be one clip"):
        distance.update(real=torch.zeros(2, RATE), sample_rate=RATE)
    with pytest.raises(ValueError, match="at least 257"):
        distance.update(real=torch.zeros(100), sample_rate=RATE)
    with pytest.raises(ValueError, match="at least 2"):
        distance.compute()
    with pytest.raises(TypeError, match="load_audio_embedding makes one"):
        FrechetAudioDistance("mel")
    with pytest.raises(ValueError, match="different features"):
        FrechetAudioDistance(MelStatistics(), real=FeatureStatistics("others"))


def test_nothing_is_added_where_one_of_two_clips_cannot_be_used():
    distance = FrechetAudioDistance(MelStatistics(n_mels=4))
    with pytest.raises(ValueError, match="fake audio must be finite"):
        distance.update(real=noise(0), fake=torch.full((RATE,), torch.nan), sample_rate=RATE)
    assert distance.real.count == distance.fake.count == 0


def test_a_clip_of_another_rate_is_resampled():
    pytest.importorskip("soxr")
    embedding, time = MelStatistics(n_mels=4), torch.arange(48000) / 48000
    clip = 0.3 * torch.sin(2 * math.pi * 440 * time)
    level = 0  # of the band that the tone lies in; the others hold the transform's leakage
    torch.testing.assert_close(
        embedding.of_clip(clip, 48000)[:, level], embedding(clip[::3])[:, level], rtol=0, atol=0.05
    )
    with pytest.raises(ValueError, match="the clip 'a' must be one clip"):
        embedding.of_clip(torch.zeros(2, 16000), RATE, "the clip 'a'")
