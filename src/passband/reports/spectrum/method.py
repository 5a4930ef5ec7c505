"""The section of a spectrum report on how it is measured, and when a difference is called one."""

from passband.metrics.sample_comparison import SampleComparison
from passband.metrics.sample_distances import AUDIO_TOP
from passband.metrics.sample_families import LEAST_DB
from passband.reports.page import Section, Text
from passband.reports.spectrum.words import Terms, terms_of


def method_section(comparison: SampleComparison) -> Section:
    """How it is measured, in a few paragraphs."""
    terms = terms_of(comparison.kind, comparison.sample_rate)
    return Section("How it is measured", [Text(_spectrum_words(terms)), Text(_CALLED.format(least=LEAST_DB))])


def _spectrum_words(terms: Terms) -> str:
    top = "half the sample rate" if terms.sample_rate else f"1/2 cycle per {terms.step}"
    # Signals have frequencies, and what has two axes has radii, with corners beyond 1/2.
    along = terms.step == "sample"
    each, every, corners = (
        ("frequency", "frequencies", "") if along else ("radius", "radii", "; corners beyond are left out")
    )
    # Where clips of two rates are compared, a filter has taken the top of one side's.
    audible = f" up to {terms.frequency(AUDIO_TOP)}, where filters of resampling begin," if terms.sample_rate else ""
    named = {
        "samples": terms.counted, "top": top, "each": each, "every": every, "corners": corners, "audible": audible,
    }  # fmt: skip
    words = _SPECTRUM.format(**terms._asdict() | named)
    return words if terms.sample_rate is None else f"{_FRAMES} {words}"


_FRAMES = (
    "Clips are cut into frames, one after the other, and the frames of a clip are resampled together: a file is one "
    "observation. A last part shorter than a frame is left out, and so are octaves below 20 Hz, which are not heard."
)
_SPECTRUM = (
    "Each {sample}'s mean is removed and its edges are tapered (a Hann window, unless the taper is none), so that the "
    "jump between opposite edges does not leak into the spectrum; white noise of variance 1 has power 1. Power is "
    "averaged over all {samples} before any logarithm. Octaves count from the highest frequency, {top}, "
    "so that they mean the same at every size{corners}. An octave's difference is 10·log10 of the "
    "ratio of the power summed over all its frequencies. The log-spectral distance is the root mean square over all "
    "{every}{audible} of the difference in decibels. A power law is fitted to the logarithms, every {each} counting "
    "once."
)
_CALLED = (
    "Intervals come from a Poisson bootstrap over files (what was cut out of one file is drawn together). They are "
    "simultaneous: in 95 of 100 experiments all of them hold, over every number of this page that can be called. A "
    "difference is called if its interval excludes 0, it is larger than the noise floor (what two random halves of the "
    "real set stay under, in 95 of 100 splits; waived where both sets hold the same files, processed, and vary "
    "together), and it is at least {least} dB, 5 % or 0.02. Of one or two files nothing is called. Single frequencies "
    "are shown in grey and not judged."
)
