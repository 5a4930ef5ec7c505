"""The page of a diagnosis."""

from pathlib import Path

from passband.reports.diagnosis import diagnosis_report
from passband.training.diagnose import Diagnosis, DiagnosisSettings


def write_diagnosis(
    found: Diagnosis, out: Path, *, source: str, settings: DiagnosisSettings, command: str | None = None
) -> Path:
    """Write the page, its figures and results.json.

    Args:
        found: the diagnosis.
        out: the page's folder, made if missing.
        source: where the clean samples come from, for people to read.
        settings: how it was diagnosed.
        command: the command that made it; default: that of this process.

    Returns:
        The path of index.html.

    """
    models = [found.model, *([] if found.against is None else [found.against])]
    shown: dict[str, str | int | float | None] = {
        "clean samples from": source,
        "seed": settings.seed,
        "bootstrap replicates": settings.replicates,
        "samples for gradients": min(settings.gradients, found.model.spectrum.count),
    }
    return diagnosis_report(
        {model.name: model.spectrum for model in models},
        out,
        suggestion=found.suggestion,
        comparison=found.comparison,
        law=found.law,
        kind=found.kind,
        facts={model.name: model.facts for model in models},
        settings=shown,
        notes=found.notes,
        command=command,
    )
