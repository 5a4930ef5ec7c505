"""Clips of audio: their checks, and their sample rates."""

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from passband._checks import check_floating, check_integer, import_extra


def check_rate(name: str, rate: int) -> None:
    """Raise unless a sample rate is an integer of at least 1."""
    check_integer(name, rate)
    if rate < 1:
        raise ValueError(f"{name} must be samples per second, at least 1, got {rate}")


def clip_of(name: str, audio: Float[Tensor, "*shape"]) -> Float32[Tensor, " samples"]:
    """One clip as float32 on the CPU, without leading axes of size 1.

    Raises:
        TypeError: if it is not floating.
        ValueError: if it is more than one clip, empty, or not finite.

    """
    check_floating(name, audio)
    if audio.ndim == 0 or audio.numel() != audio.shape[-1] or audio.numel() == 0:
        raise ValueError(
            f"{name} must be one clip of shape (samples,), got {tuple(audio.shape)}; give one channel of one clip"
        )
    clip = audio.detach().reshape(-1).to("cpu", torch.float32)
    if not clip.isfinite().all():
        bad = int((~clip.isfinite()).sum())
        raise ValueError(
            f"{name} must be finite; {bad} of {len(clip)} samples are not: leave the clip out, or find out why it was "
            "generated"
        )
    return clip


def resampled(audio: Float32[Tensor, " samples"], rate: int, wanted: int) -> Float32[Tensor, " other"]:
    """A clip at another sample rate, by soxr's best quality (VHQ)."""
    if rate == wanted:
        return audio
    soxr = import_extra("soxr", "audio")
    return torch.from_numpy(soxr.resample(audio.numpy(), rate, wanted, quality="VHQ"))


def centred_power(audio: Float32[Tensor, " samples"], n_fft: int, hop: int) -> Float32[Tensor, "bins frames"]:
    """Power of centred frames under a periodic Hann window, zeros beyond the ends, as librosa has it."""
    window = torch.hann_window(n_fft)
    return torch.stft(audio, n_fft, hop, window=window, pad_mode="constant", return_complex=True).abs().square()
