"""What `benchmarks.suggestion` trains with: the suggested lines, variations of them, and controls."""

from collections.abc import Mapping
from typing import Any

import yaml
from benchmarks.suggestion_data import HELD_OUT

from passband.training.demo import TERM
from passband.training.diagnose import DiagnosisSettings, diagnose
from passband.training.diagnosis_data import DiagnosisData
from passband.training.diagnosis_levels import visits
from passband.training.subject import Subject
from passband.training.suggest_weight import overall, weigh

BASELINE, SUGGESTED, PIXEL, BY_HAND = "none", "suggested", "a pixel loss as strong", "the demo's"
FRONT = "suggested, and a front"
WEIGHTS = {SUGGESTED: 1.0, "suggested, λ × 3": 3.0, "suggested, λ / 3": 1 / 3}
ARMS = (BASELINE, SUGGESTED, PIXEL, FRONT, "suggested, λ × 3", "suggested, λ / 3", BY_HAND)

Lines = Mapping[str, Any]


def lines(arm: str, suggested: str, front: Mapping[str, Any] | None = None) -> Lines | None:
    """What an arm adds to the recipe; None where nothing was suggested that it could train with.

    Args:
        arm: any but the pixel loss, whose weight must be measured (`as_strong`).
        suggested: the lines that were suggested, YAML.
        front: the contour of the data, None where there is none.

    """
    if arm in (BASELINE, BY_HAND):
        return {} if arm == BASELINE else {"regularizer": TERM}
    found: dict[str, Any] = yaml.safe_load(suggested) or {}
    if arm == SUGGESTED:
        return found or None
    if "regularizer" not in found:
        return None
    term = found["regularizer"]
    if arm == FRONT:
        return None if front is None or "forcing" in found else found | {"forcing": {"front": front}}
    return found | {"regularizer": term | {"weight": term["weight"] * WEIGHTS[arm]}}


def as_strong(suggested: str, baseline: Subject, data: DiagnosisData) -> tuple[Lines, dict[str, Any]] | None:
    """The suggested lines with the pixel loss for theirs, weighed by the rule of the suggestion; and both strengths.

    Gate and front stay, so that the loss alone is another.

    Args:
        suggested: the lines that were suggested, YAML.
        baseline: the network that was diagnosed.
        data: what it was diagnosed with.

    Returns:
        The lines; and for each of the two losses, lambda and the norm of its gradient over the base loss's: at each
        noise level, and in root mean square over a training. None where no loss was suggested.

    """
    found: dict[str, Any] = yaml.safe_load(suggested) or {}
    if "regularizer" not in found:
        return None
    term = found["regularizer"]
    settings = DiagnosisSettings(count=HELD_OUT, losses={SUGGESTED: term["losses"], "pixel": "pixel"})
    result = diagnose(baseline, data, settings).model.spectrum
    drawn = visits(baseline.process, result.ratios)
    gate = term["gate"]["max_ratio"] if "gate" in term else None
    strengths: dict[str, Any] = {"ratios": list(result.ratios), "visits": drawn}
    for name in (SUGGESTED, "pixel"):
        weighed = weigh(result, name, drawn)
        strengths[name] = {
            "weight": weighed.weight,
            "levels": (weighed.weight * weighed.pull).nan_to_num(0).tolist(),
            "training": weighed.weight * overall(result, name, drawn, gate),
            "on the cells that are wrong": weighed.share,
        }
    weight = strengths["pixel"]["weight"]
    return found | {"regularizer": term | {"losses": [{"name": "pixel"}], "weight": weight}}, strengths
