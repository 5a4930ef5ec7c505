"""Diagnosing denoisers: at which noise level and frequency one is wrong, and what might mend it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from passband._checks import check_integer, check_number
from passband._seeds import seed_for
from passband.metrics import (
    ChannelMoments,
    Contrast,
    DenoiserMeasure,
    DenoiserSpectrum,
    PixelBands,
    PowerLawMeasure,
    PowerLawResult,
    WienerFilter,
    compare_denoisers,
)
from passband.metrics.noise_levels import noise_levels, noise_range, whole_times
from passband.process import Process
from passband.regularization import Description, SpectralLoss, as_loss
from passband.sampling import SampleNoise, predict
from passband.training.diagnosis_data import DiagnosisData
from passband.training.sections import LossSettings
from passband.training.subject import Subject
from passband.training.suggest import Suggestion, suggest

#: Called with (what goes on, how far it is, of how many).
OnProgress = Callable[[str, int, int], None]

#: The losses whose gradients are looked at, of images or latents, and of audio (besides short-time frames that fit).
LOSSES: dict[str, Description] = {
    "amplitude": "amplitude",
    "amplitude_phase": "amplitude_phase",
    "wavelet": {"name": "wavelet", "wavelet": "haar", "levels": 2},
}
AUDIO_LOSSES: dict[str, Description] = {"amplitude": "amplitude", "amplitude_phase": "amplitude_phase"}
_WAVELET_SIDE = 4  # the shortest that has two levels of Haar's
_FRAME_LENGTHS = (512, 1024, 2048)
#: Under this name stands the term that a network was trained with.
TRAINED = "trained with"
_BASE = "base"
_LEAST_POWER = 1e-6  # of the strongest band's; noise levels are not chosen for bands below
_DRAWN = 1 << 15
_LEVELS = 14  # at most, of those that are chosen
_SAME_RATIO = 5e-4  # two noise ratios that differ by less are one
_NOISIEST = 64.0  # a sampler starts where there is nothing but noise, and keeps the mistakes that it makes there


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
        if against.name == subject.name:
            against = replace(against, name=f"{against.name} (2)")
    report, place = on_progress or _ignored, torch.device(device)
    processes = [subject.process, *([] if against is None else [against.process])]
    given = None if settings.ratios is None else common_ratios(processes, sorted(set(settings.ratios)))
    clean = _measured_clean(subject, data, settings, place, report)
    wiener = clean.moments.wiener()
    ratios = given or common_ratios(processes, default_ratios(subject.process, wiener, *processes[1:]))
    first = _measured(subject, data, settings, wiener, ratios, place, report)
    law = clean.fitted()
    suggestion = suggest(
        first.spectrum,
        law,
        losses=described_losses(subject, settings, wiener.size),
        visits=visits(subject.process, first.spectrum.ratios),
        prediction=subject.process.prediction,
    )
    notes = (*subject.notes, *data.notes)
    if against is None:
        return Diagnosis(first, subject.kind, suggestion, law, notes=notes)
    second = _measured(against, data, settings, wiener, first.spectrum.ratios, place, report)
    comparison = compare_denoisers(first.spectrum, second.spectrum)
    both = tuple(dict.fromkeys((*notes, *against.notes)))
    return Diagnosis(first, subject.kind, suggestion, law, second, comparison, both)


def common_ratios(processes: Sequence[Process], ratios: Sequence[float]) -> tuple[float, ...]:
    """The noise ratios nearest to some that all processes have.

    Args:
        processes: one, or two that are compared on the same noisy samples; a process may have whole times alone.
        ratios: noise ratios that are asked for.

    Raises:
        ValueError: if a process does not reach one, or they have none in common.

    """
    found = tuple(ratios)
    for process in sorted(processes, key=whole_times, reverse=True):  # whole times have the fewest to choose from
        found = tuple(level.ratio for level in noise_levels(process, found))
    for process in processes:
        own = [level.ratio for level in noise_levels(process, found)]
        if len(own) != len(found) or any(abs(a / b - 1) > _SAME_RATIO for a, b in zip(own, found, strict=True)):
            raise ValueError(
                "the two models' processes have no noise ratios in common: at whole times they are "
                f"{', '.join(f'{ratio:.4g}' for ratio in own)} and {', '.join(f'{ratio:.4g}' for ratio in found)}; "
                "choose levels that both have, or diagnose each by itself"
            )
    return found


def default_ratios(process: Process, wiener: WienerFilter, *others: Process) -> tuple[float, ...]:
    """Noise ratios an octave apart, from half of where noise reaches the weakest band to near where sampling starts.

    Args:
        process: the process, whose range they lie in.
        wiener: the filter of the data, which knows their power.
        others: processes of other models, in whose range they lie too.

    """
    bands = PixelBands(wiener.size)
    power = bands.sums(wiener.psd.mean(0)) / bands.counts
    held = power[power > _LEAST_POWER * power.max()]
    if not len(held):
        raise ValueError("the data have no power: every value of every sample is 0; choose other data")
    ranges = [noise_range(one) for one in (process, *others)]
    lowest, highest = max(low for low, _ in ranges), min(high for _, high in ranges)
    first = math.floor(math.log2(float(held.min().sqrt()) / 2))
    last = math.ceil(math.log2(max(float(held.max().sqrt()) * 2, _NOISIEST)))
    octaves = [2.0**k for k in range(first, last + 1) if lowest <= 2.0**k <= highest]
    step = -(-len(octaves) // _LEVELS)
    chosen = octaves[::step]
    return tuple(chosen) if chosen else (min(max(1.0, lowest), highest),)


def visits(process: Process, ratios: Sequence[float]) -> list[float]:
    """How often training looks at each noise level: the share of its times that lie nearest to it.

    Args:
        process: the process, which knows how times are drawn.
        ratios: noise ratios of the levels.

    """
    times = process.sample_times(_DRAWN, generator=torch.Generator().manual_seed(0))
    drawn = process.noise_ratio(times).double().clamp(1e-9, 1e9).log()
    nearest = (drawn[:, None] - torch.tensor(ratios, dtype=torch.float64).log()).abs().argmin(1)
    shares: list[float] = (torch.bincount(nearest, minlength=len(ratios)) / _DRAWN).tolist()
    return shares


def described_losses(subject: Subject, settings: DiagnosisSettings, size: Sequence[int]) -> dict[str, Description]:
    """The losses whose gradients are compared, in plain values, by the names that they are shown under.

    Args:
        subject: the denoiser.
        settings: which losses, if not those that fit.
        size: spatial shape of the clean samples.

    """
    if settings.losses is not None:
        return dict(settings.losses)
    if subject.kind != "signals":
        return {
            name: described for name, described in LOSSES.items() if name != "wavelet" or min(size) >= _WAVELET_SIDE
        }
    fitting = [length for length in _FRAME_LENGTHS if length <= size[-1]]
    framed = {"name": "stft", "kind": "amplitude", "frame_lengths": fitting}
    return AUDIO_LOSSES | ({"stft": framed} if fitting else {})


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
    losses = _losses(subject, settings, wiener.size)
    what, done = f"asking {subject.name}", 0
    report(what, 0, data.count * len(levels))
    for batch, keys in data.batches(settings.batch_size, device):
        clean, given = subject.clean(batch), subject.given(batch)
        seeds = [seed_for(settings.seed, int(position), "diagnose") for position in batch.positions]
        noise = SampleNoise(seeds).normal(clean.shape[1:]).to(clean)
        looked = max(0, min(len(clean), settings.gradients - int(batch.positions[0])))
        estimates = []
        for number, level in enumerate(levels):
            asked = _Asked(subject.process, level.t(clean.device), clean, noise)
            pred = asked.predict(subject.model, given)
            estimates.append(asked.estimate(pred))
            for name, gradient in asked.first(looked).gradients(pred[:looked], subject.loss, losses).items():
                measure.update_gradient(name, number, gradient)
            done += len(clean)
            report(what, done, data.count * len(levels))
        measure.update(clean, noise, estimates, keys)
    return Diagnosed(subject.name, measure.compute(), dict(subject.facts))


@dataclass(frozen=True)
class _Asked:
    """Clean samples noised at one time, and what a network makes of them."""

    process: Process
    t: Tensor
    clean: Float[Tensor, "batch channels *spatial"]
    noise: Float[Tensor, "batch channels *spatial"]

    @property
    def noisy(self) -> Tensor:
        return self.process.add_noise(self.clean, self.noise, self.t)

    def first(self, count: int) -> "_Asked":
        return _Asked(self.process, self.t, self.clean[:count], self.noise[:count])

    @torch.no_grad()
    def predict(self, model: Callable[..., Any], given: Mapping[str, Any]) -> Tensor:
        return predict(model, self.process, self.noisy, self.t, given).float()

    def estimate(self, pred: Tensor) -> Tensor:
        return self.process.clean_estimate(self.noisy, pred, self.t)

    def gradients(self, pred: Tensor, base: LossSettings, losses: Mapping[str, SpectralLoss]) -> dict[str, Tensor]:
        """Of each loss, for each sample by itself, with respect to the network's output."""
        if not len(pred):
            return {}
        leaf = pred.detach().requires_grad_(True)
        with torch.enable_grad():
            estimate = self.estimate(leaf)
            values = {_BASE: self._base(leaf, base)}
            values |= {name: loss(estimate, self.clean) for name, loss in losses.items()}
            return {
                name: torch.autograd.grad(value.sum(), leaf, retain_graph=True)[0] for name, value in values.items()
            }

    def _base(self, pred: Tensor, settings: LossSettings) -> Tensor:
        residual = pred - self.process.target(self.clean, self.noise, self.t)
        if settings.space != "prediction":
            residual = residual * self.process.loss_gain(self.t, settings.space).to(residual)
        distances = residual.square() if settings.distance == "l2" else residual.abs()
        return distances.flatten(1).mean(1)


def _losses(subject: Subject, settings: DiagnosisSettings, size: Sequence[int]) -> dict[str, SpectralLoss]:
    """The losses by their names; that which the network was trained with, too."""
    found = {name: as_loss(described) for name, described in described_losses(subject, settings, size).items()}
    if subject.regularizer is not None:
        found[TRAINED] = as_loss([term.model_dump() for term in subject.regularizer.losses])
    return found


def _check_pair(first: Subject, second: Subject) -> None:
    if (first.shape, first.kind) != (second.shape, second.kind):
        raise ValueError(
            f"both models must denoise the same samples, got {first.name!r} for {first.kind} {list(first.shape)} and "
            f"{second.name!r} for {second.kind} {list(second.shape)}"
        )


def _ignored(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody looks at."""
