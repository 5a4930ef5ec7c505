"""Measures of single clips, with or without a reference: one table, so that reports and evaluation need no names."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from passband._checks import nearest
from passband.metrics._clips import check_rate, clip_of
from passband.metrics.signal_quality import log_spectral_error, multi_resolution_stft
from passband.metrics.speech_quality import distillmos, dnsmos, estoi, pesq, scripted_mos


@dataclass(frozen=True)
class AudioMeasure:
    """One number of one generated clip.

    Attributes:
        name: short name, as in recipes and on the command line.
        title: for tables.
        better: whether lower or higher is better.
        unit: empty for a bare number.
        paired: whether it needs the reference clip.
        compute: (generated, reference, sample_rate), checked clips; the reference is the generated one if not paired.
        packages: packages that it needs, as they are imported.
        install: the command that brings them.

    """

    name: str
    title: str
    better: Literal["lower", "higher"]
    unit: str
    paired: bool
    compute: Callable[[Tensor, Tensor, int], float]
    packages: tuple[str, ...] = ()
    install: str = ""

    def unavailable(self) -> str | None:
        """Why the measure cannot run here: what is missing and how to install it; None where it can."""
        missing = [package for package in self.packages if not _installed(package)]
        if not missing:
            return None
        return f"{self.name} needs the package {missing[0]!r}, which is not installed; install it with: {self.install}"

    def __call__(
        self,
        generated: Float[Tensor, "*channel samples"],
        reference: Float[Tensor, "*channels others"] | None = None,
        sample_rate: int = 16000,
    ) -> float:
        """The number of one clip; NaN where it is not defined: a silent clip, or one too short for the measure.

        Args:
            generated: (samples,) or (1, samples), in [-1, 1].
            reference: the same clip of real audio, if the measure is paired; both are cut to the shorter length.
            sample_rate: of both.

        Raises:
            MissingExtraError: if a package that it needs is not installed.
            TypeError: if a clip is not floating.
            ValueError: if a clip is not finite or not one clip, or a paired measure gets no reference.

        """
        check_rate("sample_rate", sample_rate)
        clip = clip_of("generated audio", generated)
        if not self.paired:
            return self.compute(clip, clip, sample_rate)
        if reference is None:
            raise ValueError(f"{self.name} compares with a reference: give the real clip too")
        other = clip_of("reference audio", reference)
        length = min(len(clip), len(other))
        return self.compute(clip[:length], other[:length], sample_rate)


_SPEECH = "pip install 'passband[speech]'"

AUDIO_MEASURES: dict[str, AudioMeasure] = {
    measure.name: measure
    for measure in (
        AudioMeasure(
            "mr_stft",
            "Multi-resolution STFT distance",
            "lower",
            "",
            True,
            lambda generated, reference, _: multi_resolution_stft(generated, reference),
            ("auraloss",),
            "pip install 'passband[audio]'",
        ),
        AudioMeasure(
            "lsd",
            "Log-spectral distance",
            "lower",
            "dB",
            True,
            lambda generated, reference, _: log_spectral_error(generated, reference),
        ),
        AudioMeasure("pesq", "PESQ, wide band", "higher", "MOS-LQO", True, pesq, ("pesq",), _SPEECH),
        AudioMeasure("estoi", "Extended STOI", "higher", "", True, estoi, ("pystoi",), _SPEECH),
        AudioMeasure(
            "distillmos",
            "DistillMOS",
            "higher",
            "MOS",
            False,
            lambda generated, _, rate: distillmos(generated, rate),
            ("distillmos", "xls_r_sqa"),
            "pip install --no-deps distillmos xls-r-sqa",
        ),
        AudioMeasure(
            "dnsmos",
            "DNSMOS P.808",
            "higher",
            "MOS",
            False,
            lambda generated, _, rate: dnsmos(generated, rate),
            ("speechmos", "onnxruntime"),
            _SPEECH,
        ),
    )
}


def load_audio_measure(spec: str) -> AudioMeasure:
    """A measure by its name, or `utmos=PATH`: the TorchScript file of a predictor of mean opinion scores.

    UTMOS' script gets the waveform (1, samples) at 16 kHz, and the sample rate where it takes a second argument.

    Raises:
        FileNotFoundError: if there is no file at PATH.
        ValueError: if the name is unknown, or the file no TorchScript.

    Example:
        >>> from passband.metrics import load_audio_measure
        >>> measure = load_audio_measure("lsd")
        >>> measure.title, measure.unit, measure.better, measure.unavailable()
        ('Log-spectral distance', 'dB', 'lower', None)

    """
    name, equals, path = spec.partition("=")
    if name == "utmos":
        if not path:
            raise ValueError("utmos needs the TorchScript file of its network: write utmos=PATH")
        compute = partial(_unpaired, scripted_mos(Path(path)))
        return AudioMeasure("utmos", "UTMOS", "higher", "MOS", False, compute)
    if spec not in AUDIO_MEASURES or equals:
        known = ", ".join(map(repr, AUDIO_MEASURES))
        raise ValueError(
            f"unknown audio measure: got {spec!r}{nearest(name, AUDIO_MEASURES)}; expected {known} or 'utmos=PATH'"
        )
    return AUDIO_MEASURES[spec]


def _unpaired(score: Callable[[Tensor, int], float], generated: Tensor, _: Tensor, rate: int) -> float:
    return score(generated, rate)


def _installed(package: str) -> bool:
    if package in sys.modules:
        return sys.modules[package] is not None
    return importlib.util.find_spec(package) is not None
