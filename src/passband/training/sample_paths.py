"""Two paths that samples are read from, opened so that they can be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from passband._checks import check_choice
from passband.data import ArraySamples, ImageFolder, LatentShards
from passband.data.arrays import VALUES
from passband.data.listing import AUDIO_SUFFIXES, names_ending
from passband.training.audio_pair import open_audio
from passband.training.image_samples import ImageSet
from passband.training.measured_files import load_measured
from passband.training.measured_set import MeasuredSet
from passband.training.path_kinds import ARRAY, AUDIO, IMAGES, MEASURED, SERIES, is_of_audio, kind_of_path
from passband.training.progress import OnProgress
from passband.training.row_samples import RowSet
from passband.training.sample_series import MosaicSet, Step, check_shows_images, find_steps, run_of
from passband.training.sample_sets import SampleSet, Shape

Side = SampleSet | MeasuredSet


@dataclass(frozen=True)
class Opening:
    """How samples are read.

    Args:
        resolution: side of the squares in pixels, or (height, width); None: that of the samples of a fixed size, or
            of the first generated image.
        crop: "center" or "tile", for images in files.
        channels: 3, or 1 for luma; None: those of the samples with a fixed number, or 3.
        values: what the values of arrays are, see [`ArraySamples`][passband.data.ArraySamples].
        limit: use this many samples at most.
        strict: raise at the first file that cannot be used.
        sample_rate: to which audio is resampled, Hz; None: the lowest of the folders' commonest rates.
        batch_size: samples that are measured at once.

    """

    resolution: int | tuple[int, int] | None = None
    crop: str = "center"
    channels: int | None = None
    values: str = "auto"
    limit: int | None = None
    strict: bool = False
    sample_rate: int | None = None
    batch_size: int = 64

    def __post_init__(self) -> None:
        check_choice("values", self.values, VALUES)  # before a file is looked at, and whether or not there is an array
        check_choice("crop", self.crop, ("center", "tile"))


class Pair(NamedTuple):
    """What is compared.

    Attributes:
        real: the reference.
        fake: the other set, or the sets of a run's steps.
        steps: the steps of `fake`; empty for a single set.

    """

    real: Side
    fake: list[Side]
    steps: list[int]


def open_pair(real: Path, fake: Path, opening: Opening, on_progress: OnProgress | None = None) -> Pair:
    """Open two paths as sets of samples of one kind and shape.

    Samples in files of images take the size of those whose size is given: arrays, latents, measured sets, pictures.

    Args:
        real: the reference.
        fake: the other samples; a run folder or its samples/ stands for the samples of all its steps.
        opening: how they are read.
        on_progress: told about the reading of headers.

    Raises:
        FileNotFoundError: if there is nothing at a path.
        ValueError: if a path cannot be read, or kinds, sizes or channels differ.

    """
    kinds = kind_of_path(real), kind_of_path(fake)
    if kinds[0] == SERIES:
        raise ValueError(
            f"{str(real)!r} is a run, or holds its samples at several steps: the reference is one set of samples, such "
            "as the data that it was trained on"
        )
    heard = is_of_audio(real)
    run = run_of(fake) if kinds[1] == SERIES else None
    if run is not None and not heard:
        check_shows_images(run)
    steps = find_steps(fake) if kinds[1] == SERIES else []
    if kinds[1] == SERIES and not steps:
        raise ValueError(f"{str(fake)!r} holds no samples yet: draw some with passband sample, or train on")
    if heard or kinds[1] == AUDIO:
        return _open_sounds(real, fake, kinds, steps, opening, on_progress)
    opened: dict[str, Side] = {}
    if kinds[0] not in (IMAGES, SERIES):
        opened["real"] = _open_fixed("real", real, kinds[0], opening)
    if kinds[1] not in (IMAGES, SERIES):
        opened["fake"] = _open_fixed("fake", fake, kinds[1], opening)
    _check_kinds(real, fake, kinds, opened)
    fixed = [shape_of(side) for side in opened.values()]
    framed = _framing(fixed[0] if fixed else None, fake, steps, opening) if len(opened) < 2 else opening
    if "real" not in opened:
        opened["real"] = _open_images("real", real, framed, on_progress)
    if steps:
        sides: list[Side] = [_open_step(fake, step, framed, on_progress) for step in steps]
    else:
        sides = [opened["fake"] if "fake" in opened else _open_images("fake", fake, framed, on_progress)]
    for side in sides:
        _check_alike(real, opened["real"], fake, side)
    return Pair(opened["real"], sides, [step.step for step in steps])


def _open_sounds(
    real: Path, fake: Path, kinds: tuple[str, str], steps: list[Step], opening: Opening, on_progress: OnProgress | None
) -> Pair:
    """The pair where one side at least is audio, or what was measured of some."""
    others = {AUDIO, MEASURED} | ({SERIES} if all(_holds_audio(step.path) for step in steps) else set())
    if not set(kinds) <= others:
        audio, other = (real, fake) if kinds[0] in (AUDIO, MEASURED) else (fake, real)
        raise ValueError(
            f"both must hold the same kind of samples; {str(audio)!r} holds audio, {str(other)!r} does not"
        )
    fakes = {f"fake, step {step.step}": step.path for step in steps} or {"fake": fake}
    opened = open_audio(
        real, fakes, opening.sample_rate, limit=opening.limit, strict=opening.strict, on_progress=on_progress
    )
    sides: list[Side] = list(opened[1])
    for side in sides:
        _check_alike(real, opened[0], fake, side)
    return Pair(opened[0], sides, [step.step for step in steps])


def _holds_audio(path: Path) -> bool:
    return path.is_dir() and bool(names_ending(path, AUDIO_SUFFIXES))


def _check_kinds(real: Path, fake: Path, kinds: tuple[str, str], opened: Mapping[str, Side]) -> None:
    """Raise where one side is of images in files and the other is known to be something else."""
    found = [kind_of_side(opened[name]) if name in opened else "images" for name in ("real", "fake")]
    if found[0] != found[1] and {IMAGES, SERIES} & set(kinds):
        raise ValueError(_other_kind((real, fake), found))


def _other_kind(paths: Sequence[Path], kinds: Sequence[str], shapes: Sequence[Shape] | None = None) -> str:
    hint = ""
    if "images" in kinds and "latents" in kinds:
        hint = "; if they are images whose range was not recognised, say so with --values"
    sizes = ("", "") if shapes is None else tuple(f" {shape}" for shape in shapes)
    return (
        f"both must hold the same kind of samples: {str(paths[0])!r} holds {kinds[0]}{sizes[0]}, {str(paths[1])!r} "
        f"{kinds[1]}{sizes[1]}{hint}"
    )


def shape_of(side: Side) -> Shape:
    r"""(channels, \*spatial) of the samples."""
    return side.shape if isinstance(side, SampleSet) else side.spectrum.shape


def kind_of_side(side: Side) -> str:
    """What the samples are: images, latents or signals."""
    return side.kind if isinstance(side, SampleSet) else side.spectrum.kind


def sample_rate_of(side: Side) -> int | None:
    """The sample rate of audio, Hz; None of everything else."""
    return side.sample_rate if isinstance(side, SampleSet) else side.spectrum.sample_rate


def _open_fixed(name: str, path: Path, kind: str, opening: Opening) -> Side:
    """Samples whose size is given."""
    if kind == MEASURED:
        return load_measured(path, f"{name} samples")
    data = ArraySamples(path, values=opening.values) if kind == ARRAY else LatentShards(path)
    found = RowSet(data, channels=opening.channels, limit=opening.limit)
    sides = opening.resolution
    wanted = (sides, sides) if isinstance(sides, int) else sides
    if wanted is not None and found.shape[1:] != wanted:
        raise ValueError(
            f"the samples in {str(path)!r} have size {' × '.join(map(str, found.shape[1:]))}, and are compared as they "
            "are: leave out --resolution"
        )
    return found


def _framing(fixed: Shape | None, fake: Path, steps: list[Step], opening: Opening) -> Opening:
    """The opening with the size and channels that files of images are read with."""
    resolution, channels = opening.resolution, opening.channels
    if fixed is not None:
        channels = fixed[0] if channels is None else channels
        if resolution is None and len(fixed) == 3:
            resolution = (fixed[1], fixed[2])
    if resolution is None and steps:
        resolution, own = _step_size(fake, steps[-1], opening)
        channels = own if channels is None else channels
    if resolution is None:
        resolution = min(ImageFolder(fake, 1, limit=1).sizes[0])
    return replace(opening, resolution=resolution, channels=3 if channels is None else channels)


def _step_size(fake: Path, step: Step, opening: Opening) -> tuple[tuple[int, int], int | None]:
    """Height and width of a run's samples, and their channels where they are known."""
    if step.path.is_dir():
        width, height = ImageFolder(step.path, 1, limit=1).sizes[0]
        return (height, width), None
    channels, height, width = _mosaic(fake, step, opening.channels).shape
    return (height, width), channels


def _open_step(fake: Path, step: Step, opening: Opening, on_progress: OnProgress | None) -> SampleSet:
    if step.path.is_dir():
        return _open_images(f"fake, step {step.step}", step.path, opening, on_progress)
    return _mosaic(fake, step, opening.channels)


def _mosaic(fake: Path, step: Step, channels: int | None) -> MosaicSet:
    run = run_of(fake)
    assert run is not None  # or its pictures would be no steps
    return MosaicSet(step.path, run, channels)


def _open_images(name: str, path: Path, opening: Opening, on_progress: OnProgress | None) -> ImageSet:
    assert opening.resolution is not None
    progress = None
    if on_progress is not None:
        what = f"{name}: reading headers"
        progress = lambda done, total: on_progress(what, done, total)  # noqa: E731
    data = ImageFolder(
        path,
        opening.resolution,
        crop=opening.crop,
        channels=3 if opening.channels is None else opening.channels,
        limit=opening.limit,
        strict=opening.strict,
        cache_bytes=0,
        progress=progress,
    )
    return ImageSet(data)


def _check_alike(real_path: Path, real: Side, fake_path: Path, fake: Side) -> None:
    kinds, shapes = [kind_of_side(side) for side in (real, fake)], [shape_of(side) for side in (real, fake)]
    if kinds[0] != kinds[1]:
        raise ValueError(_other_kind((real_path, fake_path), kinds, shapes))
    rates = [sample_rate_of(side) for side in (real, fake)]
    if rates[0] != rates[1]:
        known = [
            f"{str(path)!r} {'at no rate' if rate is None else f'at {rate} Hz'}"
            for path, rate in zip((real_path, fake_path), rates, strict=True)
        ]
        raise ValueError(
            f"both must be measured at one sample rate, got {known[0]} and {known[1]}; measure one of them again with "
            "--sample-rate"
        )
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"both must hold samples of one shape, (channels, *spatial): those in {str(real_path)!r} have {shapes[0]}, "
            f"those in {str(fake_path)!r} {shapes[1]}; crop or resize one of them"
        )
