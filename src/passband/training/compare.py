"""Two sets of samples from files to the page: read, measured by several processes, compared, reported."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from passband.metrics.sample_comparison import SampleComparison, compare_samples
from passband.metrics.sample_spectrum import MEASURED_SUFFIX
from passband.reports.audio_folders import AudioFound
from passband.reports.front import FrontReport
from passband.reports.spectrum import spectrum_report
from passband.reports.spectrum.words import terms_of
from passband.training.audio_samples import AudioSet
from passband.training.compare_audio import AudioSettings, AudioWork
from passband.training.compare_notes import pair_notes, set_notes
from passband.training.compare_settings import (
    PROCESSES,
    CompareSettings,
    check_out,
    check_place,
    check_settings,
    sample_kind,
)
from passband.training.measured_files import part_name
from passband.training.measured_set import MeasuredSet, Measuring
from passband.training.progress import OnProgress
from passband.training.sample_measure import measure_sets
from passband.training.sample_paths import Pair, Side, open_pair, sample_rate_of
from passband.training.sample_sets import SampleSet
from passband.training.sample_work import Wanted


@dataclass(frozen=True)
class Compared:
    """Two sets that were compared.

    Attributes:
        comparison: what was found; of a training over time, at its last step.
        series: (step, comparison) of all steps, oldest first; empty for a single set.
        fronts: the power law of the samples, for the fronts of Spectral Forcing.
        notes: what a reader must know.
        page: the page.
        audio: what was measured of clips beside their spectra; None of anything else.

    """

    comparison: SampleComparison
    series: Sequence[tuple[str, SampleComparison]]
    fronts: FrontReport | None
    notes: list[str]
    page: Path
    audio: AudioFound | None = None


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

    A path is a folder or zip of images, a folder of audio, an array file (.npz, .npy, .safetensors, or FILE:name), a
    folder of latents, a measured set or a folder of its parts; `fake` may be a run's folder or its samples/, whose
    steps become a series.

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
    check_out(out)
    if keep_measured is not None:
        named = keep_measured.name.endswith(MEASURED_SUFFIX)
        check_place("--keep-measured", keep_measured.parent if named else keep_measured)
    pair = open_pair(real, fake, settings.opening, on_progress)
    check_settings(pair, settings)
    work = _audio_work(pair, settings)
    sides = {"real": pair.real} | dict(zip(_fake_names(pair), pair.fake, strict=True))
    measured = _measure(sides, out / "measured", settings, keep_measured, on_progress)
    found = dict(zip(sides, measured, strict=True))
    series = _series(pair, found, on_progress)
    last = measured[-1]
    comparison = series[-1][1] if series else compare_samples(found["real"].spectrum, last.spectrum)
    notes = [note for name, side in sides.items() for note in set_notes(name, side, found[name])]
    notes += pair_notes(pair, settings.opening, paired=comparison.paired)
    fronts = _fronts(found["real"], last, settings)
    heard, beside = None, None
    if work is not None:
        heard = work.measure(on_progress)
        beside = work.beside(heard, out)
        notes += work.notes
    if on_progress is not None:
        on_progress("drawing the page", 0, 1)
    page = spectrum_report(
        comparison,
        out,
        real_images=found["real"].thumbnails,
        fake_images=last.thumbnails,
        settings=_shown(real, fake, pair, settings) | _shown_of_audio(heard),
        notes=notes,
        fronts=fronts,
        series=series,
        beside=beside,
        command=command,
    )
    if on_progress is not None:
        on_progress("drawing the page", 1, 1)
    return Compared(comparison, series, fronts, notes, page, heard)


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
    check_out(out)
    pair = open_pair(real, fake, settings.opening, on_progress)
    check_settings(pair, settings)
    if settings.audio != AudioSettings():
        raise ValueError(
            "shares are of the spectra alone: leave out --metrics, --embedding and --players, and compare the two "
            "folders of audio without --share for these"
        )
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
    measure_sets(wanted, settings.measuring(pair.real), workers=settings.workers, on_progress=on_progress)
    return [each.keep for each in wanted if each.keep is not None]


def _audio_work(pair: Pair, settings: CompareSettings) -> AudioWork | None:
    """What is to be measured of clips, where there are some on both sides."""
    real, fake = pair.real, pair.fake[-1]
    if isinstance(real, AudioSet) and isinstance(fake, AudioSet):
        return AudioWork(real, fake, settings.audio, settings.opening.limit)
    if sample_rate_of(real) is not None and settings.audio != AudioSettings():
        raise ValueError(
            "of what was measured before there are no clips to listen to or to compare in pairs: leave out --metrics, "
            "--embedding and --players, or give both folders of audio"
        )
    return None


def _shown_of_audio(found: AudioFound | None) -> dict[str, str | int | float | None]:
    if found is None:
        return {}
    embedding = {} if found.frechet is None else {"embedding of the Fréchet distance": found.frechet.result.features}
    return {"pairs of one name": found.pairs, **embedding}


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
    measuring = settings.measuring(sides["real"])
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
    if sample_kind(pair.real) == "images":
        shown["crop"] = opening.crop
    return shown | {
        "limit": opening.limit or "none",
        "taper": settings.taper,
        "bootstrap replicates": settings.replicates,
        "seed": settings.seed,
    }


def _reading(side: Side) -> str:
    if isinstance(side, SampleSet):
        return side.reading
    what = terms_of(side.measuring.kind, side.spectrum.sample_rate).counted
    return f"{side.count:,} {what}, measured before"
