"""Mel spectrograms, as torchaudio defines them."""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from passband._checks import check_choice, check_floating, check_integer, check_number
from passband._numerics import no_autocast, upcast

MelScale = Literal["htk", "slaney"]

# Slaney's scale: linear to 1,000 Hz, then 27 steps for each factor of 6.4.
_LINEAR_HZ, _BREAK_HZ = 200.0 / 3.0, 1000.0
_BREAK_MEL, _LOG_STEP = _BREAK_HZ / _LINEAR_HZ, math.log(6.4) / 27.0

_FLOOR, _REFERENCE_DB, _RANGE_DB = 1e-5, 20.0, 100.0


def hz_to_mel(hz: Float[Tensor, "*shape"], scale: MelScale = "htk") -> Float[Tensor, "*shape"]:
    r"""Frequencies on the mel scale.

    `htk`: $2595 \log_{10}(1 + f / 700)$. `slaney` (Auditory Toolbox): $3f / 200$ up to 1,000 Hz, from there
    $15 + 27 \log_{6.4}(f / 1000)$.

    Args:
        hz: frequencies in Hz, at least 0.
        scale: `htk` or `slaney`.

    Returns:
        Mels, of the same shape.

    Raises:
        ValueError: if the scale is unknown.

    Example:
        >>> import torch
        >>> from passband.transforms import hz_to_mel
        >>> hz_to_mel(torch.tensor([0.0, 1000.0]), "slaney").tolist()
        [0.0, 15.0]

    """
    check_choice("scale", scale, get_args(MelScale))
    if scale == "htk":
        return 2595.0 * torch.log10(1.0 + hz / 700.0)
    high = _BREAK_MEL + torch.log(hz.clamp(min=_BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return torch.where(hz < _BREAK_HZ, hz / _LINEAR_HZ, high)


def mel_to_hz(mel: Float[Tensor, "*shape"], scale: MelScale = "htk") -> Float[Tensor, "*shape"]:
    """The inverse of [`hz_to_mel`][passband.transforms.hz_to_mel].

    Args:
        mel: mels, at least 0.
        scale: `htk` or `slaney`.

    Raises:
        ValueError: if the scale is unknown.

    Example:
        >>> import torch
        >>> from passband.transforms import hz_to_mel, mel_to_hz
        >>> hz = torch.tensor([20.0, 440.0, 8000.0])
        >>> bool(torch.allclose(mel_to_hz(hz_to_mel(hz)), hz))
        True

    """
    check_choice("scale", scale, get_args(MelScale))
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    high = _BREAK_HZ * torch.exp(_LOG_STEP * (mel - _BREAK_MEL).clamp(min=0.0))
    return torch.where(mel < _BREAK_MEL, mel * _LINEAR_HZ, high)


def mel_filterbank(
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    *,
    f_min: float = 20.0,
    f_max: float | None = None,
    scale: MelScale = "htk",
    area_norm: bool = False,
) -> Float64[Tensor, "bins mels"]:
    r"""Triangles, evenly spaced and half overlapping on the mel scale, straight-sided in Hz.

    Band m rises from edge m to edge m + 1 and falls to edge m + 2 of the n_mels + 2 edges between f_min and f_max, and
    reaches 1 there; with `area_norm` it is divided by half its width in Hz, so that each has area 1 (Slaney's form).

    Args:
        sample_rate: samples per second.
        n_fft: length of the transform; the bins lie at $k \cdot \text{sample\_rate} / \text{n\_fft}$ Hz.
        n_mels: number of bands.
        f_min: lowest edge in Hz.
        f_max: highest edge in Hz; default: half the sample rate.
        scale: `htk` or `slaney`.
        area_norm: whether the triangles have area 1 rather than height 1.

    Returns:
        One column per band, (n_fft // 2 + 1, n_mels), float64.

    Raises:
        TypeError: if a number is of another kind.
        ValueError: if the scale is unknown, a size under 1, or not 0 <= f_min < f_max <= sample_rate / 2.

    Example:
        >>> from passband.transforms import mel_filterbank
        >>> bank = mel_filterbank(16000, 512, 40)
        >>> bank.shape, bool((bank >= 0).all() and (bank <= 1).all())
        (torch.Size([257, 40]), True)

    """
    _check_sizes(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels)
    check_choice("scale", scale, get_args(MelScale))
    highest = sample_rate / 2 if f_max is None else f_max
    for name, value in (("f_min", f_min), ("f_max", highest)):
        check_number(name, value)
    if not 0 <= f_min < highest <= sample_rate / 2:
        raise ValueError(
            f"expected 0 <= f_min < f_max <= half the sample rate, {sample_rate / 2:g} Hz; got {f_min:g} and "
            f"{highest:g}"
        )
    ends = hz_to_mel(torch.tensor([f_min, highest], dtype=torch.float64), scale)
    edges = mel_to_hz(torch.linspace(float(ends[0]), float(ends[1]), n_mels + 2, dtype=torch.float64), scale)
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * (sample_rate / n_fft)
    widths = edges.diff()
    distances = edges[None, :] - bins[:, None]
    bank = torch.minimum(-distances[:, :-2] / widths[:-1], distances[:, 2:] / widths[1:]).clamp(min=0.0)
    return bank * (2.0 / (edges[2:] - edges[:-2])) if area_norm else bank


class MelSpectrogram(nn.Module):
    r"""Mel spectrogram of magnitudes, $\text{bank}^T\, |\text{STFT}(x)| / \sqrt{\sum w^2}$ with a periodic Hann window.

    torchaudio's `MelSpectrogram` with `power=1` and `normalized=True`: frames are centred at multiples of the hop, and
    the signal is continued by reflection at its ends.

    Args:
        sample_rate: samples per second.
        n_fft: length of the transform.
        win_length: length of the window, up to n_fft, in whose middle it lies; default: n_fft.
        hop_length: samples from frame to frame.
        n_mels: number of bands.
        f_min: lowest edge of the bands, Hz.
        f_max: highest edge, Hz; default: half the sample rate.
        scale: `htk` or `slaney`.
        area_norm: whether the bands' triangles have area 1 rather than height 1.

    Attributes:
        margin: samples before and after a stretch of audio that its frames depend on, n_fft // 2.

    Raises:
        TypeError: if a number is of another kind.
        ValueError: if a number is out of its range, or some band holds no frequency of the transform.

    Example:
        >>> import torch
        >>> from passband.transforms import MelSpectrogram
        >>> mel = MelSpectrogram(sample_rate=22050)
        >>> mel(torch.randn(2, 22050)).shape, mel.normalized(torch.zeros(1, 22050)).max().item()
        (torch.Size([2, 80, 87]), 0.0)

    Source: the defaults are those of Kong et al. 2021 (DiffWave, arXiv:2009.09761) in its published code.
    """

    window: Tensor
    bank: Tensor

    def __init__(
        self,
        sample_rate: int = 22050,
        n_fft: int = 1024,
        win_length: int | None = None,
        hop_length: int = 256,
        n_mels: int = 80,
        f_min: float = 20.0,
        f_max: float | None = None,
        scale: MelScale = "htk",
        area_norm: bool = False,
    ) -> None:
        super().__init__()
        win_length = n_fft if win_length is None else win_length
        _check_sizes(n_fft=n_fft, win_length=win_length, hop_length=hop_length)
        if win_length > n_fft or hop_length > n_fft // 2:
            raise ValueError(
                f"win_length must be at most n_fft and hop_length at most half of it, got {win_length} and "
                f"{hop_length} with n_fft {n_fft}"
            )
        self.sample_rate, self.n_fft, self.hop_length, self.n_mels = sample_rate, n_fft, hop_length, n_mels
        self.win_length = win_length
        self.margin = n_fft // 2
        bank = mel_filterbank(sample_rate, n_fft, n_mels, f_min=f_min, f_max=f_max, scale=scale, area_norm=area_norm)
        empty = (bank.sum(0) == 0).nonzero().flatten().tolist()
        if empty:
            raise ValueError(
                f"band(s) {empty} of {n_mels} lie between two frequencies of the transform and would always be empty: "
                f"use fewer n_mels, a longer n_fft than {n_fft}, or a higher f_min"
            )
        window = torch.hann_window(win_length, dtype=torch.float64)
        # Not buffers: those of float64 could not move to every device.
        self._exact = (window / window.square().sum().sqrt(), bank)
        for name, exact in zip(("window", "bank"), self._exact, strict=True):
            self.register_buffer(name, exact.float(), persistent=False)

    def forward(
        self, audio: Float[Tensor, "*batch samples"], padded: bool = False
    ) -> Float[Tensor, "*batch mels frames"]:
        r"""Magnitudes in each band and frame.

        Args:
            audio: (\*batch, samples).
            padded: whether the audio brings `margin` samples of its surroundings at both ends, which then take the
                place of the reflection.

        Returns:
            (\*batch, n_mels, samples // hop_length + 1), of the samples without the surroundings; in at least float32.
            An odd n_fft sees one sample less: (samples - 1) // hop_length + 1 frames.

        Raises:
            TypeError: if audio is not floating.
            ValueError: if it is too short: for a reflection, or for one frame.

        """
        check_floating("audio", audio)
        shortest = self.n_fft if padded else self.margin + 1
        if audio.ndim == 0 or audio.shape[-1] < shortest:
            raise ValueError(
                f"audio must have at least {shortest} samples for an n_fft of {self.n_fft}, got shape "
                f"{tuple(audio.shape)}"
            )
        (audio,) = upcast(audio)
        window, bank = self._constants(audio)
        with no_autocast(audio):
            flat = audio.reshape(-1, audio.shape[-1])
            if not padded:
                flat = nn.functional.pad(flat[:, None], (self.margin, self.margin), mode="reflect")[:, 0]
            frames = torch.stft(
                flat,
                self.n_fft,
                self.hop_length,
                self.win_length,
                window,
                center=False,
                return_complex=True,
            ).abs()
            mels = torch.einsum("bft,fm->bmt", frames, bank)
        return mels.reshape(*audio.shape[:-1], *mels.shape[1:])

    def normalized(
        self, audio: Float[Tensor, "*batch samples"], padded: bool = False
    ) -> Float[Tensor, "*batch mels frames"]:
        r"""What DiffWave is given: decibels less 20, from -100 to 0 of which become 0 to 1.

        $\text{clamp}((20 \log_{10} \max(m, 10^{-5}) - 20 + 100) / 100, 0, 1)$ of the magnitudes m.
        The arguments are those of [`forward`][passband.transforms.MelSpectrogram.forward].
        """
        decibels = 20.0 * torch.log10(self(audio, padded).clamp(min=_FLOOR)) - _REFERENCE_DB
        return ((decibels + _RANGE_DB) / _RANGE_DB).clamp(0.0, 1.0)

    def _constants(self, audio: Tensor) -> list[Tensor]:
        """Window and bank, as precise as the audio."""
        kept = self._exact if audio.dtype == torch.float64 else (self.window, self.bank)
        return [constant.to(audio.device, audio.dtype) for constant in kept]

    def extra_repr(self) -> str:
        """Options, for the text of the module."""
        return f"{self.sample_rate} Hz, n_fft={self.n_fft}, hop_length={self.hop_length}, n_mels={self.n_mels}"


def _check_sizes(**sizes: int) -> None:
    for name, value in sizes.items():
        check_integer(name, value)
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
