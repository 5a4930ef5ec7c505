"""The metrics of drawn images as plain data, from what was measured of both sides."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from passband.metrics import (
    KID,
    PrecisionRecall,
    SpectrumDistance,
    extrapolated_frechet_distance,
    frechet_distance,
)
from passband.reports.compare import halves_difference, rms
from passband.training.measure import Features, Measured

MetricName = Literal["frechet", "kid", "precision_recall", "inception_score", "lsd"]

#: What is measured: name in results.json, title, and which direction is better.
METRICS = {
    "frechet": ("Fréchet distance", "lower"),
    "kid": ("Kernel distance (KID)", "lower"),
    "precision": ("Precision", "higher"),
    "recall": ("Recall", "higher"),
    "inception_score": ("Inception Score", "higher"),
    "lsd": ("Log-spectral distance (dB)", "lower"),
}
_KID_SUBSET = 1000
_NEIGHBOURS = 3
_PARTS = 5
# Samples per feature in the smallest part, from which a line in 1/N is a fair model of the bias.
_PER_FEATURE = 4


def entries(
    specs: Sequence[str],
    chosen: Sequence[MetricName],
    real: Measured,
    fake: Measured,
    device: torch.device,
    *,
    insisted: bool = True,
) -> list[dict[str, Any]]:
    """The metrics as plain data: value, counts, features, and what is known of the bias.

    Args:
        specs: what each extractor was asked for by.
        chosen: the metrics.
        real: what was measured of the real images.
        fake: of the samples.
        device: where to compute.
        insisted: raise where there are too few images for a metric, instead of leaving it out.

    Raises:
        ValueError: if a metric needs more images.

    """
    found = []
    for spec, a, b in zip(specs, real.features, fake.features, strict=True):
        facts = {
            "spec": spec,
            "features": a.name,
            "resize": a.statistics.resize,
            "real": real.count,
            "fake": fake.count,
        }
        few = not insisted and min(real.count, fake.count) <= _NEIGHBOURS
        for name in chosen:
            if name == "precision_recall" and few:
                continue
            found += [facts | entry for entry in _MEASURES[name](a, b, device)] if name in _MEASURES else []
        if b.score is not None and (insisted or fake.count >= b.score.splits):
            score = b.score.compute()
            found.append(facts | {"metric": "inception_score", "value": score.mean, "spread": score.std})
    if "lsd" in chosen:
        found.append(
            {"spec": "", "features": "", "resize": "", "real": real.count, "fake": fake.count} | _lsd(real, fake)
        )
    several = len(specs) > 1
    return [_titled(entry, several) for entry in found]


def _titled(entry: dict[str, Any], several: bool) -> dict[str, Any]:
    title, better = METRICS[entry["metric"]]
    of = f" ({entry['spec']})" if several and entry["spec"] else ""
    return {"key": entry["metric"] + of, "title": title + of, "better": better} | entry


def _frechet(real: Features, fake: Features, device: torch.device) -> list[dict[str, Any]]:
    value = frechet_distance(real.statistics, fake.statistics)
    entry: dict[str, Any] = {"metric": "frechet", "value": value}
    if min(half.count for half in real.halves) >= 2:
        entry |= {"floor": frechet_distance(*real.halves), "floor_counts": [half.count for half in real.halves]}
    assert fake.store is not None
    if len(fake.store.features) >= _PARTS * _PER_FEATURE * fake.store.features.shape[1]:
        limit = extrapolated_frechet_distance(real.statistics, fake.store, parts=_PARTS, device=_double(device))
        entry |= {"extrapolated": limit.distance, "extrapolated_error": limit.error}
    return [entry]


def _kid(real: Features, fake: Features, device: torch.device) -> list[dict[str, Any]]:
    assert real.store is not None
    assert fake.store is not None
    kid = KID(real.name, subset_size=_KID_SUBSET)
    kid.real, kid.fake = real.store, fake.store
    if min(real.store.count, fake.store.count) < _KID_SUBSET:
        return [{"metric": "kid", "value": kid.full(_double(device))}]
    result = kid.compute(_double(device))
    return [
        {"metric": "kid", "value": result.mean, "spread": result.std, "subsets": [result.subsets, result.subset_size]}
    ]


def _precision_recall(real: Features, fake: Features, device: torch.device) -> list[dict[str, Any]]:
    assert real.store is not None
    assert fake.store is not None
    if min(real.store.count, fake.store.count) <= _NEIGHBOURS:
        raise ValueError(
            f"precision and recall need more than {_NEIGHBOURS} real and generated images, got {real.store.count} and "
            f"{fake.store.count}: draw more samples, or leave precision_recall out of the metrics"
        )
    metric = PrecisionRecall(real.name, neighbours=_NEIGHBOURS)
    for side, store in ((metric.real, real.store), (metric.fake, fake.store)):
        state = store.state_dict()
        side.update(state["features"], state["indices"])
    result = metric.compute(_double(device))
    kept = {"compared": [result.real_kept, result.fake_kept], "neighbours": _NEIGHBOURS}
    return [{"metric": name, "value": getattr(result, name), **kept} for name in ("precision", "recall")]


_MEASURES: dict[str, Callable[[Features, Features, torch.device], list[dict[str, Any]]]] = {
    "frechet": _frechet,
    "kid": _kid,
    "precision_recall": _precision_recall,
}


def _double(device: torch.device) -> torch.device:
    """Where float64 can be computed."""
    return torch.device("cpu") if device.type == "mps" else device


def spectrum_distance(real: Measured, fake: Measured) -> SpectrumDistance:
    """The spectra of both sides, in one metric."""
    distance = SpectrumDistance()
    for side, measured in ((distance.real, real), (distance.fake, fake)):
        for half in measured.psd:
            side.merge(half)
    return distance


def _lsd(real: Measured, fake: Measured) -> dict[str, Any]:
    distance = spectrum_distance(real, fake)
    entry: dict[str, Any] = {"metric": "lsd", "value": distance.compute().lsd}
    reference = halves_difference(real.psd, distance.floor)
    if reference is not None:
        entry |= {"floor": rms(reference), "floor_counts": [half.count for half in real.psd]}
    return entry
