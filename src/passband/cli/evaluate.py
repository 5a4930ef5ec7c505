"""`passband evaluate RUN`: how good are a network's samples or reconstructions, and is their spectrum right?"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer
from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.table import Table

from passband._checks import check_choice
from passband.cli.console import console, parse_resolution
from passband.cli.stages import Stages, interruptible, stages
from passband.reports.audio_evaluation import COLUMNS as AUDIO_COLUMNS
from passband.reports.audio_evaluation import audio_rows, audio_texts
from passband.reports.evaluation import COLUMNS, evaluation_rows, metric_texts
from passband.sampling import SOLVERS
from passband.training.audio_metrics import METRICS as AUDIO_METRICS
from passband.training.config import invalid
from passband.training.evaluate import EvaluationSettings, Evaluator
from passband.training.evaluate_audio import AudioEvaluationSettings, AudioEvaluator
from passband.training.image_metrics import MetricName
from passband.training.ranks import Ranks
from passband.training.reconstruct import ReconstructionSettings, evaluate_autoencoder
from passband.training.restore import is_audio, is_autoencoder, is_vocoder
from passband.training.results import evaluation_folder
from passband.training.sections import PerceptualSettings

_METRICS = get_args(MetricName)
_COUNT = 50_000


def evaluate(
    run: Annotated[
        Path,
        typer.Argument(
            help="The folder of a run that `passband train` wrote, of an imported network, or of an autoencoder that "
            "diffusers saved."
        ),
    ],
    real: Annotated[
        Path | None,
        typer.Option(
            help="Folder or zip of real images, or folder of audio; default: the recipe's data, the held-out part if "
            "it has one."
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            min=2, help="Number of samples; compare equal numbers only.", show_default=f"{_COUNT}, of audio 64"
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the first sample; sample i has seed + i.", show_default="0")
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            help="efficientnet-lite0[:LAYER], or a TorchScript file (path or URL); may be repeated.",
            show_default="efficientnet-lite0",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help=f"Of {', '.join(_METRICS)}, separated by commas; default: what the features allow. Of audio: "
            f"{', '.join(AUDIO_METRICS)} (utmos=PATH); default: those whose packages are installed."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps; default: the recipe's.")] = None,
    solver: Annotated[str | None, typer.Option(help=f"{', '.join(SOLVERS)}; default: the recipe's.")] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Images, samples or chunks of audio at once.", show_default="64, of audio 4"),
    ] = None,
    checkpoint: Annotated[int | None, typer.Option(help="Step of the checkpoint; default: the newest.")] = None,
    weights: Annotated[str, typer.Option(help="ema, another average (ema2), or last: those of the last step.")] = "ema",
    guidance: Annotated[float | None, typer.Option(min=0, help="Guidance scale; default: the recipe's.")] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Use this many real images at most.")] = None,
    real_stats: Annotated[
        Path | None,
        typer.Option(help="File that keeps what was measured of the real images; default: one in RUN/real-stats."),
    ] = None,
    perceptual: Annotated[
        str | None,
        typer.Option(
            help="Of an autoencoder: efficientnet-lite0, lpips=WEIGHTS, module:package.name, or none.",
            show_default="efficientnet-lite0",
        ),
    ] = None,
    resolution: Annotated[
        str | None,
        typer.Option(help="Of an autoencoder: that of --real, 64 or 48x64; default: the recipe's.", show_default=False),
    ] = None,
    subset: Annotated[
        str | None,
        typer.Option(
            help="Of audio: which of the recipe's clips, test, eval or all; default: test where it holds any out, else "
            "eval.",
            show_default=False,
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(help="Of audio: fast (DiffWave's six steps), full, or betas such as 1e-4,0.01,0.3; for steps."),
    ] = None,
    embedding: Annotated[
        str | None,
        typer.Option(
            help="Of audio: mel, resemblyzer, a TorchScript file (PATH or PATH@RATE), or module:package.name.",
            show_default="mel",
        ),
    ] = None,
    chunk: Annotated[
        float | None,
        typer.Option(min=0, help="Of a vocoder: seconds that the network sees at once, 0 for all.", show_default=False),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; default: the fastest there is.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of samples, page and results.json; default: RUN/evaluation/step-STEP.")
    ] = None,
) -> None:
    """Evaluate a trained model: draw samples and compare them with real images; of an autoencoder, reconstructions.

    Writes a page (index.html), its figures and the numbers (results.json); of an autoencoder, a picture and the
    numbers. What is there already is kept: an interrupted command continues where it stopped. Several processes share
    the work: `accelerate launch -m passband.cli evaluate ...`.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {str(out)!r}: choose another place for the report")
    drawn: dict[str, object] = {"--count": count, "--seed": seed, "--metrics": metrics}
    drawn |= {"--steps": steps, "--solver": solver}
    heard: dict[str, object] = {"--subset": subset, "--schedule": schedule, "--embedding": embedding}
    heard |= {"--chunk": chunk}
    seen: dict[str, object] = {"--features": features, "--guidance": guidance, "--real-stats": real_stats}
    decoded: dict[str, object] = {"--perceptual": perceptual, "--resolution": resolution}
    kind = _kind(run)
    if kind == "audio":
        _check_audio(is_vocoder(run), count, chunk)
    if kind == "autoencoder":
        drawn |= {"--guidance": guidance, "--real-stats": real_stats}
    refused = {
        "autoencoder": {"of an autoencoder no samples are drawn": drawn, "only audio takes it": heard},
        "audio": {"only images take it": seen, "only reconstructions take it": decoded},
        "images": {"only reconstructions take it": decoded, "only audio takes it": heard},
    }
    for why, options in refused[kind].items():
        _refuse(options, why)
    ranks = Ranks(device)
    console.quiet = not ranks.is_first
    chosen = tuple(features or ["efficientnet-lite0"])
    shared: dict[str, Any] = {"limit": limit, "weights": weights}
    shared["batch_size"] = batch_size or (4 if kind == "audio" else 64)
    if kind == "autoencoder":
        if resolution is not None and real is None:
            raise ValueError("--resolution is that of the images in --real: give both, or neither")
        of_real = {"real": real, "resolution": None if resolution is None else parse_resolution(resolution)}
        _evaluate_autoencoder(run, chosen, perceptual, {**of_real, **shared}, out, checkpoint, ranks)
        return
    sampled = {"seed": seed or 0, "steps": steps, "solver": solver, "real": real, **shared}
    evaluator: Evaluator | AudioEvaluator
    if kind == "audio":
        asked = {"count": count, "subset": subset, "schedule": schedule, "embedding": embedding, "chunk": chunk}
        evaluator = AudioEvaluator(_audio_settings({**asked, "metrics": _names(metrics)}, sampled), ranks)
    else:
        settings = EvaluationSettings(
            count=_COUNT if count is None else count,
            features=chosen,
            metrics=_metrics(metrics),
            guidance=guidance,
            **sampled,
        )
        evaluator = Evaluator(settings, ranks, real_stats=real_stats)
    with interruptible(), stages() as progress:
        results = evaluator.evaluate(run, out, step=checkpoint, on_progress=Stages(progress))
    if ranks.is_first:
        shown = (
            (AUDIO_COLUMNS, audio_rows, audio_texts) if kind == "audio" else (COLUMNS, evaluation_rows, metric_texts)
        )
        _print(results, out or evaluation_folder(run, results["samples"]["step"]), *shown)


def _check_audio(vocoder: bool, count: int | None, chunk: float | None) -> None:
    """Raise if an option has no meaning for the kind of network of audio."""
    if vocoder and count is not None:
        raise ValueError("--count is of networks that draw samples, and a vocoder speaks clips: bound them by --limit")
    if not vocoder and chunk is not None:
        raise ValueError("--chunk is of vocoders, and this network was trained without spectrograms: leave it out")


def _audio_settings(asked: Mapping[str, Any], shared: Mapping[str, Any]) -> AudioEvaluationSettings:
    values = {name: value for name, value in {**asked, **shared}.items() if value is not None}
    try:
        return AudioEvaluationSettings(**values)
    except ValidationError as error:
        raise invalid("the evaluation", error, values) from None


def _kind(run: Path) -> Literal["autoencoder", "audio", "images"]:
    if is_audio(run):
        return "audio"
    return "autoencoder" if is_autoencoder(run) else "images"


def _evaluate_autoencoder(
    run: Path,
    features: tuple[str, ...],
    perceptual: str | None,
    options: Mapping[str, Any],
    out: Path | None,
    step: int | None,
    ranks: Ranks,
) -> None:
    if len(features) > 1:
        raise ValueError(f"reconstructions are compared by one kind of features, got {len(features)} --features")
    settings = ReconstructionSettings(features=features[0], perceptual=_perceptual(perceptual), **options)
    with interruptible(), stages() as progress:
        results = evaluate_autoencoder(run, settings, out, step=step, ranks=ranks, on_progress=Stages(progress))
    if not ranks.is_first:
        return
    shown = Console()
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("metric")
    table.add_column("value", justify="right", no_wrap=True)
    for entry in results["metrics"]:
        # In a narrow terminal the long name of the features stands below.
        by = f", {entry['by']}" if "by" in entry and entry["key"] != "frechet" else ""
        value = "infinite" if entry["value"] is None else f"{entry['value']:.4g}"
        table.add_row(f"{entry['title']}{by} {'↓' if entry['better'] == 'lower' else '↑'}", value)
    shown.print(table)
    for entry in results["metrics"]:
        if entry["key"] == "frechet":
            shown.print(f"Features: {entry['by']}.", markup=False, highlight=False)
    for note in results["notes"]:
        shown.print(note, style="yellow", markup=False)
    folder = out or evaluation_folder(run, results["note"]["step"])
    shown.print(f"{results['count']} images; numbers and a picture: {folder}", markup=False, soft_wrap=True)


def _refuse(options: Mapping[str, object], why: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ValueError(f"{why}: leave out {', '.join(given)}")


def _perceptual(text: str | None) -> PerceptualSettings | None:
    if text == "none":
        return None
    name, _, weights = (text or "efficientnet-lite0").partition("=")
    return PerceptualSettings(name=name, weights=Path(weights) if weights else None)


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(","))


def _metrics(text: str | None) -> tuple[MetricName, ...] | None:
    names = _names(text)
    if names is None:
        return None
    for name in names:
        check_choice("metric in --metrics", name, _METRICS)
    return tuple(name for name in _METRICS if name in names)


def _print(
    results: Mapping[str, Any],
    folder: Path,
    columns: Sequence[str],
    rows: Callable[[Mapping[str, Any]], list[list[str]]],
    texts: Callable[[Mapping[str, Any]], list[str]],
) -> None:
    shown = Console()
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in columns:
        # In a narrow terminal the names break, never the numbers.
        table.add_column(column, justify="left" if column == "metric" else "right", no_wrap=column != "metric")
    for row in rows(results):
        table.add_row(*row)
    shown.print(table)
    for text in texts(results):
        shown.print(text, markup=False, highlight=False)
    for note in results["notes"]:
        shown.print(note, style="yellow", markup=False)
    shown.print(f"Page: {folder / 'index.html'}", markup=False, soft_wrap=True)
