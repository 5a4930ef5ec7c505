"""Evaluating a network of audio: clips spoken or drawn, measured against originals, with a page to listen to."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jaxtyping import Float32
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from passband._checks import check_choice
from passband.data import read_audio
from passband.reports.audio_evaluation import audio_evaluation_report
from passband.reports.audio_spectra import LongTermComparison, LongTermSets
from passband.training.audio_metrics import (
    METRICS,
    N_FFT,
    ClipRecord,
    Instruments,
    audio_entries,
    check_counts,
    default_metrics,
    instruments,
)
from passband.training.clips import FolderClips, clips_in, held_out_clips, recipe_audio
from passband.training.config import Recipe
from passband.training.draw import Drawing, sample_name
from passband.training.draw_audio import Vocoding
from passband.training.progress import OnProgress
from passband.training.ranks import Ranks
from passband.training.restore import Restored, restore
from passband.training.results import evaluation_folder, finished, framed
from passband.training.sampler import check_schedule
from passband.training.sections import DiffWaveModel, Settings

_SHOWN = 6


class AudioEvaluationSettings(Settings):
    """What is spoken or drawn, and measured."""

    metrics: tuple[str, ...] | None = Field(None, description="Default: those whose packages are installed.")
    subset: Literal["all", "eval", "test"] | None = Field(
        None, description="Of the recipe's clips; default: test where it has any, else eval."
    )
    real: Path | None = Field(None, description="Folder of audio instead of the recipe's.")
    limit: int | None = Field(None, ge=2, description="Clips, at most.")
    count: int = Field(64, ge=2, description="Samples of a network that takes no spectrogram.")
    seed: int = 0
    steps: int | None = Field(None, ge=1)
    solver: str | None = None
    schedule: str | tuple[float, ...] | None = Field(None, description="fast, full, or betas.")
    embedding: str = "mel"
    chunk: float | None = Field(None, ge=0, description="Seconds that the network sees at once; 0: all.")
    weights: str = "ema"
    batch_size: int = Field(8, ge=1)

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if metrics is not None and not metrics:
            raise ValueError("metrics must name at least one; leave it out for those whose packages are installed")
        for name in metrics or ():
            check_choice("metric of audio", name.partition("=")[0], METRICS)
        return metrics

    @field_validator("schedule")
    @classmethod
    def _readable(cls, schedule: str | tuple[float, ...] | None) -> str | tuple[float, ...] | None:
        if schedule is not None:
            check_schedule(schedule)
        return schedule

    @model_validator(mode="after")
    def _fits(self) -> "AudioEvaluationSettings":
        if self.real is not None and self.subset is not None:
            raise ValueError("subset is one of the recipe's clips, real are others: give one of them")
        if self.steps is not None and self.schedule is not None:
            raise ValueError("a schedule has its own number of steps: give steps or schedule, not both")
        return self

    @property
    def request(self) -> dict[str, Any]:
        """All of it that changes the numbers, as plain data."""
        fields = set(AudioEvaluationSettings.model_fields) - {"batch_size"}
        return self.model_dump(mode="json", include=fields)


class AudioEvaluator:
    """Evaluates networks of audio, one after another, by the same settings.

    Args:
        settings: what is spoken or drawn, and measured.
        ranks: the processes that share the work, of which this is one; all must make the same calls.

    """

    def __init__(self, settings: AudioEvaluationSettings, ranks: Ranks | None = None) -> None:
        self.settings = settings
        self.ranks = Ranks() if ranks is None else ranks
        self._tools: dict[tuple[int, bool], Instruments] = {}
        self._real: dict[str, list[ClipRecord]] = {}

    def evaluate(
        self, run: Path, out: Path | None = None, *, step: int | None = None, on_progress: OnProgress | None = None
    ) -> dict[str, Any]:
        """Make what audio is missing, measure, and write the page, its figures and results.json.

        An evaluation that is there already, with all its audio, is not repeated.

        Args:
            run: the run's folder, or that of an imported network.
            out: folder of the evaluation, its audio in samples/; default: evaluation/step-STEP in the run's folder.
            step: the checkpoint's step; default: the newest.
            on_progress: called as the work goes on.

        Returns:
            The content of results.json.

        Raises:
            RecipeError, CheckpointError: if there is no such network, or it has no recipe that names its audio.
            FileNotFoundError, ValueError: if the clips or a metric cannot be used, the folder holds audio made with
                other settings, or audio is not finite.

        """
        settings, ranks, started = self.settings, self.ranks, time.monotonic()
        found = restore(run, step=step, weights=settings.weights)
        out = evaluation_folder(run, found.step) if out is None else out
        job = _job(found, run, settings)
        there = finished(out, settings.request, job.note)
        if ranks.first(there is not None and _is_whole(there, out / "samples")):
            return ranks.first(there or {})
        report = on_progress or (lambda *_: None)
        report("reading clips", 0, 1)
        tools, (clips, subset) = self._instruments(found), _clips(found, settings)
        report("reading clips", 1, 1)
        _check_lengths(found, clips)
        check_counts(settings.metrics or (), len(clips), len(clips) if found.is_vocoder else settings.count)
        real = self._originals(clips, tools, report)
        names = job.draw(out / "samples", clips, ranks, lambda done, total: report("making audio", done, total))
        made = _Made(out / "samples", names, job.suffix, tools.sample_rate)
        fake = self._measure(len(names), lambda i: made.record(i, tools, clips if found.is_vocoder else None),
                             "measuring audio", report)  # fmt: skip
        results: dict[str, Any] = {}
        if ranks.is_first:
            what: dict[str, Any] = {"request": settings.request, "note": job.note}
            what["samples"] = job.note | {"nfe": job.nfe}
            what |= {"kind": "vocoder" if found.is_vocoder else "unconditional"}
            what |= {"real": clips.path, "subset": subset, "clips": _clip_facts(fake)}
            insisted = settings.metrics is not None
            entries = audio_entries(tools, real, fake, insisted=insisted, seed=settings.seed)
            results = framed(what, entries, clips.notes, ranks, started)
            report("writing the page", 0, 1)
            results = self._write(results, fake, clips, made, out, found)
            report("writing the page", 1, 1)
        return ranks.first(results)

    def _instruments(self, found: Restored) -> Instruments:
        assert found.mel is not None
        key = (found.mel.sample_rate, found.is_vocoder)
        if key not in self._tools:
            chosen = self.settings.metrics or default_metrics(found.is_vocoder)
            self._tools[key] = instruments(
                chosen, self.settings.embedding, found.mel.sample_rate, vocoder=found.is_vocoder
            )
        return self._tools[key]

    def _originals(self, clips: FolderClips, tools: Instruments, report: OnProgress) -> list[ClipRecord]:
        key = json.dumps([clips.path, clips.data.digest(), clips.names, tools.chosen])
        if key not in self._real:
            self._real[key] = self._measure(
                len(clips), lambda i: tools.record(clips.names[i], clips.audio(i)), "measuring originals", report
            )
        return self._real[key]

    def _measure(
        self, count: int, record: Callable[[int], ClipRecord], what: str, report: OnProgress
    ) -> list[ClipRecord]:
        """The records of clips, each by the process whose turn it is, in all of them."""
        ranks, mine = self.ranks, []
        for number in range(ranks.index, count, ranks.count):
            report(what, number, count)
            mine.append((number, record(number)))
        report(what, count, count)
        return [one for _, one in sorted((one for part in ranks.gather(mine) for one in part), key=lambda one: one[0])]

    def _write(
        self,
        results: dict[str, Any],
        fake: Sequence[ClipRecord],
        clips: FolderClips,
        made: "_Made",
        out: Path,
        found: Restored,
    ) -> dict[str, Any]:
        comparison = _spectra(clips, made, found.is_vocoder)
        shown = range(min(_SHOWN, len(made.names)))
        rows = {
            made.names[i]: (clips.audio(i) if found.is_vocoder else None, made.audio(i), fake[i].values) for i in shown
        }
        audio_evaluation_report(results, comparison, rows, out)
        written: dict[str, Any] = json.loads((out / "results.json").read_text())
        return written


def _spectra(clips: FolderClips, made: "_Made", paired: bool) -> LongTermComparison:
    """The long-term spectra of both sides; clips of one name count as a pair."""
    sets = LongTermSets(made.sample_rate)
    for number in range(len(clips)):
        _add(sets, number, real=clips.audio(number))
    for number in range(len(made.names)):
        # Of samples without originals, each stands alone.
        _add(sets, number if paired else len(clips) + number, fake=made.audio(number))
    return sets.compute()


def _add(sets: LongTermSets, number: int, **audio: Float32[Tensor, " samples"]) -> None:
    if all(len(clip) >= sets.n_fft for clip in audio.values()):
        sets.update(number, **audio)


def check_instruments(settings: AudioEvaluationSettings, recipes: Iterable[Recipe]) -> None:
    """Raise before hours of training if a metric of the settings cannot be measured of what the recipes make.

    Raises:
        FileNotFoundError, ValueError: if a metric or the embedding is unknown, or does not fit.
        MissingExtraError: if a package is not installed.

    """
    kinds = {not recipe.model.unconditional for recipe in recipes if isinstance(recipe.model, DiffWaveModel)}
    for vocoder in kinds:
        instruments(settings.metrics or default_metrics(vocoder), settings.embedding, 16000, vocoder=vocoder)


@dataclass(frozen=True)
class _Made:
    """The audio of an evaluation, in its folder."""

    folder: Path
    names: list[str]
    suffix: str
    sample_rate: int

    def audio(self, number: int) -> Float32[Tensor, " samples"]:
        return read_audio(self.folder / f"{self.names[number]}{self.suffix}", self.sample_rate).audio

    def record(self, number: int, tools: Instruments, originals: FolderClips | None) -> ClipRecord:
        original = None if originals is None else originals.audio(number)
        return tools.record(self.names[number], self.audio(number), original)


class _Job(NamedTuple):
    """What is drawn: audio of clips, or samples without."""

    note: dict[str, Any]
    nfe: int
    suffix: str
    draw: Callable[[Path, FolderClips, Ranks, Callable[[int, int], None]], list[str]]


def _job(found: Restored, run: Path, settings: AudioEvaluationSettings) -> _Job:
    drawing = Drawing(found, run, settings.steps, settings.solver, settings.batch_size, settings.schedule)
    if not found.is_audio:
        raise ValueError(f"{str(run)!r} holds a network of images: evaluate it as such")
    if found.is_vocoder:
        vocoding = Vocoding(drawing, settings.seed, settings.chunk)

        def speak(folder: Path, clips: FolderClips, ranks: Ranks, report: Callable[[int, int], None]) -> list[str]:
            vocoding.draw(folder, clips, ranks, report, suffix=".flac")
            return clips.names

        return _Job(vocoding.note, drawing.evaluations, ".flac", speak)
    seeds = range(settings.seed, settings.seed + settings.count)

    def draw(folder: Path, _: FolderClips, ranks: Ranks, report: Callable[[int, int], None]) -> list[str]:
        drawing.draw(folder, seeds, ranks, report)
        return [sample_name(seed, "") for seed in seeds]

    return _Job(drawing.note, drawing.evaluations, drawing.suffix, draw)


def _clips(found: Restored, settings: AudioEvaluationSettings) -> tuple[FolderClips, str]:
    """The originals and what they are: of the settings, or those that the recipe holds out."""
    assert found.mel is not None
    if settings.real is not None:
        return clips_in(settings.real, found.mel, settings.limit), "all"
    data = recipe_audio(None if found.recipe is None else found.recipe.data, "--real")
    return held_out_clips(data, settings.subset, settings.limit)


def _check_lengths(found: Restored, clips: FolderClips) -> None:
    """Raise, before audio is made, if there would be nothing to take a long-term spectrum of."""
    assert found.mel is not None
    made = clips.longest if found.is_vocoder else found.sample_shape[-1]
    lengths = {
        "the longest clip has": (clips.longest, "give longer ones"),
        "the samples of this network have": (made, "train it on longer crops (data.frames)"),
    }
    for what, (samples, remedy) in lengths.items():
        if samples < N_FFT:
            raise ValueError(
                f"an evaluation looks at spectra of {N_FFT} samples, and {what} {samples} "
                f"({samples / found.mel.sample_rate:.3f} s): {remedy}"
            )


def _clip_facts(records: Sequence[ClipRecord]) -> list[dict[str, Any]]:
    return [{"name": record.name, "seconds": round(record.seconds, 3), **record.values} for record in records]


def _is_whole(results: dict[str, Any], folder: Path) -> bool:
    """Whether the audio of all clips of an evaluation is there."""
    there = {file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.*")}
    return all(clip["name"] in there for clip in results.get("clips", ()))
