"""The samples of a running training over time: folders of images, or pictures of many that are cut back into them."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from passband._checks import import_extra
from passband.data import from_uint8
from passband.data._decode import Pixels
from passband.training.config import FinetuneRecipe, Recipe, RecipeError
from passband.training.draw import sample_name
from passband.training.run_folder import RunFolder
from passband.training.sample_sets import Block, Chunk, Reader, SampleSet, file_stamp, sample_key
from passband.training.sections import AudioData

_STEP = re.compile(r"step-(\d+)(\.png)?")
#: How the pictures of a run's samples are laid out, see `image_mosaic`.
COLUMNS, GAP = 8, 2


class Step(NamedTuple):
    """The samples of a run at one step: a folder of images, or a picture of many."""

    step: int
    path: Path


def find_steps(path: Path) -> list[Step]:
    """The steps whose samples a run folder, or its folder of samples, holds: oldest first.

    Where a step has a folder of images and a picture, the folder counts, which holds more. Without the run's recipe a
    picture is an image like any other.

    Args:
        path: the folder of a run, or its samples/.

    Returns:
        The steps, none if it is neither.

    """
    is_run, of_run = (path / "recipe.yaml").is_file(), run_of(path) is not None
    folder = path / "samples" if is_run and (path / "samples").is_dir() else path
    named = ((found, entry) for entry in folder.iterdir() if (found := _STEP.fullmatch(entry.name)))
    steps: dict[int, Path] = {}
    for found, entry in sorted(named, key=lambda each: each[1].name, reverse=True):  # pictures first
        if (entry.is_dir() and any(entry.iterdir())) or (found[2] and of_run):  # drawing one may have been stopped
            steps[int(found[1])] = entry
    return [Step(step, steps[step]) for step in sorted(steps)]


def check_shows_images(run: RunFolder) -> None:
    """Raise RecipeError unless the samples of a run are images."""
    recipe = run.recipe()
    if isinstance(recipe.data, AudioData):
        raise RecipeError(
            f"{str(run.root)!r} is a run of audio, whose samples are compared with clips: give a folder of audio as "
            "the reference"
        )
    if not isinstance(recipe, Recipe | FinetuneRecipe):
        raise RecipeError(
            f"{str(run.root)!r} is a run of an {recipe.task}, whose pictures show images beside their reconstructions: "
            "use passband evaluate or passband inspect"
        )


def run_of(path: Path) -> RunFolder | None:
    """The run that a folder of samples, or the folder itself, belongs to; None for none."""
    for folder in (path, path.absolute().parent):
        if (folder / "recipe.yaml").is_file():
            return RunFolder(folder)
    return None


class MosaicSet(SampleSet):
    """The samples in a picture that `passband train` wrote.

    Args:
        path: the picture.
        run: the run that wrote it, whose recipe says how many there are.
        channels: 1 for luma, or 3.

    Raises:
        ValueError: if the picture cannot be read, or is none of that many samples.

    """

    kind = "images"

    def __init__(self, path: Path, run: RunFolder, channels: int | None = None) -> None:
        self.path, self.file = str(path), path
        recipe = run.recipe()
        assert isinstance(recipe, Recipe | FinetuneRecipe)
        settings = recipe.sampling
        self.seeds = range(settings.seed, settings.seed + settings.count)
        channels = getattr(recipe.data, "channels", 3) if channels is None else channels
        self.reader = _MosaicReader(path, len(self.seeds), channels)
        self.shape = (channels, *mosaic_size(self.reader.pixels().shape[:2], len(self.seeds), path))
        self.reading = f"{len(self.seeds)} images of the picture {path.name}"

    def __len__(self) -> int:
        return len(self.seeds)

    def blocks(self, size: int) -> list[Block]:
        """See the base class: one block, the picture."""
        keys = [sample_key(sample_name(seed)) for seed in self.seeds]  # as the images of its folders
        return [Block(0, len(self), keys)]

    def facts(self) -> dict[str, Any]:
        """See the base class."""
        return {"file": file_stamp(self.file), "shape": list(self.shape), "seeds": [self.seeds.start, self.seeds.stop]}


class _MosaicReader(Reader):
    def __init__(self, path: Path, count: int, channels: int) -> None:
        self.path, self.count, self.channels = path, count, channels

    def read(self, block: Block) -> Iterator[Chunk]:
        """See the base class."""
        images = cut_mosaic(self.pixels(), self.count, self.path)
        samples = from_uint8(torch.from_numpy(images).permute(0, 3, 1, 2)).contiguous()
        yield Chunk(samples, list(block.items), range(self.count))

    def pixels(self) -> Pixels:
        """The whole picture, (height, width, channels)."""
        try:
            with import_extra("PIL.Image", "train").open(self.path) as image:
                pixels = np.array(image.convert("L" if self.channels == 1 else "RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"the picture {str(self.path)!r} cannot be read ({error}): remove it") from error
        return pixels[:, :, None] if pixels.ndim == 2 else pixels


def mosaic_size(size: Sequence[int], count: int, path: Path) -> tuple[int, int]:
    """Height and width of each of the images in a picture of (height, width).

    Raises:
        ValueError: if it is no picture of that many.

    """
    columns = min(COLUMNS, count)
    sides = [divmod(side + GAP, number) for side, number in zip(size, (-(-count // columns), columns), strict=True)]
    if any(rest or side <= GAP for side, rest in sides):
        raise ValueError(
            f"the picture {str(path)!r} of {size[1]} × {size[0]} pixels cannot be cut into the {count} samples of the "
            "run's recipe (sampling.count may have changed): compare a folder of samples instead"
        )
    return sides[0][0] - GAP, sides[1][0] - GAP


def cut_mosaic(pixels: Pixels, count: int, path: Path) -> Pixels:
    """The images of a picture, (count, height, width, channels).

    Raises:
        ValueError: if it is no picture of that many.

    """
    height, width = mosaic_size(pixels.shape[:2], count, path)
    columns = min(COLUMNS, count)
    places = [divmod(number, columns) for number in range(count)]
    corners = [(row * (height + GAP), column * (width + GAP)) for row, column in places]
    return np.stack([pixels[top : top + height, left : left + width] for top, left in corners])
