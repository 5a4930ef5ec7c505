"""Which files of a folder can be used, by their headers (and, to trim them, their content)."""

from typing import NamedTuple

from passband._checks import check_integer, check_number
from passband.data._audio_clips import sound_bounds
from passband.data._audio_files import Progress, Split, check_patterns, ranked
from passband.data._audio_read import (
    SUFFIXES,
    AudioHeader,
    Samples,
    UnusableAudioError,
    read_audio_stream,
    read_header,
    resampled_length,
    unusable_if_broken,
)
from passband.data._sources import FolderSource, Skipped


class Cropping(NamedTuple):
    """How clips become crops, in samples at the data set's rate."""

    sample_rate: int
    length: int
    hop_length: int
    margin: int
    trim_db: float | None

    def check(self) -> None:
        """Raise unless all options are allowed."""
        for name, least in (("sample_rate", 1), ("length", 1), ("hop_length", 1), ("margin", 0)):
            check_at_least(name, getattr(self, name), least)
        if self.length % self.hop_length:
            raise ValueError(
                "length must be a multiple of hop_length, so that crops hold whole frames, "
                f"got {self.length} and {self.hop_length}"
            )
        if self.trim_db is not None:
            check_number("trim_db", self.trim_db)
            if not self.trim_db > 0:
                raise ValueError(f"trim_db must be over 0 (40 is usual), got {self.trim_db}; None trims nothing")

    def resampled(self, header: AudioHeader) -> int:
        """The length of a clip before it is trimmed."""
        return resampled_length(header.frames, header.sample_rate, self.sample_rate)


class AudioEntry(NamedTuple):
    """A usable file: its header, and the samples start … stop - 1 that are not trimmed, at the data set's rate."""

    name: str
    header: AudioHeader
    start: int
    stop: int

    @property
    def samples(self) -> int:
        """How many there are."""
        return self.stop - self.start


class LeftOut:
    """The files left out so far; with `strict` the first one is an error."""

    def __init__(self, path: str, strict: bool) -> None:
        self.path, self.strict = path, strict
        self.files: list[Skipped] = []

    def note(self, name: str, reason: str, error: Exception | None = None) -> None:
        """One more."""
        if self.strict:
            raise ValueError(
                f"cannot use the audio file {name!r} in {self.path!r}: {reason}; "
                "repair or remove it, or leave it out by not asking for strict"
            ) from error
        self.files.append(Skipped(name, reason))


class Index(NamedTuple):
    """The usable files, sorted by name, and those of their clips that were decoded on the way, by number."""

    entries: list[AudioEntry]
    clips: dict[int, Samples]


def check_at_least(name: str, value: object, least: int) -> None:
    """Raise unless value is an integer, and not under `least`."""
    check_integer(name, value)
    if value < least:  # type: ignore[operator]
        raise ValueError(f"{name} must be at least {least}, got {value}")


def make_index(
    source: FolderSource,
    split: Split,
    cropping: Cropping,
    left_out: LeftOut,
    limit: int | None,
    keep_bytes: int,
    progress: Progress | None,
) -> Index:
    """The files of the split's subset that can be used, and at most keep_bytes of clips.

    Raises:
        ValueError: if there is none.

    """
    names = source.names
    for name, reason in source.unreadable:
        left_out.note(name, reason)
    if not names:
        raise ValueError(
            f"found no audio file in {left_out.path!r}: looked in all its folders for files ending in "
            f"{', '.join(SUFFIXES)} (hidden files are left out); check the path"
        )
    check_patterns(split, names, left_out.path)
    chosen = [name for name in names if split.subset in ("all", split.side(name))]
    found: dict[str, tuple[AudioEntry, Samples | None]] = {}
    for number, name in enumerate(ranked(chosen, limit)):
        if len(found) == limit:
            break
        try:
            entry, clip = _read(source, name, cropping)
        except UnusableAudioError as error:
            left_out.note(name, str(error), error)
        else:
            keep_bytes -= 0 if clip is None else clip.nbytes
            found[name] = entry, clip if keep_bytes >= 0 else None
        if progress is not None:
            progress(number + 1, len(chosen))
    if not found:
        raise _nothing(names, chosen, split, left_out)
    entries = [found[name][0] for name in sorted(found)]
    clips = {number: clip for number, name in enumerate(sorted(found)) if (clip := found[name][1]) is not None}
    return Index(entries, clips)


def decode(source: FolderSource, name: str, cropping: Cropping) -> Samples:
    """A clip at the data set's rate, not trimmed.

    Raises:
        UnusableAudioError: if it is broken or silent.

    """
    with unusable_if_broken(), source.open(name) as stream:
        audio, _ = read_audio_stream(stream, cropping.sample_rate)
    if not audio.any():
        raise UnusableAudioError("silent: all samples are 0")
    return audio


def decode_entry(source: FolderSource, entry: AudioEntry, cropping: Cropping) -> Samples:
    """The clip of a file in the index.

    Raises:
        UnusableAudioError: if it is broken or silent, or was changed.

    """
    audio = decode(source, entry.name, cropping)
    if len(audio) != cropping.resampled(entry.header):
        raise UnusableAudioError("its length has changed since its header was read")
    return audio if entry.samples == len(audio) else audio[entry.start : entry.stop].copy()


def _read(source: FolderSource, name: str, cropping: Cropping) -> tuple[AudioEntry, Samples | None]:
    with unusable_if_broken(), source.open(name) as stream:
        header = read_header(stream)
    entry = AudioEntry(name, header, 0, cropping.resampled(header))
    _check_length(entry, cropping, "")
    if cropping.trim_db is None:
        return entry, None
    audio = decode(source, name, cropping)
    entry = AudioEntry(name, header, *sound_bounds(audio, cropping.trim_db, cropping.hop_length))
    _check_length(entry, cropping, " without the silence at its ends")
    return entry, audio[entry.start : entry.stop].copy()


def _check_length(entry: AudioEntry, cropping: Cropping, how: str) -> None:
    if entry.samples < cropping.length:
        raise UnusableAudioError(
            f"{entry.samples / cropping.sample_rate:.3f} s{how}: shorter than a crop of "
            f"{cropping.length / cropping.sample_rate:.3f} s ({cropping.length} samples)"
        )


def _nothing(names: list[str], chosen: list[str], split: Split, left_out: LeftOut) -> ValueError:
    if chosen:
        first = left_out.files[0]
        return ValueError(
            f"none of the {len(chosen)} audio files in {left_out.path!r} can be used; {len(left_out.files)} were "
            f"left out, the first is {first.name!r}: {first.reason}"
        )
    test = f"test_files {list(split.test_files)}" if split.test_files else f"test_share {split.test_share}"
    return ValueError(
        f"subset {split.subset!r} with eval_share {split.eval_share} and {test} holds none of the {len(names)} "
        f"audio files of {left_out.path!r}; change the shares or use subset='all'"
    )
