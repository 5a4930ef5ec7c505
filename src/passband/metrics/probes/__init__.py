"""What is measured of each sample for the spectrum report: one probe a family of quantities."""

from passband.metrics.planes import SampleKind
from passband.metrics.probes._octaves import frequency_octaves
from passband.metrics.probes._probe import Probe
from passband.metrics.probes.coherence import PhaseCoherence
from passband.metrics.probes.directional import DirectionalPower
from passband.metrics.probes.kurtosis import WaveletKurtosis
from passband.metrics.probes.level import Level, level_planes, level_variance, value_scale, vanishing_variance
from passband.metrics.probes.periodicity import PeriodicityProfile
from passband.metrics.probes.radial import RadialPower
from passband.metrics.probes.wavelet import WaveletEnergy

__all__ = [
    "DirectionalPower",
    "Level",
    "PeriodicityProfile",
    "PhaseCoherence",
    "Probe",
    "RadialPower",
    "WaveletEnergy",
    "WaveletKurtosis",
    "frequency_octaves",
    "level_planes",
    "level_variance",
    "standard_probes",
    "value_scale",
    "vanishing_variance",
]


def standard_probes(kind: SampleKind = "images", sample_rate: int | None = None) -> tuple[Probe, ...]:
    """All probes of the spectrum report, in the order in which they are stored.

    Args:
        kind: of the samples.
        sample_rate: of audio, Hz: labels are in Hz then, and octaves that are not heard are left out.

    """
    return (
        RadialPower(kind),
        Level(kind),
        DirectionalPower(),
        WaveletEnergy(sample_rate),
        WaveletKurtosis(sample_rate),
        PhaseCoherence(sample_rate),
        PeriodicityProfile(kind),
    )
