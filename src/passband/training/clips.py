"""The clips that a vocoder speaks: those that a recipe holds out, or files that were given, audio or spectrograms."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from passband._checks import import_extra
from passband.data import AudioFolder, read_audio
from passband.data.listing import AUDIO_SUFFIXES, is_ljspeech
from passband.training.build import build_audio
from passband.training.config import RecipeError
from passband.training.sections import AudioData
from passband.transforms import MelSpectrogram

Subset = Literal["all", "eval", "test"]
MEL_SUFFIXES = (".npy", ".safetensors")
_MEL_KEYS = ("spectrogram", "mel")
_SLACK = 1e-3


class Clip(NamedTuple):
    """What a vocoder is to speak.

    Attributes:
        spectrogram: as the network is given it, (n_mels, frames).
        audio: the original, (samples,); None where there is only its spectrogram.
        samples: length of what is to be spoken.

    """

    spectrogram: Float32[Tensor, "mels frames"]
    audio: Float32[Tensor, " samples"] | None
    samples: int


class Clips(ABC):
    """Clips in an order, each under a name of its own.

    Attributes:
        path: where they come from, for people to read.
        names: of what is made of them: relative paths without a suffix, distinct.
        notes: what a reader must know: what was left out, what was resampled.

    """

    path: str
    names: list[str]
    notes: list[str]

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def audio(self, number: int) -> Float32[Tensor, " samples"] | None:
        """The original of a clip; None where there is only a spectrogram."""

    def read(self, number: int, mel: MelSpectrogram) -> Clip:
        """A clip with its spectrogram.

        Raises:
            ValueError: if it cannot be read, or is too short for a spectrogram.

        """
        audio = self.audio(number)
        assert audio is not None
        if len(audio) <= mel.margin:
            raise ValueError(
                f"{self.names[number]!r} in {self.path!r} has {len(audio)} samples, and a spectrogram needs more than "
                f"{mel.margin}: leave it out"
            )
        return Clip(mel.normalized(audio), audio, len(audio))


class FolderClips(Clips):
    """The whole files of a data set that can be used.

    Args:
        data: the data set.
        limit: use this many at most.

    """

    def __init__(self, data: AudioFolder, limit: int | None = None) -> None:
        data.preload()  # finds the broken ones
        self.data, self.path = data, str(data.path)
        broken = {skipped.name for skipped in data.skipped}
        self._numbers = [number for number, name in enumerate(data.names) if name not in broken][:limit]
        if not self._numbers:
            raise ValueError(f"none of the audio files in {self.path!r} can be used: {left_out(data)[0]}")
        self.names = output_names([data.names[number] for number in self._numbers])
        self.notes = left_out(data)

    @property
    def longest(self) -> int:
        """Samples of the longest clip."""
        return max(round(self.data.durations[number] * self.data.sample_rate) for number in self._numbers)

    def audio(self, number: int) -> Float32[Tensor, " samples"]:
        """See the base class."""
        return self.data.clip(self._numbers[number]).audio


class FileClips(Clips):
    """Audio files and spectrograms that were given: one of them, or a folder.

    Args:
        path: a file, or a folder in which they are looked for, at any depth.
        mel: what the network is given.
        limit: use this many at most, the first by name.

    Raises:
        FileNotFoundError: if there is nothing at path.
        ValueError: if it holds no such file, or none that can be used, or the file is of another kind. What cannot be
            used in a folder is left out and noted; a file that was given itself fails when it is read.

    """

    def __init__(self, path: Path, mel: MelSpectrogram, limit: int | None = None) -> None:
        self.path, self.mel = str(path), mel
        self._files = _given_files(path)
        root = path if path.is_dir() else path.parent
        self.names = [file.relative_to(root).as_posix() for file in self._files]
        faults = self._faults(limit) if path.is_dir() else {}
        self._files = [file for number, file in enumerate(self._files) if number not in faults][:limit]
        if not self._files:
            raise ValueError(f"none of the files in {self.path!r} can be used: {next(iter(faults.values()))}")
        self.names = output_names([file.relative_to(root).as_posix() for file in self._files])
        self.notes = [*_fault_notes(list(faults.values())), *self._rate_notes()]

    def _faults(self, limit: int | None) -> dict[int, str]:
        """What is wrong with those files that cannot be used, by number, as far as `limit` usable ones."""
        faults: dict[int, str] = {}
        for number in range(len(self._files)):
            if limit is not None and number - len(faults) == limit:
                break
            try:
                self.read(number, self.mel)
            except (ValueError, OSError) as error:
                faults[number] = str(error)
        return faults

    def _rate_notes(self) -> list[str]:
        rates = Counter(rate for file in self._files if (rate := _rate(file)) not in (None, self.mel.sample_rate))
        return [
            f"{count} file{'s' * (count > 1)} of {rate} Hz {'are' if count > 1 else 'is'} resampled to the network's "
            f"{self.mel.sample_rate} Hz."
            for rate, count in sorted(rates.items(), key=str)
        ]

    def audio(self, number: int) -> Float32[Tensor, " samples"] | None:
        """See the base class."""
        file = self._files[number]
        return None if file.suffix.lower() in MEL_SUFFIXES else read_audio(file, self.mel.sample_rate).audio

    def read(self, number: int, mel: MelSpectrogram) -> Clip:
        """See the base class."""
        file = self._files[number]
        if file.suffix.lower() not in MEL_SUFFIXES:
            return super().read(number, mel)
        spectrogram = read_spectrogram(file, mel.n_mels)
        return Clip(spectrogram, None, spectrogram.shape[1] * mel.hop_length)


def held_out_clips(data: AudioData, subset: Subset | None = None, limit: int | None = None) -> tuple[FolderClips, str]:
    """The clips of a recipe's data that are held out of training, whole, and the name of their subset.

    Args:
        data: a recipe's section `data`.
        subset: `test`, `eval` or `all`; default: the test clips where there are any, else those for choosing (eval)
            where the recipe trains on the rest, else all.
        limit: use this many at most, the same ones each time.

    Raises:
        FileNotFoundError, ValueError: if they cannot be read, or there are none.

    """
    chosen = subset or _default_subset(data)
    held_out = data.model_copy(update={"subset": chosen, "limit": limit or data.limit, "strict": False})
    clips = FolderClips(build_audio(held_out))
    if chosen == "all" or data.subset in ("all", chosen):
        remedy = "train with data.subset=train" if data.subset == "all" else "choose another subset"
        clips.notes.append(
            f"Not held out: training (data.subset {data.subset}) saw these clips, or some of them; {remedy} to judge "
            "by what is new."
        )
    return clips, chosen


def clips_in(folder: Path, mel: MelSpectrogram, limit: int | None = None) -> FolderClips:
    """The audio files of a folder at the rate of a network, those that are too short for a spectrogram left out.

    Raises:
        FileNotFoundError, ValueError: if they cannot be read, or there are none.

    """
    shortest = -(-(mel.margin + 1) // mel.hop_length) * mel.hop_length
    return FolderClips(AudioFolder(folder, mel.sample_rate, length=shortest, hop_length=mel.hop_length, limit=limit))


def output_names(names: Sequence[str]) -> list[str]:
    """Names without their suffix; with it, where two would be the same."""
    bare = [str(PurePosixPath(name).with_suffix("")) for name in names]
    counts = Counter(bare)
    return [short if counts[short] == 1 else name for short, name in zip(bare, names, strict=True)]


def read_spectrogram(file: Path, n_mels: int) -> Float32[Tensor, "mels frames"]:
    """A spectrogram in the network's own scale, 0 to 1, of a .npy or .safetensors file.

    Args:
        file: an array (n_mels, frames) or (1, n_mels, frames); in a .safetensors file the only tensor, or that named
            spectrogram or mel.
        n_mels: bands of the network.

    Raises:
        ValueError: if it holds no such spectrogram.

    """
    found = torch.as_tensor(_array(file))
    shown = f"the spectrogram {str(file)!r}"
    if not found.is_floating_point() or found.ndim not in (2, 3) or (found.ndim == 3 and len(found) != 1):
        raise ValueError(f"{shown} must be floats of shape ({n_mels}, frames), got {found.dtype} {tuple(found.shape)}")
    found = found.float().reshape(found.shape[-2:])
    if found.shape[0] != n_mels or not found.shape[1]:
        turned = "; it looks transposed" if found.shape[1] == n_mels else ""
        raise ValueError(f"{shown} must have the network's {n_mels} bands as rows, got {tuple(found.shape)}{turned}")
    low, high = found.aminmax()
    if not (low >= -_SLACK and high <= 1 + _SLACK):  # of NaN neither holds
        raise ValueError(
            f"{shown} must hold finite values from 0 to 1, as MelSpectrogram.normalized gives them, got {low:.4g} to "
            f"{high:.4g}"
        )
    return found.clamp(0, 1)


def left_out(data: AudioFolder) -> list[str]:
    """A note that names the first few files that could not be used; none where all were."""
    if not data.skipped:
        return []
    named = "; ".join(f"{skipped.name} ({skipped.reason})" for skipped in data.skipped[:3])
    more = f"; and {len(data.skipped) - 3} more" if len(data.skipped) > 3 else ""
    return [f"Left out of the clips: {len(data.skipped)}. {named}{more}."]


def _fault_notes(faults: list[str]) -> list[str]:
    if not faults:
        return []
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    return [f"Left out of the clips: {len(faults)}. {'; '.join(faults[:3])}{more}."]


def _default_subset(data: AudioData) -> Subset:
    if data.test_share or data.test_files or is_ljspeech(data.path.expanduser()):
        return "test"
    return "eval" if data.subset == "train" else "all" if data.subset == "all" else data.subset


def _given_files(path: Path) -> list[Path]:
    known = (*AUDIO_SUFFIXES, *MEL_SUFFIXES)
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder of audio: {str(path)!r}; check the path of --input")
    if path.is_file():
        if path.suffix.lower() not in known:
            raise ValueError(f"--input takes audio or spectrograms ({', '.join(known)}), got {str(path)!r}")
        return [path]
    found = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in known and file.is_file() and not _hidden(file.relative_to(path))
    )
    if not found:
        raise ValueError(f"found neither audio nor spectrograms in {str(path)!r}: looked for {', '.join(known)}")
    return found


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _rate(file: Path) -> int | None:
    """The sample rate of an audio file; None for spectrograms, and for what cannot be read (its reading will say)."""
    if file.suffix.lower() in MEL_SUFFIXES:
        return None
    soundfile = import_extra("soundfile", "audio")
    try:
        return int(soundfile.info(str(file)).samplerate)
    except (soundfile.LibsndfileError, OSError):
        return None


def _array(file: Path) -> Any:
    if not file.is_file():
        raise FileNotFoundError(f"no such spectrogram: {str(file)!r}")
    try:
        if file.suffix.lower() == ".npy":
            return np.load(file, allow_pickle=False)
        tensors = import_extra("safetensors.torch", "train").load_file(file)
    except Exception as error:
        raise ValueError(f"{str(file)!r} cannot be read as a spectrogram: {error}") from error
    names = [name for name in _MEL_KEYS if name in tensors] or (list(tensors) if len(tensors) == 1 else [])
    if not names:
        raise ValueError(
            f"{str(file)!r} holds {', '.join(sorted(tensors)) or 'nothing'}: name the spectrogram 'spectrogram'"
        )
    return tensors[names[0]]


def recipe_audio(data: object, option: str) -> AudioData:
    """A recipe's section `data`, where it is audio; the option is what names audio otherwise.

    Raises:
        RecipeError: if there is none.

    """
    if not isinstance(data, AudioData):
        raise RecipeError(f"this network has no recipe that names its audio: give a folder of audio with {option}")
    return data
