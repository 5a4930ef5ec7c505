"""One audio file, read and written."""

import io
import os
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from passband._checks import check_floating, check_integer, import_extra
from passband._files import written_whole
from passband.data._audio_read import UnusableAudioError, read_audio_stream, unusable_if_broken

_WRITTEN = {".wav": "WAV", ".flac": "FLAC"}


class AudioClip(NamedTuple):
    """A whole clip.

    Attributes:
        name: the file's name: within the folder of the data set, with forward slashes, or as it was asked for.
        audio: (samples,), mono, in [-1, 1].
        sample_rate: samples per second.

    """

    name: str
    audio: Float32[Tensor, " samples"]
    sample_rate: int


def read_audio(path: str | os.PathLike[str], sample_rate: int | None = None) -> AudioClip:
    """Read a WAV, FLAC, Ogg or MP3 file: the mean of its channels, resampled if a rate is given.

    Args:
        path: the file.
        sample_rate: samples per second; default: the file's own.

    Returns:
        The clip. n samples become n x sample_rate / the file's rate, to the nearest integer. What decoding and
        resampling carry beyond full scale is clipped.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be decoded, is empty, or holds values that are not finite or not scaled to [-1, 1].

    Example:
        >>> import tempfile, torch
        >>> from passband.data import read_audio, save_audio
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_audio(f"{folder}/tone.flac", 0.5 * torch.sin(torch.arange(16000) * 0.1), 16000)
        ...     clip = read_audio(f"{folder}/tone.flac", 22050)
        ...     tuple(clip.audio.shape), clip.sample_rate
        ((22050,), 22050)

    """
    path = Path(path).expanduser()
    if sample_rate is not None:
        _check_rate(sample_rate)
    if not path.exists():
        raise FileNotFoundError(f"no such audio file: {str(path)!r}; check the path")
    try:
        with unusable_if_broken(), path.open("rb") as stream:
            samples, rate = read_audio_stream(stream, sample_rate)
    except UnusableAudioError as error:
        raise ValueError(f"cannot use the audio file {str(path)!r}: {error}; repair or replace it") from error
    return AudioClip(str(path), torch.from_numpy(samples), rate)


def save_audio(path: str | os.PathLike[str], audio: Float[Tensor, "*one samples"], sample_rate: int) -> None:
    """Write one clip as 16-bit WAV or FLAC, whole or not at all.

    Args:
        path: the file, ending in .wav or .flac; missing folders are made.
        audio: (samples,) or (1, samples) in [-1, 1]; values outside are clipped. Full scale is 32768 steps: what
            `read_audio` gives back differs by at most half a step, one at +1.
        sample_rate: samples per second.

    Raises:
        TypeError: if audio is not floating.
        ValueError: if it is not one clip, is empty, holds NaN, or the name ends in something else.
        OSError: if it cannot be written, the disk being full for instance.

    Example:
        >>> import tempfile, torch
        >>> from passband.data import read_audio, save_audio
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_audio(f"{folder}/steps.wav", torch.tensor([0.0, 0.5, -2.0]), 8000)
        ...     read_audio(f"{folder}/steps.wav").audio.tolist()
        [0.0, 0.5, -1.0]

    """
    path = Path(path)
    _check_clip(audio)
    _check_rate(sample_rate)
    if path.suffix.lower() not in _WRITTEN:
        raise ValueError(f"audio is written as .wav or .flac, got the name {path.name!r}; let it end in one of them")
    steps = (audio.detach().to(torch.float64).flatten() * 32768).round().clamp(-32768, 32767).to(torch.int16)
    encoded = io.BytesIO()
    form = _WRITTEN[path.suffix.lower()]
    import_extra("soundfile", "audio").write(encoded, steps.cpu().numpy(), sample_rate, "PCM_16", format=form)
    with written_whole(path, "this clip was not written, earlier ones are; free some space", synced=False) as partial:
        partial.write_bytes(encoded.getvalue())


def _check_clip(audio: Tensor) -> None:
    check_floating("audio", audio)
    if audio.ndim not in (1, 2) or audio.shape[:-1].numel() != 1 or audio.shape[-1] == 0:
        raise ValueError(
            f"audio must be one clip of shape (samples,) or (1, samples), got shape {tuple(audio.shape)}; "
            "save the clips of a batch one by one"
        )
    if audio.isnan().any():
        raise ValueError(
            f"cannot write NaN as audio: {int(audio.isnan().sum())} of {audio.numel()} samples are NaN; "
            "check the model and the sampler that made them"
        )


def _check_rate(sample_rate: int) -> None:
    check_integer("sample_rate", sample_rate)
    if sample_rate < 1:
        raise ValueError(f"sample_rate must be at least 1, got {sample_rate}")
