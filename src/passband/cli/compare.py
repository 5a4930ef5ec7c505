"""`passband compare REAL FAKE`: is the spectrum of generated samples right, and where is it not?"""

import math
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.table import Table

from passband.cli.compare_audio import print_clips
from passband.cli.console import console, parse_resolution, parse_share
from passband.cli.stages import Stages, interruptible, stages
from passband.metrics.sample_comparison import SampleComparison
from passband.reports import FrontReport, recipe_line
from passband.reports.front import describe_law, front_columns, front_rows
from passband.reports.spectrum import describe
from passband.reports.spectrum.octave_words import main_plane, plane_name
from passband.reports.spectrum.words import terms_of
from passband.reports.words import signed
from passband.training.compare import Compared, compare_paths, measure_shares
from passband.training.compare_audio import DEFAULT_METRICS, AudioSettings
from passband.training.compare_settings import CompareSettings
from passband.training.path_kinds import is_of_audio
from passband.training.sample_paths import Opening
from passband.transforms.taper import Taper

_AUDIO_PANEL, _FRONT_PANEL, _WORK_PANEL = "Options for audio", "Options for the fronts", "Options for large sets"
_OF_AUDIO = ("sample_rate", "metrics", "embedding", "players")
_NOT_OF_AUDIO = ("resolution", "crop", "channels", "values", "process", "kappa", "window", "exact")


def compare(
    real: Annotated[
        Path,
        typer.Argument(
            help="The reference: folder or zip of images, .npz, .npy or .safetensors, folder of latents or of audio, "
            "or a measured set.",
            show_default=False,
        ),
    ],
    fake: Annotated[
        Path,
        typer.Argument(
            help="The generated samples, likewise; a run's folder or its samples/: all its steps, over time.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the page, the figures and results.json.")] = Path(
        "runs/compare"
    ),
    resolution: Annotated[
        str | None,
        typer.Option(help="Side of the squares compared, in pixels, or HEIGHTxWIDTH.", show_default="that of FAKE"),
    ] = None,
    crop: Annotated[
        str, typer.Option(help="'center': the central square, resized. 'tile': all whole squares at native resolution.")
    ] = "center",
    channels: Annotated[
        int | None, typer.Option(help="3: red, green and blue. 1: luma.", show_default="3, or those of the arrays")
    ] = None,
    values: Annotated[
        str,
        typer.Option(
            help="What floats in arrays are: -1..1, 0..1, 0..255, raw (no images), or auto: judged by their range."
        ),
    ] = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="Use this many samples or clips of each at most.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples measured at once.")] = 64,
    taper: Annotated[
        str, typer.Option(help="hann: fades samples out at their edges. none: for samples that are periodic.")
    ] = "hann",
    replicates: Annotated[int, typer.Option(min=20, help="Of the bootstrap, for the intervals.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    process: Annotated[
        str,
        typer.Option(
            help="Noising process whose time is shown beside the fronts: flow, vp or edm.",
            rich_help_panel=_FRONT_PANEL,
        ),
    ] = "flow",
    kappa: Annotated[
        float, typer.Option(help="Steepness of Spectral Forcing's mask.", rich_help_panel=_FRONT_PANEL)
    ] = 30.0,
    window: Annotated[
        int | None,
        typer.Option(
            min=8,
            help="Side of Spectral Forcing's windows.",
            show_default="whole images",
            rich_help_panel=_FRONT_PANEL,
        ),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Spectral Forcing's exact variant.", rich_help_panel=_FRONT_PANEL)
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes that measure; any number gives the same result.",
            show_default="one for each core, if there is enough to do",
            rich_help_panel=_WORK_PANEL,
        ),
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(
            help="I/N: measure the Ith of N shares alone, into OUT/real and OUT/fake; with all shares in one place, "
            "compare these two folders.",
            rich_help_panel=_WORK_PANEL,
        ),
    ] = None,
    keep_measured: Annotated[
        Path | None,
        typer.Option(
            help="Folder, or file ending in .spectrum.safetensors, that keeps what is measured of REAL for other "
            "comparisons, and gives it back.",
            show_default="OUT/measured",
            rich_help_panel=_WORK_PANEL,
        ),
    ] = None,
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
    """Compare the spectra of two sets of images, latents, signals or audio.

    Says where the spectrum is wrong, by how much and how surely: power per octave and direction with intervals and the
    noise floor of the real samples, artefacts by name, sub-bands, the power law and what it means for Spectral Forcing.
    Audio besides: players, the Fréchet audio distance, and measures of the clips of one name. Writes a page
    (index.html), its figures and the numbers (results.json). An interrupted command goes on when it is run again.
    """
    given = dict(locals())
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {str(out)!r}: choose another place for the report")
    _check_options(given, any(is_of_audio(path) for path in (real, fake)))
    side = None if resolution is None else parse_resolution(resolution)
    settings = CompareSettings(
        Opening(side, crop, channels, values, limit, strict, sample_rate, batch_size),
        AudioSettings(metrics, embedding, players),
        cast("Taper", taper),  # checked there
        replicates,
        seed,
        workers,
        process,
        kappa,
        window,
        exact,
    )
    with interruptible(), stages() as progress:
        show = Stages(progress)
        if share is not None:
            if keep_measured is not None:
                raise ValueError("--share writes its parts into --out: leave out --keep-measured")
            parts = measure_shares(real, fake, out, parse_share(share), settings, on_progress=show)
            console.print("Measured: " + ", ".join(map(str, parts)), markup=False)
            return
        found = compare_paths(real, fake, out, settings, keep_measured=keep_measured, on_progress=show)
    _print(found)


def _check_options(given: Mapping[str, object], is_audio: bool) -> None:
    """Raise if an option of the other kind of samples has another value than its default."""
    for name, parameter in signature(compare).parameters.items():
        if name in (_NOT_OF_AUDIO if is_audio else _OF_AUDIO) and given[name] != parameter.default:
            kinds = ("images, latents and signals", "audio")
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} is for {kinds[not is_audio]}, and these are {kinds[is_audio]}: leave it out")


def _print(found: Compared) -> None:
    """The table of the octaves, the three sentences, the fronts and the notes, on standard output."""
    shown = Console()
    shown.print(_octave_table(found))
    for line in (_distance(found.comparison), *describe(found.comparison)):
        shown.print(line, markup=False, highlight=False)
    if found.audio is not None:
        print_clips(shown, found.audio)
    if found.fronts is not None:
        _print_fronts(shown, found.fronts)
    for note in found.notes:
        shown.print(note, style="yellow", markup=False)
    shown.print(f"Page: {found.page}", markup=False, soft_wrap=True)


def _octave_table(found: Compared) -> Table:
    """The differences of the plane that speaks for all, highest octave first."""
    comparison = found.comparison
    octaves, plane = comparison.contrasts["octaves"], main_plane(comparison)
    named = plane_name(comparison)
    what = ", ".join(part for part in (named, f"step {found.series[-1][0]}" if found.series else "") if part)
    terms = terms_of(comparison.kind, comparison.sample_rate)
    title = f"Power of the fake {terms.samples} against the real ones{f', {what}' if what else ''}"
    table = Table(title=title, title_justify="left")
    table.add_column(terms.titled("octave"))
    for column in ("difference (dB)", "95 % interval", "noise floor"):
        table.add_column(column, justify="right")
    table.add_column("")
    for place, label in enumerate(octaves.labels[1]):
        columns = (octaves.difference, octaves.low, octaves.high, octaves.floor)
        difference, low, high, floor = (float(values[plane, place]) for values in columns)
        called = bool(octaves.different[plane, place])
        cells = (signed(difference), f"{signed(low)} … {signed(high)}", _number(floor), "differs" if called else "")
        table.add_row(label, *cells, style="bold" if called else None)
    return table


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "–"


def _distance(comparison: SampleComparison) -> str:
    """The log-spectral distance and the power laws, as far as there are any."""
    score = comparison.lsd
    ends = [f"{_number(score.low)} … {_number(score.high)}"] if math.isfinite(score.high) else []
    if (
        math.isfinite(score.floor) and not comparison.paired
    ):  # of the same content, both sets have the same chance in them
        ends.append(f"two halves of the real ones: up to {_number(score.floor)}")
    known = f" ({'; '.join(ends)})" if ends else ""
    distance = f"{score.value:.2f} dB{known}" if math.isfinite(score.value) else "unknown"
    text = f"Log-spectral distance: {distance}."
    laws = {"real": comparison.law.real, "fake": comparison.law.fake}
    exponents = [
        f"{name} {_number(law.exponent)}" + (f" ± {law.error:.2f}" if math.isfinite(law.error) else "")
        for name, law in laws.items()
        if math.isfinite(law.exponent)
    ]
    text += f" Power-law exponent: {', '.join(exponents)}." if exponents else ""
    counted = terms_of(comparison.kind, comparison.sample_rate).counted
    return f"{text} Of {comparison.real_count:,} real and {comparison.fake_count:,} fake {counted}."


def _print_fronts(shown: Console, fronts: FrontReport) -> None:
    rows = front_rows(fronts)
    if rows:
        table = Table(title="\nFronts of Spectral Forcing on the real samples", title_justify="left")
        for column, text in zip(front_columns(fronts), rows[0], strict=True):
            table.add_column(column, justify="right" if text[0].isdigit() else "left")
        for row in rows:
            table.add_row(*row)
        shown.print(table)
    shown.print(describe_law(fronts), markup=False)
    line = recipe_line(fronts)
    if line:
        shown.print(f"As a recipe's forcing:\n{line}", markup=False, highlight=False, soft_wrap=True)
