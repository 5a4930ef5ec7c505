"""Long-term spectra of two sets of clips, with how sure the difference is and what chance alone makes of it."""

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from passband.metrics import LongTermResult, LongTermSpectrum, compare_long_term

GROUPS = 8
_CLIPS_FROM = 4  # per side, for a standard error
_HALVES_FROM = 8  # real clips; below, two halves say nothing


@dataclass(frozen=True)
class LongTermComparison:
    """A difference of long-term spectra and what it can be held against.

    Attributes:
        result: the difference itself.
        error: standard error of the mean difference of each third of an octave, dB, over clips (a jackknife of 8 groups
            in which clips of one name stand together, so pairs count as pairs); None with fewer than 4 clips on a side.
        chance: difference of each third of an octave between two halves of the real clips, dB: the root mean square
            over the ways to halve them; None with fewer than 8 real clips.
        chance_lsd: log-spectral distance between two halves of the real clips, dB, likewise.

    """

    result: LongTermResult
    error: Float64[Tensor, " thirds"] | None = None
    chance: Float64[Tensor, " thirds"] | None = None
    chance_lsd: float | None = None


class LongTermSets:
    """Long-term spectra of real and generated clips, streamed clip by clip.

    Args:
        sample_rate: of all clips, Hz.
        n_fft: length of the frames, samples.

    Example:
        >>> import torch
        >>> from passband.reports import LongTermSets
        >>> sets, generator = LongTermSets(16000), torch.Generator().manual_seed(0)
        >>> for number in range(8):
        ...     clip = torch.randn(16000, generator=generator)
        ...     sets.update(number, real=clip, fake=clip / 2)
        >>> found = sets.compute()
        >>> round(found.result.third_octaves[-1].bias, 2), float(found.error.max()) < 1e-6  # exactly half, in each pair
        (-6.02, True)

    """

    def __init__(self, sample_rate: int, n_fft: int = 1024) -> None:
        self.sample_rate, self.n_fft = sample_rate, n_fft
        self._real = [LongTermSpectrum(sample_rate, n_fft, "real clips") for _ in range(GROUPS)]
        self._fake = [LongTermSpectrum(sample_rate, n_fft, "fake clips") for _ in range(GROUPS)]

    def update(
        self,
        number: int,
        *,
        real: Float[Tensor, " samples"] | None = None,
        fake: Float[Tensor, " others"] | None = None,
    ) -> None:
        """Add a clip, or two that belong together.

        Args:
            number: of the clip or pair; clips of one sound have one number on both sides, the others any.
            real: (samples,), the real clip.
            fake: (samples,), the generated clip.

        Raises:
            TypeError: if a clip is not floating.
            ValueError: if a clip is shorter than n_fft or not finite.

        """
        for audio, groups in ((real, self._real), (fake, self._fake)):
            if audio is not None:
                groups[number % GROUPS].update(audio)

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of real and of fake clips."""
        return sum(group.count for group in self._real), sum(group.count for group in self._fake)

    def compute(self, n_mels: int = 40) -> LongTermComparison:
        """The difference between all clips seen, and its standard error.

        Args:
            n_mels: number of mel bands of the result.

        Raises:
            ValueError: if a side has no clips or the real ones are silent.

        """
        everything = range(GROUPS)
        result = compare_long_term(self._sum(self._real, everything), self._sum(self._fake, everything), n_mels=n_mels)
        halves = self._halves()
        return LongTermComparison(
            result,
            error=self._error(result) if min(self.counts) >= _CLIPS_FROM else None,
            chance=torch.stack([_biases(half) for half in halves]).square().mean(0).sqrt() if halves else None,
            chance_lsd=sum(half.lsd for half in halves) / len(halves) if halves else None,
        )

    def _sum(self, groups: list[LongTermSpectrum], chosen: "range | tuple[int, ...] | list[int]") -> LongTermSpectrum:
        total = LongTermSpectrum(self.sample_rate, self.n_fft, groups[0].name)
        for number in chosen:
            total.merge(groups[number])
        return total

    def _error(self, result: LongTermResult) -> Tensor:
        """Jackknife: the difference with each group left out, on both sides at once."""
        filled = [number for number in range(GROUPS) if self._real[number].count or self._fake[number].count]
        without = []
        for left_out in filled:
            rest = [number for number in filled if number != left_out]
            real, fake = self._sum(self._real, rest), self._sum(self._fake, rest)
            without.append(_biases(compare_long_term(real, fake, n_mels=8, floor=result.floor)))
        values = torch.stack(without)
        return ((values - values.mean(0)).square().sum(0) * (len(filled) - 1) / len(filled)).sqrt()

    def _halves(self) -> list[LongTermResult]:
        """Each way to make two halves of the groups of real clips; the first group is always in the first half."""
        if sum(group.count > 0 for group in self._real) < _HALVES_FROM:
            return []
        found = []
        for chosen in combinations(range(1, GROUPS), GROUPS // 2 - 1):
            first = (0, *chosen)
            second = [number for number in range(GROUPS) if number not in first]
            halves = self._sum(self._real, first), self._sum(self._real, second)
            if all(float(half.psd[1:].sum()) > 0 for half in halves):
                found.append(compare_long_term(*halves, n_mels=8))
        return found


def _biases(result: LongTermResult) -> Tensor:
    return torch.tensor([band.bias for band in result.third_octaves], dtype=torch.float64)


def band_levels(result: LongTermResult) -> list[tuple[float, float]]:
    """Mean power per Hz of the real and of the fake clips in each third of an octave, dB."""
    levels = []
    for band in result.third_octaves:
        part = (result.frequencies >= band.low) & (result.frequencies < band.high * (1 + 1e-9))
        both = (float(psd[part].mean()) for psd in (result.psd_real, result.psd_fake))
        levels.append(tuple(10 * math.log10(max(power, 1e-300)) for power in both))
    return levels  # type: ignore[return-value]
