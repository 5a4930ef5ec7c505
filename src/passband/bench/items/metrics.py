"""Measures of samples beside what one writes with NumPy and SciPy; on the CPU, without gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from passband.bench.item import Arm, Case, Item, Setting, unless_missing
from passband.bench.rivals import numpy, scipy
from passband.bench.timing import Call
from passband.metrics import (
    NDB,
    FrechetAudioDistance,
    FrechetDistance,
    InceptionScore,
    LongTermSpectrum,
    MelStatistics,
    PrecisionRecall,
    ReconstructionQuality,
    SpectrumDistance,
    polynomial_mmd,
)
from passband.transforms import radial_psd

IMAGES, FEATURES, CLIPS, RATE = (64, 3, 64, 64), (1000, 256), (8, 32768), 16000
Both = Callable[[torch.Tensor, torch.Tensor], Any]


def items() -> list[Item]:
    """One item each; features are random numbers."""
    return [
        Item("metrics/radial_psd", psd, "64 images of 3 x 64 x 64", 0.5),
        Item("metrics/SpectrumDistance", spectrum, "64 real and 64 generated images", 0.7),
        Item("metrics/FrechetDistance", partial(_features, _frechet, scipy.frechet, 1e-3), "2 x 1000 x 256 features"),
        Item("metrics/KID", partial(_features, polynomial_mmd, numpy.polynomial_mmd, 1e-3), "the estimate of one set"),
        Item("metrics/PrecisionRecall", partial(_features, _precision_recall, _by_distances, 1e-6), "k = 3"),
        Item("metrics/InceptionScore", inception, "1000 x 256 logits", 0.4),
        Item("metrics/NDB", bins, "20 bins", 0.5),
        Item("metrics/ReconstructionQuality", reconstruction, "PSNR, SSIM of 64 images", 0.4),
        Item("metrics/LongTermSpectrum", long_term, "8 clips of 2 s", 0.5),
        Item("metrics/FrechetAudioDistance", frechet_audio, "mel statistics of 2 x 8 clips", 0.5),
    ]


def psd(setting: Setting) -> Case:
    """Against a complex FFT and bincount."""
    x = setting.noise(IMAGES)
    first = Arm("passband", Call(partial(radial_psd, x)), "ours")
    return Case((first, _host("numpy, by hand", lambda: partial(numpy.radial_psd, x.cpu()), 1e-4)))


def spectrum(setting: Setting) -> Case:
    """Update and compute."""
    real, fake = setting.noise(IMAGES), 0.7 * setting.noise(IMAGES, 1)

    def run() -> float:
        distance = SpectrumDistance()
        distance.update(real=real, fake=fake)
        return distance.compute().lsd

    rival = partial(numpy.spectral_distance, real.cpu(), fake.cpu())
    return Case((Arm("passband", Call(run), "ours"), _host("numpy, by hand", lambda: rival, 1e-3)))


def inception(setting: Setting) -> Case:
    """One split."""
    logits = setting.noise(FEATURES)

    def run() -> float:
        score = InceptionScore(splits=1)
        score.update(logits)
        return score.compute().mean

    rival = partial(numpy.inception_score, logits.cpu())
    return Case((Arm("passband", Call(run), "ours"), _host("numpy, by hand", lambda: rival, 1e-6)))


def bins(setting: Setting) -> Case:
    """Nothing of the kind can be installed."""
    real, fake = setting.noise(FEATURES)[:, :16], setting.noise(FEATURES, 1)[:, :16]

    def run() -> int:
        ndb = NDB(bins=20)
        ndb.update(real=real, fake=fake)
        return ndb.compute().count

    return Case((Arm("passband", Call(run), "ours"),))


def reconstruction(setting: Setting) -> Case:
    """Update and compute."""
    x = setting.noise(IMAGES).clamp(-1, 1)
    y = (x + 0.1 * setting.noise(IMAGES, 1)).clamp(-1, 1)

    def run() -> float:
        quality = ReconstructionQuality()
        quality.update(x, y)
        return quality.compute().psnr

    return Case((Arm("passband", Call(run), "ours"),))


def long_term(setting: Setting) -> Case:
    """Against SciPy's Welch."""
    clips = 0.1 * setting.noise(CLIPS)

    def run() -> torch.Tensor:
        seen = LongTermSpectrum(RATE)
        seen.update(clips)
        return seen.psd

    make = partial(scipy.welch, RATE, 1024)
    other = _host(
        "scipy.signal", lambda: partial(make(), clips.cpu()), differs="detrending, ends and scale are its own"
    )
    return Case((Arm("passband", Call(run), "ours"), other))


def frechet_audio(setting: Setting) -> Case:
    """With the embedding that needs no network."""
    clips = 0.1 * setting.noise(CLIPS)

    def run() -> float:
        distance = FrechetAudioDistance(MelStatistics())
        for clip in clips:
            distance.update(real=clip, fake=clip / 2, sample_rate=RATE)
        return distance.compute().distance

    return Case((Arm("passband", Call(run), "ours"),))


def _features(ours: Both, make: Callable[[], Both], tolerance: float, setting: Setting) -> Case:
    real, fake = setting.noise(FEATURES), 0.9 * setting.noise(FEATURES, 1) + 0.1
    first = Arm("passband", Call(partial(ours, real, fake)), "ours")
    name = "numpy, by hand" if make is numpy.polynomial_mmd else "scipy, by hand"
    return Case((first, _host(name, lambda: partial(make(), real.cpu(), fake.cpu()), tolerance)))


def _frechet(real: torch.Tensor, fake: torch.Tensor) -> float:
    distance = FrechetDistance("raw values")
    distance.update(real=real, fake=fake)
    return distance.compute().distance


def _precision_recall(real: torch.Tensor, fake: torch.Tensor) -> tuple[float, float]:
    metric = PrecisionRecall("raw values")
    metric.update(real=real, fake=fake)
    result = metric.compute()
    return result.precision, result.recall


def _by_distances() -> Both:
    return scipy.precision_recall(3)


def _host(name: str, make: Callable[[], Callable[[], Any]], tolerance: float = 1e-4, differs: str = "") -> Any:
    def arm() -> Arm:
        return Arm(name, Call(make()), differs=differs, tolerance=tolerance)

    return unless_missing(name, arm)
