"""What `benchmarks.suggestion` trains on, diagnoses with and compares samples with: checkerboards, or photographs."""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image, ImageOps
from torch import Tensor

from passband._files import write_file
from passband.data import ImageFolder, checkerboards
from passband.data._subsets import limit_rank
from passband.data.listing import IMAGE_SUFFIXES, names_ending
from passband.metrics import SampleComparison, SampleSpectrum, compare_samples
from passband.training.demo import Experiment, Truth
from passband.training.diagnosis_data import LEAST, DiagnosisData, given_data, own_data
from passband.training.subject import Subject
from passband.transforms.taper import Taper

HELD_OUT, TRUE_SEED = 256, 1 << 20
SIDE, SHRINK, TILES = 32, 4, 1024


@dataclass(frozen=True)
class Boards:
    """The checkerboards of `passband demo`, drawn as they are needed."""

    name: ClassVar = "checkerboards"
    measures: ClassVar[Mapping[str, str]] = {
        "lsd": "LSD of samples, dB",
        "octaves": "octaves of samples called different, of 5",
        "pattern_distance": "pattern distance of samples",
        "leakage": "leakage of samples",
    }

    def lines(self) -> dict[str, Any]:
        """Nothing: the recipe is the demo's."""
        return {}

    def held_out(self, subject: Subject) -> DiagnosisData:
        """Boards with other seeds than in training."""
        return own_data(subject, HELD_OUT)

    def measure(self, images: Tensor) -> dict[str, Any]:
        """What the demo and `passband compare` find; boards are periodic, so that no taper is needed."""
        experiment = Experiment()
        boards = checkerboards(len(images), experiment.size, experiment.cells, seed=TRUE_SEED)
        both = {"true": boards, "sample": images}
        sides = [spectrum_of(name, [_named(side, name)], "none") for name, side in both.items()]
        found, exact = compare_samples(*sides), Truth(experiment).measure(images)
        return {name: exact[name] for name in ("lsd", "pattern_distance", "leakage")} | octaves(found)

    def facts(self) -> dict[str, Any]:
        """The recipe says all."""
        return {}


@dataclass(frozen=True)
class Photographs:
    """Tiles of photographs: a part of the photographs is for training, all tiles of the others are held out.

    A fixed hash of the names decides. As many as a diagnosis needs to resample by photograph (8) are held out, or half
    of them if there are fewer than 12. Photographs are reduced to a quarter of their sides first, so that a tile shows
    more than a blur.

    Args:
        source: folder of the photographs.
        root: where the reduced ones are kept.

    """

    source: Path
    root: Path
    name: ClassVar = "photographs"
    measures: ClassVar[Mapping[str, str]] = {
        "lsd_train": "LSD of samples to training tiles, dB",
        "octaves_train": "octaves of samples called different from training tiles, of 5",
        "lsd": "LSD of samples to held-out tiles, dB",
        "octaves": "octaves of samples called different from held-out tiles, of 5",
    }

    @cached_property
    def split(self) -> dict[str, list[str]]:
        """The names of the photographs on either side."""
        names = sorted(names_ending(self.source, tuple(IMAGE_SUFFIXES)), key=limit_rank)
        if len(names) < 2:
            raise ValueError(f"{str(self.source)!r} must hold two photographs or more, got {len(names)}")
        held = LEAST if len(names) >= 1.5 * LEAST else len(names) // 2
        return {"held-out": sorted(names[:held]), "train": sorted(names[held:])}

    def folder(self, side: str) -> Path:
        """Where the reduced photographs of one side lie; made when it is first asked for."""
        for name in self.split[side]:
            file = self.root / side / f"{name.replace('/', '-')}.png"
            if not file.is_file():
                write_file(file, _reduced(self.source / name))
        return self.root / side

    def lines(self) -> dict[str, Any]:
        """Tiles of the photographs for training."""
        path = str(self.folder("train"))
        return {"data": {"name": "images", "path": path, "resolution": SIDE, "crop": "tile"}}

    def held_out(self, subject: Subject) -> DiagnosisData:
        """Tiles of the other photographs."""
        return given_data(subject, self.folder("held-out"), HELD_OUT)

    @cached_property
    def _true(self) -> dict[str, SampleSpectrum]:
        return {side: spectrum_of(f"{side} tiles", _tiles(self.folder(side))) for side in self.split}

    def measure(self, images: Tensor) -> dict[str, Any]:
        """What `passband compare` finds, beside the tiles of either side."""
        samples = spectrum_of("samples", [_named(images, "sample")])
        held, trained = (compare_samples(self._true[side], samples) for side in ("held-out", "train"))
        numbers = {"lsd": held.lsd.value} | octaves(held) | {"lsd_train": trained.lsd.value}
        return numbers | {f"{name}_train": value for name, value in octaves(trained).items()}

    def facts(self) -> dict[str, Any]:
        """Which photographs are on which side, how many tiles, and how far apart the two sides are."""
        counts = {side: self._true[side].count for side in self.split}
        apart = compare_samples(self._true["held-out"], self._true["train"])
        between = {"lsd": apart.lsd.value} | octaves(apart)
        return {"photographs": self.split, "tiles": counts, "training tiles beside held-out tiles": between}


#: What both have: `measures` of samples, by the name of the number (less is better in each), and how to take them.
Data = Boards | Photographs


def octaves(found: SampleComparison) -> dict[str, Any]:
    """How many octaves are called different in any plane, the LSD in each, and by how many dB the channels are off."""
    contrast = found.contrasts["octaves"]
    return {
        "octaves": float(contrast.different.any(0).sum()),
        "octave_lsd": [each.value for each in found.octave_lsd],
        "octave_difference": contrast.difference[: found.channels].mean(0).tolist(),
    }


def spectrum_of(name: str, batches: Iterable[tuple[Tensor, list[str]]], taper: Taper = "hann") -> SampleSpectrum:
    """The spectrum of batches of samples with their keys."""
    spectrum = SampleSpectrum(name, taper=taper)
    for samples, keys in batches:
        spectrum.update(samples, keys)
    return spectrum


def _named(samples: Tensor, name: str) -> tuple[Tensor, list[str]]:
    """Samples as one batch, with a key for each."""
    return samples.float(), [f"{name} {number}" for number in range(len(samples))]


def _tiles(folder: Path) -> Iterator[tuple[Tensor, list[str]]]:
    """Tiles with the names of their photographs."""
    tiles = ImageFolder(folder, SIDE, crop="tile", limit=TILES)
    for first in range(0, len(tiles), 64):
        chosen = range(first, min(first + 64, len(tiles)))
        yield torch.stack([tiles[i] for i in chosen]), [tiles.origin(i)[0] for i in chosen]


def _reduced(file: Path) -> bytes:
    """A photograph at a quarter of its sides, as PNG."""
    with Image.open(file) as photograph:
        upright = ImageOps.exif_transpose(photograph).convert("RGB")
    size = (upright.width // SHRINK, upright.height // SHRINK)
    written = io.BytesIO()
    upright.resize(size, Image.Resampling.LANCZOS).save(written, "PNG")
    return written.getvalue()
