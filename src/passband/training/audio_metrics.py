"""What is measured of clips, and the metrics of drawn audio as plain data."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from passband.metrics import (
    AUDIO_MEASURES,
    NDB,
    AudioEmbedding,
    AudioMeasure,
    FrechetAudioDistance,
    LongTermResult,
    LongTermSpectrum,
    compare_long_term,
    load_audio_embedding,
    load_audio_measure,
)
from passband.reports.audio_results import mean_and_error

#: Metrics of whole sets of clips: name in results.json, title, and which direction is better; zero: the nearer to it.
SET_METRICS = {
    "frechet_audio": ("Fréchet audio distance", "lower"),
    "ltas": ("Long-term spectrum, log-spectral distance (dB)", "lower"),
    "hf_balance": ("High-frequency energy against the originals (dB)", "zero"),
    "ndb": ("Number of different bins (NDB)", "lower"),
}
#: Names of all metrics of audio.
METRICS = (*AUDIO_MEASURES, "utmos", *SET_METRICS)
_EMBEDDED = {"frechet_audio", "ndb"}
#: Samples of a frame of the long-term spectra.
N_FFT = 1024
_HIGH = 4000.0
_BINS = 50
_PER_BIN = 10


class ClipRecord(NamedTuple):
    """What is kept of one clip.

    Attributes:
        name: of the clip.
        seconds: its length.
        values: measures that look at it alone, or at it and its original.
        vectors: its embedding, one row for each window; None where nothing asks for it.
        spectrum: the state of its long-term spectrum.

    """

    name: str
    seconds: float
    values: dict[str, float]
    vectors: Float32[Tensor, "windows dim"] | None
    spectrum: dict[str, Tensor] | None


@dataclass(frozen=True)
class Instruments:
    """What measures clips.

    Args:
        chosen: names of the metrics, as they were asked for.
        measures: those of single clips among them.
        embedding: of the metrics that compare sets, None where there are none.
        sample_rate: of the clips.

    """

    chosen: tuple[str, ...]
    measures: tuple[AudioMeasure, ...]
    embedding: AudioEmbedding | None
    sample_rate: int

    def record(
        self, name: str, audio: Float[Tensor, " samples"], reference: Float[Tensor, " others"] | None = None
    ) -> ClipRecord:
        """What is kept of a clip; measures in pairs are left out of an original, which has no reference."""
        values = {
            measure.name: measure(audio, reference, self.sample_rate)
            for measure in self.measures
            if reference is not None or not measure.paired
        }
        vectors = None
        if self.embedding is not None:
            vectors = self.embedding.of_clip(audio, self.sample_rate, f"the clip {name!r}")
        spectrum = LongTermSpectrum(self.sample_rate, N_FFT)
        if len(audio) >= N_FFT:
            spectrum.update(audio)
        return ClipRecord(name, len(audio) / self.sample_rate, values, vectors, spectrum.state_dict())


def default_metrics(vocoder: bool) -> tuple[str, ...]:
    """The metrics of an evaluation that names none: those whose packages are installed.

    Args:
        vocoder: whether clips have originals to be compared with one by one.

    """
    single = [name for name, found in AUDIO_MEASURES.items() if found.unavailable() is None]
    single = [name for name in single if vocoder or not AUDIO_MEASURES[name].paired]
    return (*single, "frechet_audio", "ltas", "hf_balance", *(() if vocoder else ("ndb",)))


def instruments(chosen: Sequence[str], embedding: str, sample_rate: int, *, vocoder: bool) -> Instruments:
    """What the chosen metrics need, loaded.

    Args:
        chosen: names of metrics; `utmos=PATH` has its file.
        embedding: as [`load_audio_embedding`][passband.metrics.load_audio_embedding] takes it.
        sample_rate: of the clips.
        vocoder: whether clips have originals to be compared with one by one.

    Raises:
        FileNotFoundError, ValueError: if a metric or the embedding is unknown, or needs originals that there are not.
        MissingExtraError: if a package is not installed.

    """
    measures = tuple(load_audio_measure(name) for name in chosen if name not in SET_METRICS)
    for measure in measures:
        missing = measure.unavailable()
        if missing is not None:
            raise ValueError(f"{missing}; or leave {measure.name} out of the metrics")
        if measure.paired and not vocoder:
            raise ValueError(
                f"{measure.name} compares a clip with its original, and samples that are drawn without spectrograms "
                "have none: leave it out of the metrics"
            )
    loaded = load_audio_embedding(embedding) if _EMBEDDED & set(chosen) else None
    return Instruments(tuple(chosen), measures, loaded, sample_rate)


def check_counts(chosen: Sequence[str], real: int, fake: int) -> None:
    """Raise if there are too few clips for one of the chosen metrics.

    Raises:
        ValueError: if it is so.

    """
    if "ndb" in chosen and _bins(real, fake) < 2:
        raise ValueError(
            f"the number of different bins needs at least {2 * _PER_BIN} clips of each kind, got {real} and {fake}: "
            "use more, or leave ndb out of the metrics"
        )


def _bins(real: int, fake: int) -> int:
    return min(_BINS, min(real, fake) // _PER_BIN)


def audio_entries(
    tools: Instruments, real: Sequence[ClipRecord], fake: Sequence[ClipRecord], *, insisted: bool = True, seed: int = 0
) -> list[dict[str, Any]]:
    """The metrics as plain data: value, counts, and what tells whether it is large.

    Args:
        tools: what measured the clips.
        real: the originals, in order.
        fake: the generated clips, in order.
        insisted: raise where there are too few clips for a metric, instead of leaving it out.
        seed: of the number of different bins.

    Raises:
        ValueError: if a metric needs more clips.

    """
    counts: dict[str, Any] = {"spec": "", "features": "", "of": "clips", "real": len(real), "fake": len(fake)}
    found: list[dict[str, Any]] = []
    by_name = {measure.name: measure for measure in tools.measures}
    for spec in tools.chosen:
        name = spec.partition("=")[0]
        if name in by_name:
            found.append(counts | _clip_entry(by_name[name], real, fake))
        else:
            found += [counts | entry for entry in _SETS[name](tools, real, fake, insisted, seed)]
    return found


def long_term(records: Sequence[ClipRecord], sample_rate: int) -> LongTermSpectrum:
    """The long-term spectrum of clips."""
    whole = LongTermSpectrum(sample_rate, N_FFT)
    for record in records:
        part = LongTermSpectrum(sample_rate, N_FFT)
        if record.spectrum is not None and int(record.spectrum["count"]):
            part.load_state_dict(record.spectrum)
            whole.merge(part)
    return whole


def high_frequency_balance(result: LongTermResult) -> float:
    r"""Energy of the generated clips above the cut against that of the originals, dB: below 0 they are muffled.

    $10 \log_{10} \sum_{f \ge c} P_{fake}(f) / \sum_{f \ge c} P_{real}(f)$, c = 4 kHz, or half the highest frequency
    where that is lower.
    """
    high = result.frequencies >= high_edge(result.sample_rate)
    return float(10 * torch.log10(result.psd_fake[high].sum() / result.psd_real[high].sum()))


def high_edge(sample_rate: int) -> float:
    """From where frequencies are high, Hz."""
    return min(_HIGH, sample_rate / 4)


def _clip_entry(measure: AudioMeasure, real: Sequence[ClipRecord], fake: Sequence[ClipRecord]) -> dict[str, Any]:
    values = [record.values[measure.name] for record in fake]
    mean, error, defined = mean_and_error(values)
    title = f"{measure.title} ({measure.unit})" if measure.unit == "dB" else measure.title
    entry: dict[str, Any] = {"key": measure.name, "title": title, "better": measure.better, "metric": measure.name}
    entry["value"] = mean
    if math.isfinite(error):
        entry["spread"] = error
    if defined < len(values):
        entry["undefined"] = len(values) - defined
    if not measure.paired:
        entry["original"] = mean_and_error([record.values[measure.name] for record in real])[0]
    return entry


def _frechet(
    tools: Instruments, real: Sequence[ClipRecord], fake: Sequence[ClipRecord], insisted: bool, _: int
) -> list[dict[str, Any]]:
    assert tools.embedding is not None
    windows = [sum(len(record.vectors) for record in side if record.vectors is not None) for side in (real, fake)]
    if min(windows) < 2 and not insisted:
        return []
    entry = _set_entry("frechet_audio", _frechet_of(tools.embedding, real, fake)) | {"features": tools.embedding.name}
    entry["windows"] = windows
    halves = real[::2], real[1::2]
    if min(sum(len(r.vectors) for r in half if r.vectors is not None) for half in halves) >= 2:
        entry |= {"floor": _frechet_of(tools.embedding, *halves), "floor_counts": [len(half) for half in halves]}
    return [entry]


def _frechet_of(embedding: AudioEmbedding, real: Sequence[ClipRecord], fake: Sequence[ClipRecord]) -> float:
    distance = FrechetAudioDistance(embedding)
    for side, records in ((distance.real, real), (distance.fake, fake)):
        for record in records:
            assert record.vectors is not None
            side.update(record.vectors)
    return distance.compute().distance


def _ltas(
    tools: Instruments, real: Sequence[ClipRecord], fake: Sequence[ClipRecord], _: bool, __: int
) -> list[dict[str, Any]]:
    return [_with_floor("ltas", tools, real, fake, lambda result: result.lsd)]


def _hf_balance(
    tools: Instruments, real: Sequence[ClipRecord], fake: Sequence[ClipRecord], _: bool, __: int
) -> list[dict[str, Any]]:
    entry = _with_floor("hf_balance", tools, real, fake, high_frequency_balance)
    return [entry | {"above_hz": high_edge(tools.sample_rate)}]


def _with_floor(
    name: str,
    tools: Instruments,
    real: Sequence[ClipRecord],
    fake: Sequence[ClipRecord],
    value: Callable[[LongTermResult], float],
) -> dict[str, Any]:
    """A number of the long-term spectra, with that of two halves of the originals."""

    def of(a: Sequence[ClipRecord], b: Sequence[ClipRecord]) -> float:
        return value(compare_long_term(long_term(a, tools.sample_rate), long_term(b, tools.sample_rate)))

    entry = _set_entry(name, of(real, fake))
    halves = real[::2], real[1::2]
    if len(real) > 1:
        entry |= {"floor": of(*halves), "floor_counts": [len(half) for half in halves]}
    return entry


def _ndb(
    tools: Instruments, real: Sequence[ClipRecord], fake: Sequence[ClipRecord], insisted: bool, seed: int
) -> list[dict[str, Any]]:
    assert tools.embedding is not None
    if insisted:
        check_counts(["ndb"], len(real), len(fake))
    bins = _bins(len(real), len(fake))
    if bins < 2:
        return []
    metric = NDB(tools.embedding.name, bins=bins, seed=seed)
    # One vector for each clip, since the windows of a clip are no independent samples.
    metric.update(real=_clip_vectors(real), fake=_clip_vectors(fake))
    result = metric.compute()
    facts = {"features": result.features, "bins": bins, "level": result.alpha, "floor": result.chance}
    return [_set_entry("ndb", result.count) | facts | {"divergence": result.divergence}]


def _clip_vectors(records: Sequence[ClipRecord]) -> Float32[Tensor, "clips dim"]:
    return torch.stack([record.vectors.mean(0) for record in records if record.vectors is not None])


def _set_entry(name: str, value: float) -> dict[str, Any]:
    title, better = SET_METRICS[name]
    return {"key": name, "title": title, "better": better, "metric": name, "value": value}


_SETS: dict[
    str, Callable[[Instruments, Sequence[ClipRecord], Sequence[ClipRecord], bool, int], list[dict[str, Any]]]
] = {"frechet_audio": _frechet, "ltas": _ltas, "hf_balance": _hf_balance, "ndb": _ndb}
