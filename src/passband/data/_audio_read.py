"""From an audio file of any kind to mono float32 samples at one rate. soundfile and soxr are imported on first use."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from passband._checks import import_extra
from passband.data._sources import Stream

Samples = NDArray[np.float32]

SUFFIXES = (".flac", ".mp3", ".ogg", ".wav")

# Decoders overshoot full scale a little; values far beyond it are those of a file that was never scaled.
_MAX_PEAK = 4.0
_MAX_FRAMES = 1 << 31  # half a day; a header that tells no length, or a wrong one, reads as far more
_BLOCK = 1 << 22
_RATES = (1000, 1_000_000)
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class UnusableAudioError(Exception):
    """A file cannot be used; the message is the reason, without the file's name."""


class AudioHeader(NamedTuple):
    """What a file's header tells: samples per channel, samples per second, channels."""

    frames: int
    sample_rate: int
    channels: int


@contextmanager
def unusable_if_broken() -> Iterator[None]:
    """Turn what broken files make libsndfile and the system raise into UnusableAudioError."""
    soundfile = import_extra("soundfile", "audio")
    try:
        yield
    except soundfile.LibsndfileError as error:
        said = error.error_string.removeprefix("Error : ").rstrip(".")
        if "does not exist" in said:  # libsndfile's words for bytes in which no MP3 frame is found
            said = "Format not recognised"
        raise UnusableAudioError(f"not audio that libsndfile reads: {said}") from error
    except OSError as error:
        if error.errno in _EXHAUSTED:
            raise
        raise UnusableAudioError(error.strerror or str(error)) from error


def read_header(stream: Stream) -> AudioHeader:
    """Length, rate and channels, from the file's header alone."""
    with _open(stream) as file:
        return _header(file)


def read_audio_stream(stream: Stream, sample_rate: int | None = None) -> tuple[Samples, int]:
    """All samples, mono, finite and in [-1, 1], resampled if a rate is given; with their rate.

    Raises:
        UnusableAudioError: if the content is broken, empty, not finite or not scaled to [-1, 1].

    """
    with _open(stream) as file:
        header = _header(file)
        channels = _read_all(file, header.frames)
    if len(channels) != header.frames:
        raise UnusableAudioError(f"cut short or damaged: {len(channels)} of {header.frames} samples can be decoded")
    if not np.isfinite(channels).all():
        raise UnusableAudioError("holds NaN or infinity")
    peak = float(np.abs(channels).max())
    if peak > _MAX_PEAK:
        raise UnusableAudioError(f"values reach {peak:.6g}, samples must lie in [-1, 1]: divide them by full scale")
    audio: Samples = channels[:, 0] if header.channels == 1 else channels.mean(axis=1)
    rate = header.sample_rate if sample_rate is None else sample_rate
    audio = resample(audio, header.sample_rate, rate)
    if len(audio) == 0:
        raise UnusableAudioError(f"its {header.frames} samples at {header.sample_rate} Hz are none at {rate} Hz")
    return np.clip(audio, -1.0, 1.0), rate


def resample(audio: Samples, source_rate: int, rate: int) -> Samples:
    """Audio at another rate, of `resampled_length` samples; soxr's quality VHQ."""
    if source_rate == rate:
        return audio
    soxr = import_extra("soxr", "audio")
    found: Samples = soxr.resample(audio, source_rate, rate, quality="VHQ")
    wanted = resampled_length(len(audio), source_rate, rate)
    return found if len(found) == wanted else np.pad(found, (0, max(wanted - len(found), 0)))[:wanted]


def resampled_length(samples: int, source_rate: int, rate: int) -> int:
    """The length at another rate: samples x rate / source_rate, to the nearest integer (halves up)."""
    return (2 * samples * rate + source_rate) // (2 * source_rate)


def _open(stream: Stream) -> Any:
    soundfile = import_extra("soundfile", "audio")
    if not stream.read(1):
        raise UnusableAudioError("the file is empty (0 bytes)")
    stream.seek(0)
    return soundfile.SoundFile(cast("IO[bytes]", stream))


def _header(file: Any) -> AudioHeader:
    header = AudioHeader(file.frames, file.samplerate, file.channels)
    if header.frames < 1:
        raise UnusableAudioError("holds no samples")
    if header.frames > _MAX_FRAMES:
        raise UnusableAudioError(f"its header tells no length, or too long a one ({header.frames} samples)")
    if not _RATES[0] <= header.sample_rate <= _RATES[1]:
        raise UnusableAudioError(f"its header tells a rate of {header.sample_rate} Hz, which no recording has")
    return header


def _read_all(file: Any, frames: int) -> Samples:
    """All samples, (frames, channels), in blocks: a wrong header shall not ask for more memory than the file fills."""
    blocks: list[Samples] = []
    while frames > 0:
        blocks.append(file.read(min(frames, _BLOCK), dtype="float32", always_2d=True))
        frames -= _BLOCK
        if len(blocks[-1]) == 0:
            break
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
