"""What is measured of each sample for the spectrum report: one probe a family of quantities."""

from passband.metrics.planes import SampleKind
from passband.metrics.probes._octaves import frequency_octaves, octave_label
from passband.metrics.probes._probe import Probe
from passband.metrics.probes.coherence import PhaseCoherence
from passband.metrics.probes.directional import DirectionalPower
from passband.metrics.probes.kurtosis import WaveletKurtosis
from passband.metrics.probes.periodicity import PeriodicityProfile
from passband.metrics.probes.radial import RadialPower
from passband.metrics.probes.wavelet import WaveletEnergy

__all__ = [
    "DirectionalPower",
    "PeriodicityProfile",
    "PhaseCoherence",
    "Probe",
    "RadialPower",
    "WaveletEnergy",
    "WaveletKurtosis",
    "frequency_octaves",
    "octave_label",
    "standard_probes",
]


def standard_probes(kind: SampleKind = "images") -> tuple[Probe, ...]:
    """All probes of the spectrum report, in the order in which they are stored."""
    return (
        RadialPower(kind),
        DirectionalPower(),
        WaveletEnergy(),
        WaveletKurtosis(),
        PhaseCoherence(),
        PeriodicityProfile(),
    )
