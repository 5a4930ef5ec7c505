"""Folders of audio as sets of samples: clips at one rate, cut into frames, a file being one observation."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch

from passband.data import AudioFolder, Skipped
from passband.data._audio_files import audio_source
from passband.data._audio_index import AudioEntry, Cropping, decode_entry
from passband.data._audio_read import Samples, UnusableAudioError
from passband.data.listing import sample_rates
from passband.metrics.frequency_words import hertz
from passband.metrics.sample_distances import AUDIO_TOP
from passband.reports.audio_folders import pair_by_name
from passband.reports.compare import left_out_note
from passband.training.progress import OnProgress
from passband.training.sample_sets import (
    Block,
    Chunk,
    FileReader,
    SampleSet,
    file_blocks,
    files_stamp,
    gathered,
    sample_key,
    samples_at_once,
)

_SECONDS = 0.25  # of a frame, about
_CACHE = 256 << 20  # bytes of decoded clips kept for the players
_ANY_RATE = 16000  # where no file can be read: opening the folder says why


def frame_length(sample_rate: int) -> int:
    """Samples of a frame: a power of two near a quarter of a second.

    At 16 kHz frequencies lie 3.9 Hz apart then: the octave from 31 to 62 Hz holds eight of them, the hum of the mains
    stands free of its neighbours, and a clip of half a second still has a frame or two.

    Example:
        >>> from passband.training.audio_samples import frame_length
        >>> frame_length(16000), frame_length(22050), frame_length(44100)
        (4096, 4096, 8192)

    """
    return 1 << round(math.log2(_SECONDS * sample_rate))


class AudioSet(SampleSet):
    """The frames of a folder's clips, one after the other; a last part shorter than a frame is left out.

    Args:
        data: the clips, with a crop of the length of a frame; what was left out so far is in its `skipped`.
        numbers: which of its files; None: all.

    """

    kind = "signals"

    def __init__(self, data: AudioFolder, numbers: Sequence[int] | None = None) -> None:
        entries = data.listing()
        self.data, self.path, self.sample_rate = data, data.path, data.sample_rate
        self.entries = entries if numbers is None else [entries[number] for number in sorted(numbers)]
        self.shape = (1, data.length)
        self.reader = _AudioReader(data.path, data.cropping, samples_at_once(self.shape), data.strict)
        seconds = data.length / data.sample_rate
        self.reading = (
            f"{len(self):,} frames of {seconds:.3f} s from {len(self.entries):,} clips at {data.sample_rate:,} Hz"
        )

    def __len__(self) -> int:
        return sum(self._frames(entry) for entry in self.entries)

    def blocks(self, size: int) -> list[Block]:
        """See the base class."""
        return file_blocks(((entry, self._frames(entry)) for entry in self.entries), size)

    def facts(self) -> dict[str, Any]:
        """See the base class."""
        listed = json.dumps([[entry.name, *entry.header] for entry in self.entries])
        root = audio_source(self.path)[1].root
        stamps = files_stamp(root / entry.name for entry in self.entries)
        return {"audio": blake2b(listed.encode(), digest_size=16).hexdigest(), "files": stamps}

    def file_keys(self) -> Iterator[str]:
        """See the base class."""
        return (sample_key(entry.name) for entry in self.entries)

    @property
    def left_out(self) -> Sequence[Skipped]:
        """See the base class."""
        return self.data.skipped

    def notes(self, name: str, skipped: Sequence[Skipped]) -> list[str]:
        """See the base class: what was left out, and whether clips were resampled."""
        left_out = [*self.data.skipped, *(each for each in skipped if each not in self.data.skipped)]
        return [*left_out_note(name, left_out, "clips"), *_rate_notes(name, self.entries, self.data.sample_rate)]

    def _frames(self, entry: AudioEntry) -> int:
        return entry.samples // self.data.length


class _AudioReader(FileReader):
    def __init__(self, path: str, cropping: Cropping, chunk: int, strict: bool) -> None:
        super().__init__(path, "audio file", strict=strict)
        self.cropping, self.chunk = cropping, chunk

    def read(self, block: Block) -> Iterator[Chunk]:
        """See the base class."""
        sizes = [entry.samples // self.cropping.length for entry in block.items]
        files = ((entry.name, self._frames(entry)) for entry in block.items)
        for frames, keys, numbers in gathered(files, sizes, block.first, self.chunk):
            yield Chunk(torch.from_numpy(frames)[:, None], keys, numbers)

    def _frames(self, entry: AudioEntry) -> Samples:
        """The frames of a file, (frames, length), none if it is broken."""
        length = self.cropping.length
        self._source = audio_source(self.path)[1] if self._source is None else self._source
        try:
            audio = decode_entry(self._source, entry, self.cropping)
        except UnusableAudioError as error:
            self.leave_out(entry.name, error)
            return np.empty((0, length), dtype=np.float32)
        return audio[: len(audio) // length * length].reshape(-1, length)


def open_clips(
    folders: Mapping[str, Path],
    sample_rate: int | None = None,
    *,
    limit: int | None = None,
    strict: bool = False,
    on_progress: OnProgress | None = None,
) -> list[AudioSet]:
    """Open folders of audio at one sample rate: the first is the reference of the others.

    Args:
        folders: what each is called, and where it is.
        sample_rate: to which clips are resampled, Hz; None: the lowest of the folders' commonest rates.
        limit: use this many files of each at most, those first that the reference has by the same name.
        strict: raise at the first file that cannot be used.
        on_progress: told about the reading of headers.

    Raises:
        FileNotFoundError: if there is nothing at a path.
        ValueError: if a folder has no file that can be used.

    """
    rates = [sample_rates(path, _progress(f"{name}: sample rates", on_progress)) for name, path in folders.items()]
    common = [found.most_common(1)[0][0] for found in rates if found]
    rate = min(common, default=_ANY_RATE) if sample_rate is None else sample_rate
    length = frame_length(rate)
    opened = [
        AudioFolder(
            path,
            rate,
            length=length,  # what is shorter has no frame
            hop_length=length,
            strict=strict,
            cache_bytes=_CACHE,
            progress=_progress(f"{name}: reading headers", on_progress),
        )
        for name, path in folders.items()
    ]
    chosen = [_chosen(opened[0], other, limit) for other in opened]
    # The reference is read once: with the last of the others, which the page is about.
    own = {side.real for side in pair_by_name(opened[0].names, opened[-1].names, limit) if side.real is not None}
    return [
        AudioSet(data, sorted(own) if data is opened[0] else numbers)
        for data, numbers in zip(opened, chosen, strict=True)
    ]


def _chosen(reference: AudioFolder, data: AudioFolder, limit: int | None) -> list[int]:
    sounds = pair_by_name(reference.names, data.names, limit)
    return sorted(sound.fake for sound in sounds if sound.fake is not None)


def _progress(what: str, on_progress: OnProgress | None) -> Callable[[int, int], None] | None:
    return None if on_progress is None else lambda done, total: on_progress(what, done, total)


def _rate_notes(name: str, entries: Sequence[AudioEntry], rate: int) -> list[str]:
    rates = Counter(entry.header.sample_rate for entry in entries)
    below = sum(count for other, count in rates.items() if other < rate)
    above = sum(count for other, count in rates.items() if other > rate)
    notes = []
    if below:
        notes.append(
            f"{below:,} of {rates.total():,} {name} clips have a sample rate below {rate} Hz (the lowest is "
            f"{min(rates)}): they have nothing in the highest frequencies compared. Use --sample-rate {min(rates)}."
        )
    if above:
        notes.append(
            f"{above:,} of {rates.total():,} {name} clips were resampled to {rate} Hz, by a filter that weakens what "
            f"lies above {hertz(AUDIO_TOP * rate)}."
        )
    return notes
