"""How the long-term average spectrum of generated audio differs from that of real audio."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from passband._checks import check_integer, check_number
from passband.metrics.long_term import LongTermSpectrum, check_same_grid
from passband.transforms import hz_to_mel, mel_filterbank, mel_to_hz

DEFAULT_FLOOR = 1e-8
_OCTAVE = 10.0**0.3


@dataclass(frozen=True)
class FrequencyBand:
    """The distance within one band of frequencies.

    Attributes:
        low: lower edge, Hz.
        centre: exact centre, Hz.
        high: upper edge, Hz; the highest band ends with half the sample rate, included.
        lsd: root mean square over the band's frequencies of the difference, dB, at least 0.
        bias: mean of the difference, dB: positive where the generated audio has too much power.

    """

    low: float
    centre: float
    high: float
    lsd: float
    bias: float


@dataclass(frozen=True)
class LongTermResult:
    """What [`compare_long_term`][passband.metrics.compare_long_term] computes; tensors are float64 on the CPU.

    Attributes:
        frequencies: Hz, (bins,), 0 to half the sample rate.
        psd_real: average power per Hz of the reference, (bins,).
        psd_fake: the same of the generated audio.
        error_real: standard error of psd_real over clips; NaN for one clip.
        error_fake: the same of psd_fake.
        ratio_db: difference per frequency, dB, (bins,): positive where the generated audio has too much power.
        lsd: root mean square of the difference over all frequencies but 0, dB.
        octaves: the distance in each octave, lowest first.
        third_octaves: the distance in each third of an octave.
        mel_frequencies: centres of the mel bands, Hz, (n_mels,).
        mel_db: difference of the energy in each mel band, dB, (n_mels,).
        mel_share_real: each band's share of the energy of all mel bands, in the reference.
        mel_share_fake: the same of the generated audio.
        real_count: number of real clips.
        fake_count: number of generated clips.
        sample_rate: samples per second.
        n_fft: length of a frame.
        floor: share of the reference's mean power that was added to both.

    """

    frequencies: Tensor
    psd_real: Tensor
    psd_fake: Tensor
    error_real: Tensor
    error_fake: Tensor
    ratio_db: Tensor
    lsd: float
    octaves: tuple[FrequencyBand, ...]
    third_octaves: tuple[FrequencyBand, ...]
    mel_frequencies: Tensor
    mel_db: Tensor
    mel_share_real: Tensor
    mel_share_fake: Tensor
    real_count: int
    fake_count: int
    sample_rate: int
    n_fft: int
    floor: float


def compare_long_term(
    real: LongTermSpectrum, fake: LongTermSpectrum, *, n_mels: int = 40, floor: float = DEFAULT_FLOOR
) -> LongTermResult:
    r"""How the long-term average spectrum of generated audio differs from that of real audio.

    $d(f) = 10 \log_{10} \frac{P_{fake}(f) + \phi}{P_{real}(f) + \phi}$, $\phi$ = floor times the mean of $P_{real}$
    without frequency 0. Octaves and thirds are those of [`octave_edges`][passband.metrics.octave_edges]; bands that
    hold no frequency of the transform are left out. Mel bands weigh the densities by triangles on HTK's scale.

    Args:
        real: the reference.
        fake: the generated audio, of the same sample rate and n_fft.
        n_mels: number of mel bands.
        floor: share of the reference's mean power that is added to both, at least 0.

    Raises:
        TypeError: if floor is no number.
        ValueError: if the grids differ, there are no clips, the reference is silent, or a mel band would hold no
            frequency.

    Example:
        >>> import torch
        >>> from passband.metrics import LongTermSpectrum, compare_long_term
        >>> noise = torch.randn(3, 32000, generator=torch.Generator().manual_seed(0))
        >>> real, fake = LongTermSpectrum(16000), LongTermSpectrum(16000)
        >>> real.update(noise)
        >>> fake.update(noise / 2)
        >>> result = compare_long_term(real, fake)
        >>> round(result.lsd, 2), round(result.octaves[-1].bias, 2)  # half the amplitude
        (6.02, -6.02)

    """
    check_number("floor", floor)
    if not floor >= 0:
        raise ValueError(f"floor is a share of the reference's mean power, at least 0; got {floor}")
    check_same_grid(real, fake)
    phi = floor * real.psd[1:].mean()
    if not float(real.psd[1:].sum()) > 0:
        raise ValueError("the reference is silent, so nothing can be compared with it; look at the real clips")
    ratio = _decibels(fake.psd, real.psd, phi)
    bank = _mel_bank(real, n_mels)
    mel_real, mel_fake = real.psd @ bank, fake.psd @ bank
    ends = hz_to_mel(torch.tensor([20.0, real.sample_rate / 2], dtype=torch.float64))
    centres = mel_to_hz(torch.linspace(float(ends[0]), float(ends[1]), n_mels + 2, dtype=torch.float64))[1:-1]
    return LongTermResult(
        frequencies=real.frequencies,
        psd_real=real.psd,
        psd_fake=fake.psd,
        error_real=real.error,
        error_fake=fake.error,
        ratio_db=ratio,
        lsd=float(ratio[1:].square().mean().sqrt()),
        octaves=_bands(real.frequencies, ratio, 1),
        third_octaves=_bands(real.frequencies, ratio, 3),
        mel_frequencies=centres,
        mel_db=_decibels(mel_fake, mel_real, phi * bank.sum(0)),
        mel_share_real=mel_real / mel_real.sum(),
        mel_share_fake=mel_fake / mel_fake.sum(),
        real_count=real.count,
        fake_count=fake.count,
        sample_rate=real.sample_rate,
        n_fft=real.n_fft,
        floor=floor,
    )


def octave_edges(low: float, high: float, per_octave: int = 3) -> list[tuple[float, float, float]]:
    r"""Bands of IEC 61260 as (lower edge, centre, upper edge) in Hz, from the one that holds `low` to that of `high`.

    Centres at $1000\, G^{k / b}$ for odd b, $1000\, G^{(2k + 1) / 2b}$ for even b, edges at $G^{\pm 1 / 2b}$ of them,
    $G = 10^{0.3}$.

    Raises:
        TypeError: if a number is of another kind.
        ValueError: unless 0 < low < high, and per_octave is at least 1.

    Example:
        >>> from passband.metrics import octave_edges
        >>> [round(centre) for _, centre, _ in octave_edges(100, 8000, per_octave=1)]
        [126, 251, 501, 1000, 1995, 3981, 7943]

    """
    check_integer("per_octave", per_octave)
    for name, value in (("low", low), ("high", high)):
        check_number(name, value)
    if not 0 < low < high or per_octave < 1:
        raise ValueError(f"expected 0 < low < high and per_octave at least 1, got {low}, {high} and {per_octave}")
    shift = 0.0 if per_octave % 2 else 0.5
    first, last = (math.floor(per_octave * math.log(f / 1000.0, _OCTAVE) - shift + 0.5) for f in (low, high))
    half = _OCTAVE ** (0.5 / per_octave)
    centres = [1000.0 * _OCTAVE ** ((k + shift) / per_octave) for k in range(first, last + 1)]
    return [(centre / half, centre, centre * half) for centre in centres]


def _decibels(fake: Tensor, real: Tensor, phi: Tensor) -> Tensor:
    return 10 * torch.log10((fake + phi) / (real + phi))


def _bands(frequencies: Tensor, ratio: Tensor, per_octave: int) -> tuple[FrequencyBand, ...]:
    spacing, top = float(frequencies[1]), float(frequencies[-1])
    found = []
    for low, centre, high in octave_edges(spacing, top, per_octave):
        part = ratio[(frequencies >= low) & (frequencies < high)]
        if len(part):
            rms, mean = float(part.square().mean().sqrt()), float(part.mean())
            found.append(FrequencyBand(low, centre, min(high, top), lsd=rms, bias=mean))
    return tuple(found)


def _mel_bank(spectrum: LongTermSpectrum, n_mels: int) -> Tensor:
    bank = mel_filterbank(spectrum.sample_rate, spectrum.n_fft, n_mels)
    empty = (bank.sum(0) == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            f"mel bands {empty} of {n_mels} would hold no frequency of an n_fft of {spectrum.n_fft}; "
            "use fewer n_mels or a longer n_fft"
        )
    return bank
