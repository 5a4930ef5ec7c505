"""What lies in a folder, before it is read as a data set: its files of one kind, and their sample rates."""

import os
from collections import Counter
from pathlib import Path

from passband.data._audio_files import Progress, audio_source, is_ljspeech
from passband.data._audio_read import SUFFIXES as AUDIO_SUFFIXES
from passband.data._audio_read import UnusableAudioError, read_header, unusable_if_broken
from passband.data._sources import SUFFIXES as IMAGE_SUFFIXES
from passband.data._sources import FolderSource

__all__ = ["AUDIO_SUFFIXES", "IMAGE_SUFFIXES", "is_ljspeech", "names_ending", "sample_rates"]


def names_ending(folder: str | os.PathLike[str], suffixes: tuple[str, ...]) -> list[str]:
    """The files of a folder, at any depth, that have one of the suffixes: sorted, with forward slashes.

    Args:
        folder: the folder; hidden files and folders are left out.
        suffixes: lower case, with their dots.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from passband.data.listing import AUDIO_SUFFIXES, names_ending
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("b.WAV", "a.flac", "notes.txt"):
        ...         Path(folder, name).touch()
        ...     names_ending(folder, AUDIO_SUFFIXES)
        ['a.flac', 'b.WAV']

    """
    return FolderSource(Path(folder), suffixes).names


def sample_rates(folder: str | os.PathLike[str], progress: Progress | None = None) -> Counter[int]:
    """How many audio files of a folder have which sample rate, by their headers; broken ones are left out.

    Args:
        folder: as of [`AudioFolder`][passband.data.AudioFolder].
        progress: called with (files read, files in all).

    Raises:
        FileNotFoundError: if there is nothing there.
        MissingExtraError: if soundfile is not installed.
        ValueError: if it is not a folder.

    """
    _, source = audio_source(folder)
    found: Counter[int] = Counter()
    for number, name in enumerate(source.names, 1):
        try:
            with unusable_if_broken(), source.open(name) as stream:
                found[read_header(stream).sample_rate] += 1
        except UnusableAudioError:  # AudioFolder names it
            pass
        if progress is not None:
            progress(number, len(source.names))
    return found
