"""`passband compare REAL FAKE`: is the spectrum of generated images or audio right, and where is it not?"""

from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from passband._checks import check_choice
from passband.cli.compare_audio import AUDIO, DEFAULT_METRICS, IMAGES, AudioOptions, compare_audio, kind_of
from passband.data import ImageFolder
from passband.forcing.operator import check_kappa
from passband.metrics import MeanPSD, PowerLawMeasure, PowerLawResult, SpectrumDistance, SpectrumResult
from passband.process import EDM, VP, Flow, Process
from passband.reports import FrontReport, compare_report, describe, recipe_line
from passband.reports.compare import exponent_text, halves_difference, image_notes, signed, span
from passband.reports.front import describe_law, front_columns, front_rows

THUMBNAILS = 24
PROCESSES: Mapping[str, Callable[[], Process]] = {"flow": lambda: Flow(data_at=1), "vp": VP, "edm": EDM}
_AUDIO_PANEL = "Options for audio"
_SHARED = ("real", "fake", "out", "limit", "strict")
_OF_AUDIO = ("sample_rate", "metrics", "embedding", "players")


def compare(
    real: Annotated[
        Path, typer.Argument(help="Folder or zip of real images, or folder of real audio.", show_default=False)
    ],
    fake: Annotated[
        Path, typer.Argument(help="Folder or zip of generated images, or folder of audio.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder for the page, the figures and results.json.")] = Path(
        "runs/compare"
    ),
    resolution: Annotated[
        int | None, typer.Option(min=2, help="Side of the squares compared, in pixels.", show_default="that of FAKE")
    ] = None,
    crop: Annotated[
        str, typer.Option(help="'center': the central square, resized. 'tile': all whole squares at native resolution.")
    ] = "center",
    channels: Annotated[int, typer.Option(help="3: red, green and blue. 1: luma.")] = 3,
    limit: Annotated[int | None, typer.Option(min=1, help="Use this many squares or clips of each at most.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Squares measured at once.")] = 64,
    floor: Annotated[
        float, typer.Option(min=0.0, help="Share of the real mean power added to both before the logarithm.")
    ] = 1e-4,
    process: Annotated[
        str, typer.Option(help="Noising process whose time is shown beside the fronts: flow, vp or edm.")
    ] = "flow",
    kappa: Annotated[float, typer.Option(help="Steepness of Spectral Forcing's mask, for the fronts.")] = 30.0,
    window: Annotated[
        int | None, typer.Option(min=8, help="Side of Spectral Forcing's windows.", show_default="whole images")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Spectral Forcing's exact variant, for the fronts.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first file that cannot be read.")] = False,
    sample_rate: Annotated[
        int | None,
        typer.Option(
            min=4000,
            help="Rate to which the clips are resampled, Hz.",
            show_default="the lower of the two folders'",
            rich_help_panel=_AUDIO_PANEL,
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Measures of pairs of one name (mr_stft, lsd, pesq, estoi) and of clips (distillmos, dnsmos, "
            "utmos=PATH), separated by commas; or none.",
            show_default=DEFAULT_METRICS,
            rich_help_panel=_AUDIO_PANEL,
        ),
    ] = None,
    embedding: Annotated[
        str,
        typer.Option(
            help="Of the Fréchet audio distance: mel, resemblyzer, PATH[@RATE] or module:package.name.",
            rich_help_panel=_AUDIO_PANEL,
        ),
    ] = "mel",
    players: Annotated[
        int, typer.Option(min=0, help="Rows of players and spectrograms on the page.", rich_help_panel=_AUDIO_PANEL)
    ] = 6,
) -> None:
    """Compare the spectra of two folders of images, or of two folders of audio.

    Images: prints the log-spectral distance per octave and overall, the power law of both and what it means for
    Spectral Forcing's fronts. Audio: the long-term average spectra, the Fréchet audio distance, and measures of the
    clips of one name. Writes a page (index.html), its figures and the numbers (results.json).
    """
    given = dict(locals())
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {str(out)!r}: choose another place for the report")
    kind = _kind(real, fake)
    _check_options(given, kind)
    if kind == AUDIO:
        compare_audio(real, fake, out, AudioOptions(sample_rate, metrics, embedding, players, limit, strict))
        return
    check_choice("process", process, PROCESSES)
    check_kappa(kappa)
    side = _side_of(fake) if resolution is None else resolution
    with _progress() as progress:
        measured = {}
        for name, path in (("real", real), ("fake", fake)):
            task = progress.add_task(f"{name}: reading headers", total=None)
            data = ImageFolder(
                path,
                side,
                crop=crop,
                channels=channels,
                limit=limit,
                strict=strict,
                progress=lambda done, total, task=task: progress.update(task, completed=done, total=total),  # type: ignore[misc]
            )
            progress.remove_task(task)
            measured[name] = _measure(name, data, batch_size, window, progress)
    distance = SpectrumDistance(floor)
    for half in measured["real"].halves:
        distance.real.merge(half)
    for half in measured["fake"].halves:
        distance.fake.merge(half)
    result = distance.compute()
    reference = halves_difference(measured["real"].halves, floor)
    notes = [*measured["real"].notes, *measured["fake"].notes]
    fronts = FrontReport(
        measured["real"].law,
        measured["fake"].law,
        process=PROCESSES[process](),
        kappa=kappa,
        window=window,
        exact=exact,
    )
    page = compare_report(
        result,
        measured["real"].thumbnails,
        measured["fake"].thumbnails,
        out,
        reference=reference,
        settings={"real from": str(real), "fake from": str(fake), "crop": crop, "limit": limit or "none"},
        notes=notes,
        fronts=fronts,
    )
    console = Console()
    _print(console, result, reference)
    _print_fronts(console, fronts)
    for note in notes:
        console.print(note, style="yellow", markup=False)
    console.print(f"Page: {page}", markup=False, soft_wrap=True)


def _kind(real: Path, fake: Path) -> str:
    kinds = [kind_of(path) for path in (real, fake)]
    if kinds[0] != kinds[1]:
        audio, other = (real, fake) if kinds[0] == AUDIO else (fake, real)
        raise ValueError(
            f"both folders must hold the same kind of files, images or audio; {str(audio)!r} holds audio, "
            f"{str(other)!r} does not"
        )
    return kinds[0]


def _check_options(given: Mapping[str, object], kind: str) -> None:
    """Raise if an option of the other kind of files has another value than its default."""
    for name, parameter in signature(compare).parameters.items():
        fits = name in _SHARED or (name in _OF_AUDIO) == (kind == AUDIO)
        if not fits and given[name] != parameter.default:
            other = IMAGES if kind == AUDIO else AUDIO
            raise ValueError(f"--{name.replace('_', '-')} is for {other}, and these folders hold {kind}: leave it out")


class _Measured(NamedTuple):
    halves: tuple[MeanPSD, MeanPSD]  # images in turn, so that both hold the same mix of sources
    law: PowerLawResult | str  # why there is none
    thumbnails: Tensor
    notes: list[str]


def _side_of(path: Path) -> int:
    """The shorter side of an image of the folder."""
    return min(ImageFolder(path, 1, limit=1).sizes[0])


def _measure(name: str, data: ImageFolder, batch_size: int, window: int | None, progress: Progress) -> _Measured:
    task = progress.add_task(f"{name}: measuring", total=len(data))
    shown = {round(i * (len(data) - 1) / (THUMBNAILS - 1)) for i in range(THUMBNAILS)}
    halves = MeanPSD(f"{name} images"), MeanPSD(f"{name} images")
    law = PowerLawMeasure(window=window, name=f"{name} images")
    thumbnails: list[Tensor] = []
    for batch in _batches(data, batch_size, lambda: progress.advance(task)):
        images = torch.stack([image for _, image in batch])
        first = (halves[0].count + halves[1].count) % 2
        halves[first].update(images[::2])
        halves[1 - first].update(images[1::2])
        law.update(images)
        thumbnails += [image for index, image in batch if index in shown]
    if not thumbnails:  # all of the chosen ones are broken
        thumbnails = list(images[:THUMBNAILS])
    return _Measured(halves, _law_or_reason(law), torch.stack(thumbnails), image_notes(name, data))


def _law_or_reason(measure: PowerLawMeasure) -> PowerLawResult | str:
    """The power law; images that have none can still be compared."""
    try:
        return measure.compute()
    except ValueError as error:
        return str(error)


def _batches(data: ImageFolder, batch_size: int, advance: Callable[[], None]) -> Iterator[list[tuple[int, Tensor]]]:
    """Batches of (index, image), without the stand-ins for broken images, which would count twice."""
    batch: list[tuple[int, Tensor]] = []
    broken: set[str] = set()
    for index in range(len(data)):
        image = data[index]
        if len(data.skipped) != len(broken):
            broken = {skipped.name for skipped in data.skipped}
        if data.origin(index)[0] not in broken:
            batch.append((index, image))
        if len(batch) == batch_size:
            yield batch
            batch = []
        advance()
    if batch:
        yield batch


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _print(console: Console, result: SpectrumResult, reference: Tensor | None) -> None:
    table = Table(title="Log-spectral distance, fake against real", title_justify="left")
    table.add_column("radius (cycles per image)")
    table.add_column("distance (dB)", justify="right")
    table.add_column("mean difference (dB)", justify="right")
    for octave in result.octaves:
        table.add_row(span(octave.low, octave.high), f"{octave.lsd:.2f}", signed(octave.bias))
    table.add_section()
    table.add_row("all", f"{result.lsd:.2f}", signed(float(result.ratio.mean())), style="bold")
    console.print(table)
    console.print(
        f"Power-law exponent: real {exponent_text(result.real_exponent)}, fake {exponent_text(result.fake_exponent)} "
        f"({result.real_count:,} and {result.fake_count:,} images)."
    )
    console.print(describe(result, reference))


def _print_fronts(console: Console, fronts: FrontReport) -> None:
    rows = front_rows(fronts)
    if rows:
        table = Table(title="\nFronts of Spectral Forcing on the real images", title_justify="left")
        for column, text in zip(front_columns(fronts), rows[0], strict=True):
            table.add_column(column, justify="right" if text[0].isdigit() else "left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(describe_law(fronts), markup=False)
    line = recipe_line(fronts)
    if line:
        console.print(f"As a recipe's forcing:\n{line}", markup=False, highlight=False, soft_wrap=True)
