"""Folders of audio files as crops of one length: what vocoders train on."""

import hashlib
import json
import os
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.utils.data import Dataset

from passband._seeds import seed_for
from passband.data._audio_clips import cut
from passband.data._audio_files import SUBSETS, Progress, audio_source, split_of
from passband.data._audio_index import AudioEntry, Cropping, LeftOut, check_at_least, decode_entry, make_index
from passband.data._audio_read import Samples, UnusableAudioError
from passband.data._cache import SampleCache
from passband.data._sources import Skipped
from passband.data.audio_files import AudioClip


class AudioFolder(Dataset[Tensor]):
    r"""The audio files of a folder as crops of one length.

    Reads WAV, FLAC, Ogg and MP3 in folders of any depth, sorted by name; hidden files are left out. Channels are
    averaged, other rates are resampled (soxr, quality VHQ; n samples become n x sample_rate / the file's rate, to the
    nearest integer), and what overshoots full scale by that is clipped. Needs the extra `audio`.

    A file of n samples holds n // length crops, one after the other: those are what `len` counts, `data[i]` gives and
    `read` gives without seeds. With a seed, crop i is one of that file at a start drawn from the seed, any multiple of
    hop_length that leaves the crop within the file. So every second of audio has the same share of an epoch, and
    training sees all of it, aligned with the frames of the whole file.

    `read` gives `margin` samples more on both sides. Beyond a file's ends it goes on by reflection, as the centred
    short-time transform of the whole file does: with a margin of n_fft / 2 the first length / hop_length columns of
    `MelSpectrogram(...)(crop, padded=True)` are columns of the whole file's.

    Headers are read when the dataset is made, content when a crop is first asked for (with `trim_db`, at once). Whole
    clips are kept as float32, up to `cache_bytes` in this process and its DataLoader workers together, as by
    [`ImageFolder`][passband.data.ImageFolder].

    A file that is broken, silent (all zero) or shorter than a crop, or that holds NaN, infinity or values that are not
    scaled to [-1, 1], is left out, counted and named in `skipped`. Where that shows only when it is decoded, the next
    file that is whole lends its crops, so that the length and all other crops stay as they are. (Workers of a
    DataLoader note it in their own copy of `skipped`.) A WAV file that was cut short is as long as what is left of it.

    A folder that holds metadata.csv and wavs/ is LJSpeech: its clips are those in wavs/, and its test set, unless
    another is asked for, is LJ001 and LJ002, as in the vocoder papers.

    Args:
        path: the folder.
        sample_rate: samples per second of the crops.
        length: of a crop, in samples; a multiple of hop_length.
        hop_length: samples from one frame to the next.
        margin: samples that `read` adds on both sides.
        subset: "all", or one side of a split: "train", "eval" or "test". A hash of the file's name within path,
            without its suffix, decides: a new file moves no old one, and a copy in another format is on its side.
        eval_share: the share of files in "eval", between 0 and 1.
        test_share: the share of files in "test".
        test_files: the files in "test" instead, by patterns of their names without folder, as "LJ001-*".
        trim_db: leave out silence at both ends: what comes before the first and after the last frame (4 hop_length
            long, by its root mean square) less than this many decibels below the loudest one. None: nothing.
        limit: keep this many files at most, picked by the same kind of hash.
        strict: raise on the first file that cannot be used, instead of leaving it out.
        cache_bytes: how many bytes of decoded clips to keep.
        progress: called with (files read, files in all) while the dataset is made.

    Attributes:
        path: the folder, for people to read.
        skipped: the files left out so far, with the reasons.

    Raises:
        FileNotFoundError: if there is nothing at path.
        MissingExtraError: if soundfile, or soxr where it is needed, is not installed.
        TypeError: if a size is not an integer.
        ValueError: if path is not a folder or holds no usable file, or an option is unknown or out of its range; if a
            file cannot be used and `strict` is set.

    Example:
        >>> import tempfile, torch
        >>> from passband.data import AudioFolder, save_audio
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_audio(f"{folder}/a tone.wav", 0.5 * torch.sin(torch.arange(20000) * 0.1), 16000)
        ...     data = AudioFolder(folder, sample_rate=16000, length=4096, hop_length=256, margin=512)
        ...     crops = data.read([0, 3], seeds=[1, 2])
        >>> len(data), data.durations, data.origin(3), tuple(data[3].shape), tuple(crops.shape)
        (4, [1.25], 'a tone.wav', (1, 4096), (2, 5120))

    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sample_rate: int = 22050,
        *,
        length: int = 15872,
        hop_length: int = 256,
        margin: int = 0,
        subset: str = "all",
        eval_share: float = 0.1,
        test_share: float = 0.0,
        test_files: Sequence[str] = (),
        trim_db: float | None = None,
        limit: int | None = None,
        strict: bool = False,
        cache_bytes: int = 2 << 30,
        progress: Progress | None = None,
    ) -> None:
        self._cropping = Cropping(sample_rate, length, hop_length, margin, trim_db)
        self._cropping.check()
        check_at_least("limit", 1 if limit is None else limit, 1)
        check_at_least("cache_bytes", cache_bytes, 0)
        root, self._source = audio_source(path)
        self._split = split_of(root, subset, eval_share, test_share, test_files)
        self.path = str(path)
        self.sample_rate, self.length, self.hop_length, self.margin, self.trim_db = self._cropping
        self.subset, self.limit, self.strict, self.cache_bytes = subset, limit, strict, cache_bytes
        self._left_out = LeftOut(self.path, strict)
        self.skipped: list[Skipped] = self._left_out.files
        self._entries, clips = make_index(
            self._source, self._split, self._cropping, self._left_out, limit, cache_bytes, progress
        )
        self._starts = np.cumsum([0, *(entry.samples // length for entry in self._entries)])
        self._broken = bytearray(len(self._entries))
        self._cache: SampleCache[Samples] = SampleCache(cache_bytes)
        for number, clip in clips.items():
            self._cache.put(number, clip)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Float32[Tensor, "1 length"]:
        """Crop `index` at its own place, (1, length)."""
        audio, start = self._crop(index, None)
        return torch.from_numpy(cut(audio, start, start + self.length).copy())[None]

    def read(self, indices: Sequence[int], seeds: Sequence[int] | None = None) -> Float32[Tensor, "batch samples"]:
        """Several crops with their surroundings, in one tensor: what to send through a DataLoader.

        Args:
            indices: which.
            seeds: for each, what its start is drawn from: any multiple of hop_length at which the crop still lies
                within the file that holds crop `index`, each as likely. None: the crop's own place.

        Returns:
            (batch, margin + length + margin); what lies beyond a file's ends is its reflection there.

        Raises:
            IndexError: if there is no such crop.
            ValueError: if seeds are not as many as the indices; if a file is broken and `strict` is set, or no file
                can be decoded.

        """
        if seeds is not None and len(seeds) != len(indices):
            raise ValueError(f"expected one seed for each of the {len(indices)} crops, got {len(seeds)}")
        found = np.empty((len(indices), self.length + 2 * self.margin), dtype=np.float32)
        for place, index in enumerate(indices):
            audio, start = self._crop(int(index), None if seeds is None else int(seeds[place]))
            found[place] = cut(audio, start - self.margin, start + self.length + self.margin)
        return torch.from_numpy(found)

    def clip(self, number: int) -> AudioClip:
        """The whole of file `number` of `names`, resampled and trimmed.

        Raises:
            IndexError: if there is no such file.
            ValueError: if it turns out to be broken.

        """
        if not 0 <= number < len(self._entries):
            raise IndexError(f"file {number} is out of range for {len(self._entries)} files")
        audio = self._audio(number)
        if audio is None:
            name = self._entries[number].name
            reason = next(found.reason for found in self.skipped if found.name == name)
            raise ValueError(f"cannot use the audio file {name!r} in {self.path!r}: {reason}; repair or remove it")
        return AudioClip(self._entries[number].name, torch.from_numpy(audio.copy()), self.sample_rate)

    def origin(self, index: int) -> str:
        """The name of the file that holds crop `index`."""
        return self._entries[self._locate(index)[0]].name

    def digest(self) -> str:
        """A hash of the files' names and lengths and of how they are cut, to notice that they changed."""
        found = hashlib.sha256(json.dumps([self.sample_rate, self.length, self.hop_length]).encode())
        for entry in self._entries:
            found.update(json.dumps([entry.name, *entry.header, entry.start, entry.stop]).encode())
        return found.hexdigest()

    def listing(self) -> list[AudioEntry]:
        """The files that crops come from, in order, with what their headers tell: to read them in another process."""
        return list(self._entries)

    @property
    def cropping(self) -> Cropping:
        """How clips become crops."""
        return self._cropping

    @property
    def names(self) -> list[str]:
        """The files that crops come from, in order: relative to path (of LJSpeech, to wavs/)."""
        return [entry.name for entry in self._entries]

    @property
    def durations(self) -> list[float]:
        """The length of each of `names` in seconds, without the silence that was trimmed."""
        return [entry.samples / self.sample_rate for entry in self._entries]

    @property
    def split_sizes(self) -> dict[str, int]:
        """How many files of the folder, usable or not, are in "train", "eval" and "test", whatever the subset here."""
        sides = [self._split.side(name) for name in self._source.names]
        return {side: sides.count(side) for side in SUBSETS[1:]}

    @property
    def nbytes(self) -> int:
        """Size of all clips in memory; the cache holds them all where this is at most `cache_bytes`."""
        return 4 * sum(entry.samples for entry in self._entries)

    def preload(self, progress: Progress | None = None) -> None:
        """Decode every file now: finds the broken ones and fills the cache. Crops are the same with and without.

        Args:
            progress: called with (files decoded, files in all).

        Raises:
            ValueError: with `strict`, if a file is broken.

        """
        for number in range(len(self._entries)):
            self._audio(number)
            if progress is not None:
                progress(number + 1, len(self._entries))

    def _locate(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"crop {index} is out of range for {len(self)} crops")
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return number, index - int(self._starts[number])

    def _crop(self, index: int, seed: int | None) -> tuple[Samples, int]:
        """The clip that holds a crop, or the next one that is whole, and where the crop starts in it."""
        first, offset = self._locate(index)
        for step in range(len(self._entries)):
            audio = self._audio((first + step) % len(self._entries))
            if audio is None:
                continue
            if seed is None:
                return audio, offset % (len(audio) // self.length) * self.length
            return audio, seed_for(seed, 0, "crop") % self._places(audio) * self.hop_length
        last = self.skipped[-1]
        raise ValueError(
            f"none of the {len(self._entries)} audio files in {self.path!r} can be decoded; "
            f"the last one tried is {last.name!r}: {last.reason}"
        )

    def _places(self, audio: Samples) -> int:
        """How many starts a crop may have in a clip."""
        return (len(audio) - self.length) // self.hop_length + 1

    def _audio(self, number: int) -> Samples | None:
        """A clip, resampled and trimmed; None where it is broken."""
        audio = self._cache.get(number)
        if audio is not None or self._broken[number]:
            return audio
        entry = self._entries[number]
        try:
            audio = decode_entry(self._source, entry, self._cropping)
        except UnusableAudioError as error:
            self._left_out.note(entry.name, str(error), error)
            self._broken[number] = 1
            return None
        self._cache.put(number, audio)
        return audio
