"""`passband diagnose MODEL [DATA]`: at which noise level and frequency is a denoiser wrong, and what might mend it?"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from passband.cli.console import console, report_skipped
from passband.cli.stages import Stages, stages
from passband.metrics import DenoiserSpectrum
from passband.reports.diagnosis import describe_diagnosis
from passband.reports.spectrum.words import terms_of
from passband.training.diagnose import Diagnosis, DiagnosisSettings, diagnose
from passband.training.diagnosis_data import DiagnosisData, given_data, own_data
from passband.training.diagnosis_page import write_diagnosis
from passband.training.ranks import usable_device
from passband.training.subject import Subject, open_subject


def diagnose_command(
    model: Annotated[
        Path,
        typer.Argument(
            help="Folder of a run, of an imported or averaged network, or of a diffusers pipeline.", show_default=False
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Folder or zip of images, of encoded latents, or of audio.",
            show_default="the recipe's own data, held out if any are",
        ),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another model on the same samples and noise, shown beside the first.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page, the figures and results.json.")] = Path(
        "runs/diagnose"
    ),
    count: Annotated[int, typer.Option(min=8, help="Clean samples, at most.")] = 256,
    levels: Annotated[
        str | None,
        typer.Option(
            help="Noise ratios sigma / alpha, separated by commas, such as 0.1,0.3,1.",
            show_default="octaves, from the data",
        ),
    ] = None,
    loss: Annotated[
        list[str] | None,
        typer.Option(
            help="A loss whose gradient is looked at (amplitude, amplitude_phase, wavelet, focal_frequency, pixel, "
            "stft); may be repeated.",
            show_default="amplitude, amplitude_phase, wavelet; of audio stft",
        ),
    ] = None,
    gradients: Annotated[int, typer.Option(min=0, help="Of the samples, how many losses are looked at on.")] = 64,
    crop: Annotated[
        str | None, typer.Option(help="Of DATA's images: center or tile.", show_default="as the recipe")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Of DATA's images: none, json or folder.", show_default="as the recipe")
    ] = None,
    checkpoint: Annotated[
        int | None, typer.Option(help="MODEL's checkpoint, by its step.", show_default="newest")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="Whose weights, of both if --against is a run: ema, another average (ema2), or last.")
    ] = "ema",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples at once.")] = 32,
    seed: Annotated[int, typer.Option(help="Of the samples' order and of the noise.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps.", show_default="the fastest there is")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first file that cannot be read.")] = False,
) -> None:
    """Diagnose a denoiser: at which noise level and frequency is it wrong, and what might mend it?

    At each noise level and in each band of frequency: the error of the clean estimate beside what a Wiener filter for
    the data's own spectrum reaches, whether the estimate has the power that it should have, and where the base loss and
    spectral losses pull. Prints what is wrong by more than chance and a loss, weight, gate and front to start from, and
    writes a page (index.html) with its figures and numbers (results.json).
    """
    _check_place(out)
    settings = DiagnosisSettings(
        count=count,
        gradients=gradients,
        batch_size=batch_size,
        ratios=None if levels is None else _numbers(levels),
        losses=None if not loss else {name: name for name in loss},
        seed=seed,
    )
    place = usable_device(device)
    subject = open_subject(model, step=checkpoint, weights=weights)
    other = None if against is None else open_subject(against, weights=weights if _is_run(against) else "ema")
    samples = _samples(subject, data, count, seed, _choice("crop", crop), _choice("labels", labels), strict)
    try:
        with stages() as progress:
            found = diagnose(subject, samples, settings, against=other, device=place, on_progress=Stages(progress))
    except KeyboardInterrupt:
        console.print("\ninterrupted: nothing was written")
        raise typer.Exit(130) from None
    report_skipped(samples.dataset)
    page = write_diagnosis(found, out, source=samples.source, settings=settings)
    _print(found)
    console.print(f"Page: {page}", markup=False)


_KEY = (
    "Rows: noise ratio sigma / alpha. Columns: up to so many {unit}.",
    "By more than chance: * worse than the filter, - too smooth, + too rough.",
)
_CHOICES = {"crop": ("center", "tile"), "labels": ("none", "json", "folder")}


def _choice(name: Literal["crop", "labels"], value: str | None) -> str | None:
    if value is not None and value not in _CHOICES[name]:
        raise ValueError(f"--{name} is one of {', '.join(_CHOICES[name])}, got {value!r}")
    return value


def _check_place(out: Path) -> None:
    """Before anything is computed: whether the report can be written."""
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ValueError(f"--out must be a folder, got the file {str(there)!r}: choose another place for the report")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"--out: nothing can be written into {str(there)!r}: choose another place for the report")


def _is_run(path: Path) -> bool:
    """Whether a folder has several weights to choose from."""
    return (path / "checkpoints").is_dir()


def _samples(
    subject: Subject,
    data: Path | None,
    count: int,
    seed: int,
    crop: str | None,
    labels: str | None,
    strict: bool,
) -> DiagnosisData:
    if data is not None:
        return given_data(subject, data, count, seed, crop=crop, labels=labels, strict=strict)
    if crop is not None or labels is not None:
        raise ValueError("--crop and --labels are about DATA, and none was given: the recipe says how its own are read")
    return own_data(subject, count, seed)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--levels takes noise ratios separated by commas, such as 0.1,0.3,1; got {text!r}") from None


def _print(found: Diagnosis) -> None:
    """The map, what is wrong, and what to try, on standard output."""
    shown = Console()
    shown.print(_table(found.model.spectrum, f"{found.model.name}: error over the Wiener filter's, dB", shown.width))
    for line in _KEY:
        shown.print(line.format(unit=terms_of(found.kind).unit), highlight=False)
    if found.against is not None:
        shown.print(
            _table(found.against.spectrum, f"{found.against.name}: the same, on the same noisy samples", shown.width)
        )
    models = [found.model, *([] if found.against is None else [found.against])]
    summary = describe_diagnosis([(one.name, one.spectrum) for one in models], found.comparison, terms_of(found.kind))
    advice = [sentence for part, sentence in found.suggestion.sentences.items() if part != "found"]
    for sentence in (*summary, *advice):
        shown.print(sentence, markup=False, highlight=False)
    if found.suggestion.recipe:
        shown.print(found.suggestion.recipe.rstrip(), markup=False, highlight=False)
    for note in found.notes:
        shown.print(note, style="yellow", markup=False, highlight=False)


_NOISE_WIDTH = 5
_WIDE = 9.95  # dB from which on digits after the point are left out


def _table(result: DenoiserSpectrum, title: str, width: int) -> Table:
    """The map as wide as the terminal, cut at the lowest frequencies."""
    levels, labels = result.excess.labels
    columns = [
        [
            f" {label.rpartition('–')[2].replace('corners', 'corner')}",
            *(_cell(result, row, i) for row in range(len(levels))),
        ]
        for i, label in enumerate(labels)
    ]
    left_out = _too_many([max(map(len, column)) for column in columns], width - _NOISE_WIDTH)
    bands = "band" if left_out == 1 else f"{left_out} bands"
    caption = f"The page also has the {bands} of lowest frequency." if left_out else None
    table = Table(box=None, padding=(0, 0), title=title, title_style="", title_justify="left", caption=caption)
    table.caption_style, table.caption_justify = "", "left"
    table.add_column("noise", justify="right", no_wrap=True, min_width=_NOISE_WIDTH)
    for head, *_ in columns[left_out:]:
        table.add_column(head, justify="right", no_wrap=True)
    for row, level in enumerate(levels):
        table.add_row(level, *(column[row + 1] for column in columns[left_out:]))
    return table


def _too_many(widths: Sequence[int], room: int) -> int:
    """How many of the first columns have to be left out, so that the others are whole."""
    return next((i for i in range(len(widths)) if sum(widths[i:]) <= room), len(widths) - 1)


def _cell(result: DenoiserSpectrum, row: int, column: int) -> str:
    marks = (("*", result.under), ("-", result.smooth), ("+", result.rough))
    called = "".join(mark for mark, cells in marks if bool(cells[row, column]))
    value = float(result.excess.difference[row, column])
    number = "" if math.isnan(value) else f"{value:.0f}" if abs(value) >= _WIDE else f"{value:.1f}"
    return f" {'0.0' if number == '-0.0' else number}{called}"
