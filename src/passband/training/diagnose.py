"""Diagnosing denoisers: at which noise level and frequency one is wrong, and what might mend it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from passband._checks import check_integer, check_number
from passband._seeds import seed_for
from passband.metrics import (
    ChannelMoments,
    Contrast,
    DenoiserMeasure,
    DenoiserSpectrum,
    PowerLawMeasure,
    PowerLawResult,
    WienerFilter,
    compare_denoisers,
)
from passband.metrics.noise_levels import noise_levels
from passband.regularization import Description, as_loss
from passband.sampling import SampleNoise
from passband.training.diagnosis_data import DiagnosisData
from passband.training.diagnosis_gradients import Asked, check_losses, compared_losses, described_losses
from passband.training.diagnosis_levels import common_ratios, default_ratios, visits
from passband.training.progress import OnProgress
from passband.training.subject import Subject, told_apart
from passband.training.suggest import Suggestion, suggest


@dataclass(frozen=True)
class DiagnosisSettings:
    """How denoisers are diagnosed.

    Args:
        count: clean samples, at most.
        gradients: of them, how many the losses' gradients are measured on.
        batch_size: samples at once.
        ratios: noise ratios sigma / alpha; None: octaves from where the noise reaches the weakest band of the data to
            where it drowns the strongest.
        losses: names (or descriptions in plain values) of the losses whose gradients are compared to the base loss's;
            None: amplitude, amplitude and phase, and wavelets (of audio: short-time frames).
        seed: of the samples' order and of the noise.
        replicates: of the bootstrap.

    Raises:
        TypeError: if a number is none.
        ValueError: if one is out of range, or there is no such loss.

    """

    count: int = 256
    gradients: int = 64
    batch_size: int = 32
    ratios: Sequence[float] | None = None
    losses: Mapping[str, Description] | None = None
    seed: int = 0
    replicates: int = 200

    def __post_init__(self) -> None:
        for name, value, least in (
            ("count", self.count, 8),
            ("gradients", self.gradients, 0),
            ("batch_size", self.batch_size, 1),
            ("replicates", self.replicates, 20),
        ):
            check_integer(name, value)
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        for ratio in self.ratios or ():
            check_number("each noise level", ratio)
            if not 0 < ratio < math.inf:
                raise ValueError(f"noise levels are ratios sigma / alpha above 0, got {ratio}")
        for described in (self.losses or {}).values():
            as_loss(described)


@dataclass(frozen=True)
class Diagnosed:
    """One model with what was measured of it.

    Attributes:
        name: what it is called.
        spectrum: errors, calibration and gradients per noise level and band.
        facts: what the page shows of it.

    """

    name: str
    spectrum: DenoiserSpectrum
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Diagnosis:
    """What [`diagnose`][passband.training.diagnose.diagnose] found.

    Attributes:
        model: the model.
        kind: what its samples are: `images`, `latents` or `signals`.
        suggestion: what might mend it.
        law: the power law of the data; or why there is none.
        against: another model on the same noisy samples, None without.
        comparison: the other model's error against the first one's, dB; None without.
        notes: what a reader must know.

    """

    model: Diagnosed
    kind: Literal["images", "latents", "signals"]
    suggestion: Suggestion
    law: PowerLawResult | str
    against: Diagnosed | None = None
    comparison: Contrast | None = None
    notes: tuple[str, ...] = ()


@dataclass
class _Clean:
    """What is known of the clean samples before any network is asked."""

    moments: ChannelMoments = field(default_factory=ChannelMoments)
    law: PowerLawMeasure = field(default_factory=PowerLawMeasure)

    def add(self, clean: Tensor) -> None:
        self.moments.update(clean)
        self.law.update(clean)

    def fitted(self) -> PowerLawResult | str:
        try:
            return self.law.compute()
        except ValueError as error:
            return str(error)


def diagnose(
    subject: Subject,
    data: DiagnosisData,
    settings: DiagnosisSettings | None = None,
    *,
    against: Subject | None = None,
    device: torch.device | str = "cpu",
    on_progress: OnProgress | None = None,
) -> Diagnosis:
    """Measure a denoiser per noise level and frequency band, and suggest what might mend it.

    Args:
        subject: the denoiser.
        data: clean samples.
        settings: how to diagnose.
        against: another denoiser, measured with the same samples and noise and shown beside the first; the suggestion
            is for the first.
        device: where to compute.
        on_progress: called as the work goes on.

    Raises:
        ValueError: if the samples do not fit the network, a level is out of the process's reach, the two denoisers do
            not take the same samples and levels, or an estimate is not finite.

    """
    settings = settings or DiagnosisSettings()
    if against is not None:
        _check_pair(subject, against)
        subject, against = told_apart(subject, against)
    report, place = on_progress or _ignored, torch.device(device)
    processes = [subject.process, *([] if against is None else [against.process])]
    given = None if settings.ratios is None else common_ratios(processes, sorted(set(settings.ratios)))
    clean = _measured_clean(subject, data, settings, place, report)
    wiener = clean.moments.wiener()
    for one in (subject, *([] if against is None else [against])):
        check_losses(compared_losses(one, settings.losses, wiener.size), (wiener.channels, *wiener.size))
    ratios = given or common_ratios(processes, default_ratios(subject.process, wiener, *processes[1:]))
    first = _measured(subject, data, settings, wiener, ratios, place, report)
    law = clean.fitted()
    suggestion = suggest(
        first.spectrum,
        law,
        losses=described_losses(subject, settings.losses, wiener.size),
        visits=visits(subject.process, first.spectrum.ratios),
        # A hybrid head's velocity is made of a clean estimate where the noise is strong.
        prediction="sample" if subject.process.heads > 1 else subject.process.prediction,
        kind=subject.kind,
    )
    notes = (*subject.notes, *data.notes)
    if against is None:
        return Diagnosis(first, subject.kind, suggestion, law, notes=notes)
    second = _measured(against, data, settings, wiener, first.spectrum.ratios, place, report)
    comparison = compare_denoisers(first.spectrum, second.spectrum)
    both = tuple(dict.fromkeys((*notes, *against.notes)))
    return Diagnosis(first, subject.kind, suggestion, law, second, comparison, both)


def _measured_clean(
    subject: Subject, data: DiagnosisData, settings: DiagnosisSettings, device: torch.device, report: OnProgress
) -> _Clean:
    found, done = _Clean(), 0
    what = "measuring the clean samples"
    report(what, 0, data.count)
    subject.move(device)
    for batch, _ in data.batches(settings.batch_size, device):
        found.add(subject.clean(batch))
        done += len(batch.clean)
        report(what, done, data.count)
    return found


def _measured(
    subject: Subject,
    data: DiagnosisData,
    settings: DiagnosisSettings,
    wiener: WienerFilter,
    ratios: Sequence[float],
    device: torch.device,
    report: OnProgress,
) -> Diagnosed:
    subject.move(device)
    levels = noise_levels(subject.process, ratios)
    reached = [level.ratio for level in levels]
    measure = DenoiserMeasure(
        reached, [level.time for level in levels], wiener=wiener, replicates=settings.replicates, seed=settings.seed
    )
    losses = compared_losses(subject, settings.losses, wiener.size)
    what, done = f"asking {subject.name}", 0
    report(what, 0, data.count * len(levels))
    for batch, keys in data.batches(settings.batch_size, device):
        clean, given = subject.clean(batch), subject.given(batch)
        seeds = [seed_for(settings.seed, int(position), "diagnose") for position in batch.positions]
        noise = SampleNoise(seeds).normal(clean.shape[1:]).to(clean)
        looked = max(0, min(len(clean), settings.gradients - int(batch.positions[0])))
        estimates = []
        for number, level in enumerate(levels):
            asked = Asked(subject.process, level.t(clean.device), clean, noise)
            pred = asked.predict(subject.model, given)
            estimates.append(asked.estimate(pred))
            for name, gradient in asked.first(looked).gradients(pred[:looked], subject.loss, losses).items():
                measure.update_gradient(name, number, gradient)
            done += len(clean)
            report(what, done, data.count * len(levels))
        measure.update(clean, noise, estimates, keys)
    return Diagnosed(subject.name, measure.compute(), dict(subject.facts))


def _check_pair(first: Subject, second: Subject) -> None:
    if (first.shape, first.kind) != (second.shape, second.kind):
        raise ValueError(
            f"both models must denoise the same samples, got {first.name!r} for {first.kind} {list(first.shape)} and "
            f"{second.name!r} for {second.kind} {list(second.shape)}"
        )
    if first.space != second.space:
        raise ValueError(
            f"both models must denoise the same samples, and the latents of {first.name!r} and {second.name!r} are of "
            "other autoencoders, or on other scales"
        )
    audio = [
        None if one.mel is None else (one.mel.sample_rate, one.mel.n_fft, one.mel.hop_length) for one in (first, second)
    ]
    if audio[0] != audio[1]:
        raise ValueError(
            f"both models must denoise the same samples, got audio of (rate, n_fft, hop) {audio[0]} for "
            f"{first.name!r} and {audio[1]} for {second.name!r}"
        )


def _ignored(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody looks at."""
