"""Two sets of samples from files to the page: read, measured by several processes, compared, reported."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from passband._checks import check_choice, check_integer
from passband.forcing.operator import check_kappa
from passband.metrics.planes import SampleKind
from passband.metrics.sample_comparison import SampleComparison, compare_samples
from passband.metrics.sample_spectrum import MEASURED_SUFFIX
from passband.process import EDM, VP, Flow, Process
from passband.reports.front import FrontReport
from passband.reports.spectrum import spectrum_report
from passband.training.measured_files import part_name
from passband.training.measured_set import MeasuredSet, Measuring
from passband.training.sample_measure import OnProgress, Wanted, measure_sets
from passband.training.sample_paths import Opening, Pair, Side, kind_of_side, open_pair
from passband.training.sample_sets import SampleSet
from passband.transforms.taper import TAPERS, Taper

PROCESSES: dict[str, Callable[[], Process]] = {"flow": lambda: Flow(data_at=1), "vp": VP, "edm": EDM}


@dataclass(frozen=True)
class CompareSettings:
    """How two sets of samples are compared.

    Args:
        opening: how samples are read.
        taper: "hann", or "none" for samples that are periodic.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        workers: processes; None: as many as are worth it.
        process: noising process whose time is shown beside the fronts of Spectral Forcing: "flow", "vp" or "edm".
        kappa: steepness of its mask.
        window: side of its windows; None: whole images.
        exact: its exact variant.

    Raises:
        TypeError: if a number is none.
        ValueError: if one is out of range, or a name unknown.

    """

    opening: Opening = field(default_factory=Opening)
    taper: Taper = "hann"
    replicates: int = 200
    seed: int = 0
    workers: int | None = None
    process: str = "flow"
    kappa: float = 30.0
    window: int | None = None
    exact: bool = False

    def __post_init__(self) -> None:
        check_choice("taper", self.taper, TAPERS)
        check_choice("process", self.process, PROCESSES)
        check_kappa(self.kappa)
        for name, value, least in (
            ("replicates", self.replicates, 20),
            ("seed", self.seed, None),
            ("workers", self.workers, 1),
            ("batch_size", self.opening.batch_size, 1),
        ):
            if value is None:
                continue
            check_integer(name, value)
            if least is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")

    def measuring(self, kind: SampleKind) -> Measuring:
        """How samples of a kind are measured."""
        return Measuring(kind, self.taper, self.replicates, self.seed, self.window)


@dataclass(frozen=True)
class Compared:
    """Two sets that were compared.

    Attributes:
        comparison: what was found; of a training over time, at its last step.
        series: (step, comparison) of all steps, oldest first; empty for a single set.
        fronts: the power law of the samples, for the fronts of Spectral Forcing.
        notes: what a reader must know.
        page: the page.

    """

    comparison: SampleComparison
    series: Sequence[tuple[str, SampleComparison]]
    fronts: FrontReport | None
    notes: list[str]
    page: Path


def compare_paths(
    real: Path,
    fake: Path,
    out: Path,
    settings: CompareSettings | None = None,
    *,
    keep_measured: Path | None = None,
    command: str | None = None,
    on_progress: OnProgress | None = None,
) -> Compared:
    """Compare two sets of samples and write the page.

    A path is a folder or zip of images, an array file (.npz, .npy, .safetensors, or FILE:name), a folder of latents, a
    measured set or a folder of its parts; `fake` may be a run's folder or its samples/, whose steps become a series.

    Args:
        real: the reference.
        fake: the other samples.
        out: folder of the page; what was measured is kept in measured/ there, and reused where nothing has changed.
        settings: how to compare.
        keep_measured: where to keep what was measured of the real samples, for other comparisons: a folder, or a file
            ending in .spectrum.safetensors.
        command: the command that is shown on the page; None: that of this process.
        on_progress: called after each block of samples.

    Returns:
        What was found, and where the page is.

    Raises:
        FileNotFoundError: if there is nothing at a path.
        KeyboardInterrupt: when it was stopped; the same call goes on from there.
        ValueError: if a path cannot be read, or the sets cannot be compared.

    """
    settings = CompareSettings() if settings is None else settings
    _check_out(out)
    if keep_measured is not None:
        named = keep_measured.name.endswith(MEASURED_SUFFIX)
        _check_place("--keep-measured", keep_measured.parent if named else keep_measured)
    pair = open_pair(real, fake, settings.opening, on_progress)
    _check_settings(pair, settings)
    sides = {"real": pair.real} | dict(zip(_fake_names(pair), pair.fake, strict=True))
    measured = _measure(sides, out / "measured", settings, keep_measured, on_progress)
    found = dict(zip(sides, measured, strict=True))
    series = _series(pair, found, on_progress)
    last = measured[-1]
    comparison = series[-1][1] if series else compare_samples(found["real"].spectrum, last.spectrum)
    notes = [note for name, side in sides.items() for note in _notes(name, side, found[name])]
    fronts = _fronts(found["real"], last, settings)
    if on_progress is not None:
        on_progress("drawing the page", 0, 1)
    page = spectrum_report(
        comparison,
        out,
        real_images=found["real"].thumbnails,
        fake_images=last.thumbnails,
        settings=_shown(real, fake, pair, settings),
        notes=notes,
        fronts=fronts,
        series=series,
        command=command,
    )
    if on_progress is not None:
        on_progress("drawing the page", 1, 1)
    return Compared(comparison, series, fronts, notes, page)


def measure_shares(
    real: Path,
    fake: Path,
    out: Path,
    share: tuple[int, int],
    settings: CompareSettings | None = None,
    *,
    on_progress: OnProgress | None = None,
) -> list[Path]:
    """Measure one of several shares of two sets, so that several machines divide the work.

    Args:
        real: the reference.
        fake: the other samples.
        out: folder; the parts lie in real/ and fake/ there. When all shares are in one place, compare these folders.
        share: (I, N): the Ith of N shares.
        settings: how to compare; the same for all shares.
        on_progress: called after each block of samples.

    Returns:
        The files of the parts, none for a set that is a measured one already.

    Raises:
        FileNotFoundError, KeyboardInterrupt, ValueError: as `compare_paths`.

    """
    settings = CompareSettings() if settings is None else settings
    _check_out(out)
    pair = open_pair(real, fake, settings.opening, on_progress)
    _check_settings(pair, settings)
    if pair.steps:
        raise ValueError(
            f"{str(fake)!r} holds the samples of several steps, which are not divided into shares: give the samples of "
            "one step"
        )
    named = {"real": pair.real, "fake": pair.fake[0]}
    wanted = [
        Wanted(name, side, out / name / part_name(share), share, block=settings.opening.batch_size)
        for name, side in named.items()
        if isinstance(side, SampleSet)
    ]
    measure_sets(wanted, settings.measuring(_kind(pair.real)), workers=settings.workers, on_progress=on_progress)
    return [each.keep for each in wanted if each.keep is not None]


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {str(out)!r}: choose another place for the report")
    _check_place("--out", out)


def _check_place(option: str, path: Path) -> None:
    """Raise where a folder cannot be made or written to, as far as that is known before hours of measuring."""
    folder = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not folder.is_dir():
        raise ValueError(f"{option} cannot be {str(path)!r}, since {str(folder)!r} is a file: choose another place")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"nothing can be written into {str(folder)!r} ({error.strerror}): choose another {option}, or make room"
        ) from error


def _check_settings(pair: Pair, settings: CompareSettings) -> None:
    """Raise, before anything is measured, if measured sets were measured otherwise."""
    asked = settings.measuring(_kind(pair.real))
    for side in (pair.real, *pair.fake):
        if not isinstance(side, MeasuredSet):
            continue
        found = side.measuring
        keys = ["taper", "replicates", "seed"] + ["window"] * side.has_law  # which is measured in windows
        wrong = [key for key in keys if getattr(found, key) != getattr(asked, key)]
        if wrong:
            raise ValueError(
                f"the measured {side.name} were measured with "
                + ", ".join(f"{key} {getattr(found, key)}" for key in wrong)
                + ": "
                + " and ".join(_as_measured(key, getattr(found, key)) for key in wrong)
                + ", or measure them again"
            )


def _as_measured(key: str, value: object) -> str:
    return f"leave out --{key}" if value is None else f"give --{key} {value}"


def _kind(side: Side) -> SampleKind:
    kinds: dict[str, SampleKind] = {"images": "images", "latents": "latents", "signals": "signals"}
    return kinds[kind_of_side(side)]


def _fake_names(pair: Pair) -> list[str]:
    return [f"step {step}" for step in pair.steps] if pair.steps else ["fake"]


def _measure(
    sides: dict[str, Side],
    folder: Path,
    settings: CompareSettings,
    keep_measured: Path | None,
    on_progress: OnProgress | None,
) -> list[MeasuredSet]:
    """What was measured of each side, those that had been already included."""
    measuring = settings.measuring(_kind(sides["real"]))
    wanted = {
        name: _wanted(name, side, folder, measuring, keep_measured, settings.opening.batch_size)
        for name, side in sides.items()
        if isinstance(side, SampleSet)
    }
    measured = measure_sets(list(wanted.values()), measuring, workers=settings.workers, on_progress=on_progress)
    found = dict(zip(wanted, measured, strict=True))
    return [side if isinstance(side, MeasuredSet) else found[name] for name, side in sides.items()]


def _wanted(
    name: str, side: SampleSet, folder: Path, measuring: Measuring, keep_measured: Path | None, block: int
) -> Wanted:
    own = Wanted(name, side, folder / f"{name.replace(' ', '-')}{MEASURED_SUFFIX}", block=block)
    if name != "real" or keep_measured is None:
        return own
    if keep_measured.name.endswith(MEASURED_SUFFIX):
        return Wanted(name, side, keep_measured, must_fit=True, block=block)
    facts = json.dumps(own.facts(measuring), sort_keys=True)
    tag = hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()
    return Wanted(name, side, keep_measured / f"{tag}{MEASURED_SUFFIX}", block=block)


def _series(
    pair: Pair, found: dict[str, MeasuredSet], on_progress: OnProgress | None
) -> list[tuple[str, SampleComparison]]:
    series = []
    for number, step in enumerate(pair.steps, 1):
        series.append((str(step), compare_samples(found["real"].spectrum, found[f"step {step}"].spectrum)))
        if on_progress is not None:
            on_progress("comparing", number, len(pair.steps))
    return series


def _notes(name: str, side: Side, measured: MeasuredSet) -> list[str]:
    return side.notes(name, measured.skipped) if isinstance(side, SampleSet) else []


def _fronts(real: MeasuredSet, fake: MeasuredSet, settings: CompareSettings) -> FrontReport | None:
    """The fronts of Spectral Forcing, which is for images and latents."""
    if real.measuring.kind == "signals":
        return None
    return FrontReport(
        real.law_or_reason(),
        fake.law_or_reason(),
        process=PROCESSES[settings.process](),
        kappa=settings.kappa,
        window=settings.window,
        exact=settings.exact,
    )


def _shown(real: Path, fake: Path, pair: Pair, settings: CompareSettings) -> dict[str, str | int | float | None]:
    """What was compared and how, for the page."""
    opening = settings.opening
    shown: dict[str, str | int | float | None] = {
        "real from": str(real),
        "real read as": _reading(pair.real),
        "fake from": str(fake),
        "fake read as": _reading(pair.fake[-1]),
    }
    if _kind(pair.real) == "images":
        shown["crop"] = opening.crop
    return shown | {
        "limit": opening.limit or "none",
        "taper": settings.taper,
        "bootstrap replicates": settings.replicates,
        "seed": settings.seed,
    }


def _reading(side: Side) -> str:
    return side.reading if isinstance(side, SampleSet) else f"{side.count:,} {side.measuring.kind}, measured before"
