"""Latents that `passband encode` wrote, read at random at full speed."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from passband._checks import is_integer, nearest
from passband.data._latent_header import AUTOENCODER_FOLDER, LATENTS_FILE, read_header
from passband.data._samples import ImageSamples
from passband.data._shards import Array, Shard, damaged

Progress = Callable[[int, int], None]


class LatentBatch(NamedTuple):
    """Samples of a set of latents.

    Attributes:
        latents: (batch, channels, height, width), standardised, float32.
        labels: the classes, (batch,); None without labels.
        features: of the teachers that were asked for, each (batch, width, height, width), float32.
        images: the source images, 8-bit pixels; None unless they were opened.

    """

    latents: Float32[Tensor, "batch channels height width"]
    labels: Int64[Tensor, " batch"] | None
    features: dict[str, Tensor]
    images: UInt8[Tensor, "batch 3 rows columns"] | None


class LatentShards(Dataset[Tensor]):
    """The latents in a folder that `passband encode` wrote, standardised to mean 0 and standard deviation 1.

    The files are mapped into memory: a sample is read where it lies, and what many processes read is held once. Copies
    in DataLoader workers, forked or spawned, map them anew.

    Args:
        path: the folder.
        images: the images that were encoded, to be read beside the latents; `data` says how to open them.
        cache_bytes: up to which size of all files `preload` is worth its time; for those who call it.

    Attributes:
        path: the folder.
        header: all that latents.json says.
        shape: (channels, height, width) of a latent.
        image_shape: (channels, height, width) of an image.
        num_classes: number of classes, 0 without labels.
        class_names: a name for each class, empty where they have none.
        flips: whether the latents of the flipped images are stored.
        shift: what is subtracted from each channel.
        scale: what each channel is divided by then.
        teachers: (width, height, width) of the features of each teacher.
        data: the settings that made the images, as a recipe's section `data`; None where they were not recorded.
        nbytes: the size of all files.

    Raises:
        FileNotFoundError: if there are no latents at path, or they are not finished.
        ValueError: if a shard is missing, damaged or foreign, or the images are not those that were encoded.

    Example:
        >>> from passband.data import LatentShards
        >>> def batch(latents: LatentShards, indices, seeds):
        ...     return latents.read(indices, seeds=seeds).latents  # drawn from the posteriors, standardised

    """

    def __init__(
        self, path: str | os.PathLike[str], *, images: ImageSamples | None = None, cache_bytes: int = 4 << 30
    ) -> None:
        self.path = Path(path).expanduser()
        self.header = read_header(self.path)
        self.shape = _triple(self.header["shape"])
        self.image_shape = _triple(self.header["image_shape"])
        self.num_classes: int = self.header["num_classes"]
        self.class_names: tuple[str, ...] = tuple(self.header["class_names"])
        self.flips: bool = self.header["flips"]
        self.shift: tuple[float, ...] = tuple(self.header["shift"])
        self.scale: tuple[float, ...] = tuple(self.header["scale"])
        self.teachers = {name: _triple(shape) for name, shape in self.header["teachers"].items()}
        self.data: dict[str, Any] | None = self.header["data"]
        self.nbytes = sum(shard["nbytes"] for shard in self.header["shards"])
        self.cache_bytes = cache_bytes
        self._starts = np.cumsum([0, *(shard["count"] for shard in self.header["shards"])])
        self._shards = self._open()
        labels = [shard.arrays["labels"] for shard in self._shards if self.num_classes and shard.note.samples]
        self._labels = np.concatenate(labels) if labels else None
        self._noise = torch.Generator()
        self.images: ImageSamples | None = None
        if images is not None:
            self.with_images(images)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Float32[Tensor, "channels height width"]:
        return self.read((index,)).latents[0]

    @property
    def autoencoder(self) -> Path:
        """The folder with a copy of the autoencoder."""
        return self.path / AUTOENCODER_FOLDER

    def with_images(self, images: ImageSamples) -> "LatentShards":
        """Read the source images beside the latents from now on.

        Raises:
            ValueError: if they are not those that were encoded.

        """
        if (self.header["images"], list(self.image_shape[1:])) != (images.digest(), list(images.size)):
            raise ValueError(
                f"the images of {images.path!r} are not those that the latents in {str(self.path)!r} were encoded "
                "from, or have changed since: open them as `data` in its latents.json says, or encode again"
            )
        self.images = images
        return self

    def label(self, index: int) -> int:
        """The class of a sample.

        Raises:
            IndexError: if there is no such sample.
            ValueError: if the latents have no labels.

        """
        if self._labels is None:
            raise ValueError(
                f"the latents in {str(self.path)!r} have no labels; encode them with --labels, or check num_classes"
            )
        self._check_indices((index,))
        return int(self._labels[index])

    def source(self, index: int) -> int:
        """The index of a sample's image in the data set that was encoded, where broken images count too."""
        self._check_indices((index,))
        shard, row = self._locate(index)
        return int(shard.arrays["index"][row])

    def standardize(self, latents: Float[Tensor, "*batch channels height width"]) -> Tensor:
        """Latents of the autoencoder as they are trained on: (z - shift) / scale, per channel."""
        return (latents - self._per_channel(self.shift, latents)) / self._per_channel(self.scale, latents)

    def restore(self, latents: Float[Tensor, "*batch channels height width"]) -> Tensor:
        """Standardised latents as the autoencoder decodes them, the inverse of `standardize`."""
        return latents * self._per_channel(self.scale, latents) + self._per_channel(self.shift, latents)

    def read(
        self,
        indices: Sequence[int],
        *,
        flipped: Sequence[bool] | None = None,
        seeds: Sequence[int] | None = None,
        features: Sequence[str] = (),
    ) -> LatentBatch:
        """Several samples, in one tensor: what to send through a DataLoader.

        Args:
            indices: which.
            flipped: for each, whether to take the latent of the flipped image; default: none.
            seeds: for each, the seed of the noise with which a latent mean + std noise is drawn; None: the means.
            features: the names of the teachers whose features to read.

        Raises:
            IndexError: if there is no such sample.
            ValueError: if flipped or seeds are not as many as the indices, or what is asked for is not stored.

        """
        turned = [bool(flip) for flip in flipped] if flipped is not None else [False] * len(indices)
        self._check_request(indices, turned, seeds, features)
        rows = [self._locate(int(index)) for index in indices]
        latents = _floats(_gather(rows, _names("mean", "mean_flipped", turned), self.shape))
        if seeds is not None:
            std = _floats(_gather(rows, _names("std", "std_flipped", turned), self.shape))
            latents.addcmul_(std, self._draw(seeds))
        found = {}
        for name in features:
            keys = _names(f"features.{name}", f"features.{name}.flipped", turned)
            found[name] = _floats(_gather(rows, keys, self.teachers[name]))
        labels = None if self._labels is None else torch.from_numpy(self._labels[list(indices)])
        # In place: of this size, new memory costs more than the arithmetic.
        latents.sub_(self._per_channel(self.shift, latents)).div_(self._per_channel(self.scale, latents))
        return LatentBatch(latents, labels, found, self._images(rows, turned))

    def preload(self, progress: Progress | None = None) -> None:
        """Read all files into memory now, and make sure that they are as they were written. Samples stay the same.

        Args:
            progress: called with (files read, files in all).

        Raises:
            ValueError: if a shard is damaged.

        """
        for number, shard in enumerate(self._shards):
            whole = Shard(shard.path, preloaded=True)
            whole.verify()
            self._shards[number] = whole
            if progress is not None:
                progress(number + 1, len(self._shards))

    def _open(self) -> list[Shard]:
        found = []
        for number, record in enumerate(self.header["shards"]):
            path = self.path / record["file"]
            shard = Shard(path)
            if (shard.note.encoding, shard.note.number) != (self.header["encoding"], number):
                raise damaged(path, "it is a shard of another encoding, or of another number")
            if (shard.note.samples, shard.nbytes, shard.note.digest) != (
                record["count"],
                record["nbytes"],
                record["digest"],
            ):
                raise damaged(path, f"it is not the shard that {LATENTS_FILE} tells of")
            found.append(shard)
        return found

    def _locate(self, index: int) -> tuple[Shard, int]:
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._shards[number], index - int(self._starts[number])

    def _draw(self, seeds: Sequence[int]) -> Tensor:
        """Standard normal values, those of a sample from its seed alone."""
        noise = torch.empty(len(seeds), *self.shape)
        for place, seed in zip(noise, seeds, strict=True):
            place.normal_(generator=self._noise.manual_seed(int(seed)))
        return noise

    def _images(self, rows: Iterable[tuple[Shard, int]], turned: Sequence[bool]) -> Tensor | None:
        if self.images is None:
            return None
        pixels = self.images.pixel_batch([int(shard.arrays["index"][row]) for shard, row in rows])
        flips = torch.tensor(turned, dtype=torch.bool)
        pixels[flips] = pixels[flips].flip(-1)
        return pixels

    def _per_channel(self, values: Sequence[float], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device).reshape(-1, 1, 1)

    def _check_indices(self, indices: Sequence[int]) -> None:
        for index in indices:
            if not 0 <= index < len(self):
                raise IndexError(f"sample {index} is out of range for {len(self)} latents")

    def _check_request(
        self, indices: Sequence[int], turned: Sequence[bool], seeds: Sequence[int] | None, features: Sequence[str]
    ) -> None:
        self._check_indices(indices)
        for name, given in (("flipped", turned), ("seeds", seeds)):
            if given is not None and len(given) != len(indices):
                raise ValueError(f"each of the {len(indices)} samples needs its own {name}, got {len(given)}")
        if seeds is not None and not all(is_integer(seed) and -(2**63) <= seed < 2**63 for seed in seeds):
            raise ValueError(f"seeds must be integers that fit into 64 bits, got {list(seeds)!r}")
        if any(turned) and not self.flips:
            raise ValueError(
                f"the latents of flipped images are not stored in {str(self.path)!r}: encode them with --flips, or do "
                "not ask for flips"
            )
        for name in features:
            if name not in self.teachers:
                raise ValueError(
                    f"{str(self.path)!r} holds no features of {name!r}{nearest(name, self.teachers)}, it holds those "
                    f"of {', '.join(map(repr, self.teachers)) or 'no teacher'}; encode with --teacher"
                )

    def __getstate__(self) -> dict[str, Any]:
        # Neither mapped files nor generators are copied.
        return {"path": self.path, "images": self.images, "cache_bytes": self.cache_bytes, "header": self.header}

    def __setstate__(self, state: dict[str, Any]) -> None:
        LatentShards.__init__(self, state["path"], cache_bytes=state["cache_bytes"])
        self.images = state["images"]
        if self.header != state["header"]:
            raise ValueError(f"the latents in {str(self.path)!r} were written anew while they were read: start again")


def _names(plain: str, flipped: str, turned: Sequence[bool]) -> list[str]:
    return [flipped if flip else plain for flip in turned]


def _gather(rows: Sequence[tuple[Shard, int]], names: Sequence[str], shape: tuple[int, int, int]) -> Array:
    """The rows of arrays (each its own) in one array."""
    dtype = rows[0][0].arrays[names[0]].dtype if rows else np.float32
    found = np.empty((len(rows), *shape), dtype=dtype)
    for place, ((shard, row), name) in enumerate(zip(rows, names, strict=True)):
        found[place] = shard.arrays[name][row]
    return found


def _floats(array: Array) -> Float32[Tensor, "..."]:
    return torch.from_numpy(array).to(torch.float32)


def _triple(values: Sequence[int]) -> tuple[int, int, int]:
    first, second, third = values
    return int(first), int(second), int(third)
