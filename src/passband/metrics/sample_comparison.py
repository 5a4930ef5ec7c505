"""Two measured sets of samples, quantity by quantity: where their spectra differ, and by how much more than chance."""

from dataclasses import dataclass

import torch
from torch import Tensor

from passband.metrics.contrast import LEAST_GROUPS, Contrast, decide
from passband.metrics.peaks import PeakReport, find_peaks
from passband.metrics.sample_distances import Law, LawPair, Scored, power_laws, spectral_distances
from passband.metrics.sample_families import independent_observations, radial_contrast, sample_families, vary_together
from passband.metrics.sample_spectrum import SampleSpectrum
from passband.metrics.sound_peaks import sound_peaks

__all__ = ["Law", "LawPair", "SampleComparison", "Scored", "compare_samples"]

_FEW = 4.0  # independent observations


@dataclass(frozen=True)
class SampleComparison:
    """What [`compare_samples`][passband.metrics.compare_samples] finds; tensors are float64 on the CPU.

    Attributes:
        contrasts: every family of quantities by name: "octaves" (plane, octave), "radial" (plane, bin), and one for
            each probe, such as "directions", "wavelet energy", "wavelet kurtosis", "coherence".
        lsd: log-spectral distance over all radii, of the spectra averaged over the channels.
        octave_lsd: the same within each octave.
        law: the power laws.
        peaks: narrow artefacts: upsampling, checkerboards, block grids.
        frequency: cycles per pixel of each radial bin.
        octaves: (low, high] in cycles per pixel, highest first.
        kind: "images", "latents" or "signals".
        sample_rate: of audio, Hz: samples are frames of its clips then; None of everything else.
        size: spatial shape of a sample.
        channels: number of channels.
        planes: names of the channels, and of luma and chroma.
        real_count: number of real samples.
        fake_count: number of generated samples.
        groups: how many independent groups the smaller set has, about: tiles of one photograph are one.
        paired: whether both sets were resampled together and vary together, as pictures and their blurred copies do.
        factor: half width of the simultaneous intervals, in standard errors.

    """

    contrasts: dict[str, Contrast]
    lsd: Scored
    octave_lsd: tuple[Scored, ...]
    law: LawPair
    peaks: PeakReport
    frequency: Tensor
    octaves: tuple[tuple[float, float], ...]
    kind: str
    sample_rate: int | None
    size: tuple[int, ...]
    channels: int
    planes: tuple[str, ...]
    real_count: int
    fake_count: int
    groups: float
    paired: bool
    factor: float

    @property
    def same(self) -> bool:
        """Whether nothing is called different."""
        called = any(bool(c.different.any()) for name, c in self.contrasts.items() if name != "radial")
        return not called and not self.peaks.peaks


def compare_samples(real: SampleSpectrum, fake: SampleSpectrum) -> SampleComparison:
    """Compare two measured sets.

    An octave's difference is the ratio of the power pooled over all its frequencies. All families are decided together
    ([`decide`][passband.metrics.contrast.decide]): what is called different exceeds the simultaneous 95 % interval and
    the noise floor of two random halves of the real set. The floor is waived where both sets vary together from
    replicate to replicate (pictures and their processed copies under the same names), since they share their chance.

    Args:
        real: the reference.
        fake: the other set, measured with the same settings.

    Returns:
        All differences, with intervals and floors.

    Raises:
        ValueError: if a set is empty, or shapes or settings differ.

    Example:
        >>> import torch
        >>> from passband.metrics import SampleSpectrum, compare_samples
        >>> generator = torch.Generator().manual_seed(0)
        >>> real, fake = SampleSpectrum("real"), SampleSpectrum("fake")
        >>> real.update(torch.randn(200, 1, 16, 16, generator=generator), [f"r{i}" for i in range(200)])
        >>> fake.update(2 * torch.randn(200, 1, 16, 16, generator=generator), [f"f{i}" for i in range(200)])
        >>> octaves = compare_samples(real, fake).contrasts["octaves"]
        >>> octaves.labels[1][0], round(float(octaves.difference[0, 0]))
        ('1/4–1/2', 6)

    """
    real.check_comparable(fake)
    paired = vary_together(real, fake)
    families = sample_families(real, fake, paired=paired)
    groups = min(real.means.effective_groups, fake.means.effective_groups)
    observations = min(independent_observations(real), independent_observations(fake))
    # Where few bright samples decide, the intervals are wide; where there are but few, there are none.
    decision = decide(families, groups=min(groups, max(observations, _FEW)))
    contrasts = decision.contrasts | {"radial": radial_contrast(real, fake, decision)}
    shortest = min(real.shape[1:])
    bins = shortest // 2 + 1
    peaks = find_peaks(real, fake, factor=decision.factor)
    distances = spectral_distances(real, fake, real.octaves, known=groups >= LEAST_GROUPS)
    return SampleComparison(
        contrasts=contrasts,
        lsd=distances[0],
        octave_lsd=tuple(distances[1:]),
        law=power_laws(real, fake),
        peaks=peaks if fake.sample_rate is None else sound_peaks(peaks, fake),
        frequency=torch.arange(bins, dtype=torch.float64) / shortest,
        octaves=real.octaves,
        kind=real.kind,
        sample_rate=real.sample_rate,
        size=tuple(real.shape[1:]),
        channels=real.shape[0],
        planes=real.planes,
        real_count=real.count,
        fake_count=fake.count,
        groups=groups,
        paired=paired,
        factor=decision.factor,
    )
