"""Evaluating a trained network: samples, metrics against real images, the spectrum, and a page of all of it."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, model_validator
from torch import Tensor
from torch.utils.data import Dataset

from passband.data import ImageFolder, to_uint8
from passband.metrics import FeatureExtractor, load_features
from passband.reports.compare import comparison_numbers, halves_difference, left_out_note, rms
from passband.reports.evaluation import evaluation_report
from passband.training.build import build_dataset
from passband.training.config import RecipeError
from passband.training.draw import Drawing, missing, read_sample
from passband.training.image_metrics import MetricName, entries, spectrum_distance
from passband.training.measure import Measured, measure
from passband.training.progress import OnProgress
from passband.training.ranks import Ranks
from passband.training.restore import Restored, guided, restore
from passband.training.results import evaluation_folder, finished, framed
from passband.training.sections import AnyData, CheckerboardData, HubData, ImagesData, PowerLawData, Settings

_PROBED = 16


class EvaluationSettings(Settings):
    """What is drawn and measured."""

    count: int = Field(50_000, ge=2)
    seed: int = 0
    features: tuple[str, ...] = ("efficientnet-lite0",)
    metrics: tuple[MetricName, ...] | None = Field(None, description="Default: all that the features allow.")
    steps: int | None = Field(None, ge=1)
    solver: str | None = None
    weights: str = "ema"
    guidance: float | None = Field(None, ge=0)
    real: Path | None = None
    limit: int | None = Field(None, ge=2, description="Real images, at most.")
    batch_size: int = Field(64, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> "EvaluationSettings":
        if self.metrics is not None and not self.metrics:
            raise ValueError("metrics must name at least one; leave it out for all that the features allow")
        if set(self.chosen) - {"lsd"} and not self.features:
            raise ValueError(f"features must name at least one extractor, or metrics be ['lsd']; got {self.metrics}")
        return self

    @property
    def chosen(self) -> tuple[MetricName, ...]:
        """The metrics asked for; without a choice, all but the Inception Score."""
        return ("frechet", "kid", "precision_recall", "lsd") if self.metrics is None else self.metrics

    @property
    def request(self) -> dict[str, Any]:
        """All of it that changes the numbers, as plain data."""
        fields = set(EvaluationSettings.model_fields) - {"batch_size"}
        return self.model_dump(mode="json", include=fields)


class Evaluator:
    """Evaluates networks, one after another, by the same settings.

    Args:
        settings: what is drawn and measured.
        ranks: the processes that share the work, of which this is one; all must make the same calls.
        real_stats: what is measured of the real images is kept in this file, or under a name of its own in this folder
            (a path that does not end in .safetensors); default: the folder real-stats of the run.
        extractors: to use these instead of those that the settings name.

    """

    def __init__(
        self,
        settings: EvaluationSettings,
        ranks: Ranks | None = None,
        *,
        real_stats: Path | None = None,
        extractors: Sequence[FeatureExtractor] | None = None,
    ) -> None:
        self.settings = settings
        self.ranks = Ranks() if ranks is None else ranks
        self.real_stats = real_stats
        self._extractors = None if extractors is None else list(extractors)
        self._real: dict[str, _Real] = {}

    def evaluate(
        self, run: Path, out: Path | None = None, *, step: int | None = None, on_progress: OnProgress | None = None
    ) -> dict[str, Any]:
        """Draw what samples are missing, measure, and write the page, its figures and results.json.

        An evaluation that is there already, with all its samples, is not repeated.

        Args:
            run: the run's folder, or that of an imported network.
            out: folder of the evaluation, its samples in samples/; default: evaluation/step-STEP in the run's folder.
            step: the checkpoint's step; default: the newest.
            on_progress: called as the work goes on.

        Returns:
            The content of results.json.

        Raises:
            RecipeError, CheckpointError: if there is no such network.
            FileNotFoundError, ValueError: if the real images or the extractors cannot be used, the folder holds samples
                drawn with other settings, or a sample is not finite.

        """
        settings, ranks, started = self.settings, self.ranks, time.monotonic()
        found = guided(restore(run, step=step, weights=settings.weights), settings.guidance)
        out = evaluation_folder(run, found.step) if out is None else out
        drawing = Drawing(found, run, settings.steps, settings.solver, settings.batch_size)
        seeds = range(settings.seed, settings.seed + settings.count)
        there = finished(out, settings.request, drawing.note)
        if ranks.first(there is not None and not missing(out / "samples", seeds)):
            return ranks.first(there or {})
        report = on_progress or (lambda *_: None)
        extractors = self.extractors
        kind = json.dumps(
            [found.image_shape, None if found.recipe is None else found.recipe.data.model_dump(mode="json")]
        )
        if kind not in self._real:
            self._real[kind] = self._measured_real(found, run, report)
        real = self._real[kind]
        drawing.draw(out / "samples", seeds, ranks, lambda done, total: report("drawing samples", done, total))
        fake = self._measure(
            "fake", lambda i: read_sample(out / "samples", seeds[i], found.image_shape[0]), len(seeds), report
        )
        results: dict[str, Any] = {}
        if ranks.is_first:
            report("computing metrics", 0, 1)
            samples = {**drawing.note, "seeds": [seeds[0], seeds[-1]], "nfe": drawing.evaluations}
            given = settings.features
            specs = given if len(given) == len(extractors) else [extractor.name for extractor in extractors]
            found_metrics = entries(
                specs, settings.chosen, real.measured, fake, ranks.device, insisted=settings.metrics is not None
            )
            what = {"request": settings.request, "samples": samples, "note": drawing.note, "real": str(real.source)}
            results = framed(what, found_metrics, real.measured.notes, ranks, started)
            results = write_evaluation(results, real.measured, fake, out)
            report("computing metrics", 1, 1)
        return ranks.first(results)

    @property
    def extractors(self) -> list[FeatureExtractor]:
        """The extractors, loaded when they are first needed."""
        if self._extractors is None:
            self._extractors = self._load() if set(self.settings.chosen) - {"lsd"} else []
        if "inception_score" in self.settings.chosen and not any(e.has_logits for e in self._extractors):
            raise ValueError(
                "the Inception Score needs a classifier, which none of the features has: use an Inception TorchScript "
                "file, or leave inception_score out of the metrics"
            )
        return self._extractors

    def _load(self) -> list[FeatureExtractor]:
        # One process first: it may have to download a file that the others then find.
        loaded = self._load_here() if self.ranks.is_first else []
        self.ranks.wait()
        return loaded or self._load_here()

    def _load_here(self) -> list[FeatureExtractor]:
        return [load_features(spec, self.ranks.device) for spec in self.settings.features]

    def _measure(self, name: str, read: Callable[[int], Tensor | None], count: int, report: OnProgress) -> Measured:
        measured = self._blank(name)
        measure(
            measured,
            self.extractors,
            read,
            count,
            batch_size=self.settings.batch_size,
            ranks=self.ranks,
            on_measured=lambda done, total: report(f"measuring {name} images", done, total),
        )
        return measured

    def _blank(self, name: str) -> Measured:
        chosen = self.settings.chosen
        # The extrapolation of the Fréchet distance needs the generated features, not the real ones.
        store = bool({"kid", "precision_recall"} & set(chosen)) or (name == "fake" and "frechet" in chosen)
        scored = name == "fake" and (self.settings.metrics is None or "inception_score" in chosen)
        return Measured(name, self.extractors, store=store, scored=scored)

    def _measured_real(self, found: Restored, run: Path, report: OnProgress) -> "_Real":
        report("reading real images", 0, 1)
        source = real_images(found, self.settings)
        report("reading real images", 1, 1)
        facts = source.facts | {"features": [extractor.name for extractor in self.extractors]}
        facts["stored"] = bool({"kid", "precision_recall"} & set(self.settings.chosen))
        file = _real_file(run / "real-stats" if self.real_stats is None else self.real_stats, facts)
        if self.ranks.first(file.is_file()):
            measured = self._blank("real")
            measured.load(file, facts)
            return _Real(source.path, measured)
        measured = self._measure("real", source.read, source.count, report)
        skipped = {(s.name, s.reason) for part in self.ranks.gather(source.skipped) for s in part}
        measured.notes = left_out_note("real", sorted(skipped))
        if self.ranks.is_first:
            measured.save(file, facts)
        self.ranks.wait()
        return _Real(source.path, measured)


class _Real(NamedTuple):
    source: str
    measured: Measured


class RealImages:
    """The images that samples are compared with.

    Args:
        data: a data set of images.
        path: where it came from, for people to read.
        facts: what its images depend on beside their files.
        limit: use this many at most.

    """

    def __init__(self, data: Dataset[Tensor], path: str, facts: dict[str, Any], limit: int | None = None) -> None:
        self.data, self.path = data, path
        length = len(data)  # type: ignore[arg-type]
        self.count = length if limit is None else min(length, limit)
        names = json.dumps([getattr(data, "names", []), getattr(data, "sizes", [])])
        digest = hashlib.blake2b(names.encode(), digest_size=8)
        # Some pixels too: two preparations of the same images share names and sizes.
        for index in sorted({round(i * (self.count - 1) / (_PROBED - 1)) for i in range(_PROBED)}):
            pixels = self.read(index)
            digest.update(b"" if pixels is None else pixels.numpy().tobytes())
        self.facts = facts | {"count": self.count, "files": digest.hexdigest()}

    @property
    def skipped(self) -> list[Any]:
        """The images that could not be used so far, with the reasons."""
        return list(getattr(self.data, "skipped", []))

    def read(self, index: int) -> Tensor | None:
        """The pixels of an image; None for a broken one, for which the data set would give another."""
        pixels: Tensor = self.data.pixels(index) if hasattr(self.data, "pixels") else to_uint8(self.data[index])
        if self.skipped and self.data.origin(index)[0] in {skipped.name for skipped in self.skipped}:  # type: ignore[attr-defined]
            return None
        return pixels


def real_images(found: Restored, settings: EvaluationSettings) -> RealImages:
    """The real images of an evaluation: those of the settings, or the recipe's (held-out ones, if it holds any out).

    Raises:
        RecipeError: if the settings name none and the network is an imported one, without a recipe.
        FileNotFoundError, ValueError: if they cannot be read, or have another size.

    """
    channels, height, width = found.image_shape
    data = _image_data(found)
    if settings.real is not None:
        crop, resolution = getattr(data, "crop", "center"), height if height == width else (height, width)
        folder = ImageFolder(settings.real, resolution, crop=crop, channels=channels, limit=settings.limit)
        return RealImages(folder, str(settings.real), {"resolution": resolution, "crop": crop, "channels": channels})
    if data is None:
        raise RecipeError("this network has no recipe that names its data: give the real images with --real")
    return held_out_images(data, settings.limit, settings.count)


def _image_data(found: Restored) -> AnyData | None:
    """The settings that made the images a network was trained on: of a network on latents, those that were encoded."""
    if found.decode is not None:
        return found.decode.data
    return None if found.recipe is None else found.recipe.data


def held_out_images(data: AnyData, limit: int | None, count: int = 1) -> RealImages:
    """The images of a recipe's data that are held out of training, if any are: neither flipped nor augmented.

    Args:
        data: a recipe's section `data`.
        limit: use this many at most.
        count: of data that are drawn as they are needed: how many, without a limit.

    Raises:
        FileNotFoundError, ValueError: if they cannot be read.

    """
    held_out = _held_out(data, limit, count)
    facts = held_out.model_dump(mode="json", exclude={"path", "flip", "augment", "labels", "strict", "workers"})
    return RealImages(build_dataset(held_out), str(getattr(held_out, "path", held_out.name)), facts, limit)


def _held_out(data: AnyData, limit: int | None, count: int) -> AnyData:
    if isinstance(data, CheckerboardData | PowerLawData):
        # Samples that training is unlikely to have seen, as many as there are samples.
        return data.model_copy(update={"length": limit or count, "seed": data.seed + (1 << 20)})
    assert isinstance(data, ImagesData | HubData)
    changes: dict[str, Any] = {"labels": "none"} if isinstance(data, ImagesData) else {"label_column": None}
    changes |= {"limit": limit or data.limit} | ({"subset": "eval"} if data.subset == "train" else {})
    return data.model_copy(update=changes)


def _real_file(path: Path, facts: dict[str, Any]) -> Path:
    if path.suffix == ".safetensors":
        return path
    tag = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()
    return path / f"{tag}.safetensors"


def write_evaluation(results: dict[str, Any], real: Measured, fake: Measured, out: Path) -> dict[str, Any]:
    """Write the page, its figures and, last of all, results.json; the numbers that were written."""
    distance = spectrum_distance(real, fake)
    spectrum, reference = distance.compute(), halves_difference(real.psd, distance.floor)
    results = results | {"spectrum": comparison_numbers(spectrum, None if reference is None else rms(reference))}
    evaluation_report(results, spectrum, real.thumbnails, fake.thumbnails, out, reference=reference)
    written: dict[str, Any] = json.loads((out / "results.json").read_text())
    return written
