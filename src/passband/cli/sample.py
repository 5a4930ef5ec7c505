"""`passband sample`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from passband.cli.console import console
from passband.cli.sample_audio import sample_audio
from passband.cli.sample_finetuned import refuse, sample_finetuned
from passband.cli.stages import interruptible
from passband.sampling import SOLVERS
from passband.training.draw import Drawing
from passband.training.finetune.draw import PipelineDrawing, is_finetuned, restore_pipeline
from passband.training.ranks import Ranks
from passband.training.restore import Restored, guided, restore


def sample(
    run: Annotated[
        Path, typer.Argument(help="The folder of a run that `passband train` wrote, or of an imported network.")
    ],
    count: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of samples; of a vocoder, of clips at most.",
            show_default="64; audio, pipelines 8",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first sample; sample i has seed + i.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps; default: the recipe's.")] = None,
    solver: Annotated[str | None, typer.Option(help=f"{', '.join(SOLVERS)}; default: the recipe's.")] = None,
    schedule: Annotated[
        str | None,
        typer.Option(help="In place of steps: fast (DiffWave's six), full, or betas such as 1e-4,0.01,0.3."),
    ] = None,
    input_: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="For a vocoder: audio, or spectrograms (.npy, .safetensors), a file or a folder; default: clips that "
            "the recipe holds out.",
        ),
    ] = None,
    chunk: Annotated[
        float | None,
        typer.Option(
            min=0, help="Of a vocoder: seconds that the network sees at once, 0 for all; default: 1024 frames."
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Length of audio without a spectrogram; default: the recipe's crops.")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Samples (of a vocoder, chunks) at once.", show_default="32, of audio 4"),
    ] = None,
    checkpoint: Annotated[int | None, typer.Option(help="Step of the checkpoint; default: the newest.")] = None,
    weights: Annotated[str, typer.Option(help="ema, another average (ema2), or last: those of the last step.")] = "ema",
    guidance: Annotated[float | None, typer.Option(min=0, help="Guidance scale; default: the recipe's.")] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="Of a finetuned pipeline; several are taken in turns; default: the recipe's, or captions."),
    ] = None,
    forcing: Annotated[
        str, typer.Option(help="Spectral Forcing: recorded (as it was trained), none, or linear (the published one).")
    ] = "recorded",
    insist: Annotated[bool, typer.Option("--insist", help="With another forcing than it was trained with.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; default: the fastest there is.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the samples; default: RUN/samples/step-STEP.")] = None,
) -> None:
    """Draw samples from a trained model: PNG files named by their seeds, or audio with a page to listen to.

    A vocoder speaks the clips of `--input`, or those that its recipe holds out.

    What is there already is kept, so an interrupted command continues where it stopped. Several processes
    (`accelerate launch -m passband.cli sample ...`) share the work and draw the same samples.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {str(out)!r}: choose another place for the samples")
    if is_finetuned(run):
        others = {"--solver": solver, "--schedule": schedule, "--input": input_, "--chunk": chunk, "--seconds": seconds}
        others |= {"--forcing": forcing != "recorded", "--insist": insist}
        refuse(others)
        restored = restore_pipeline(run, step=checkpoint, weights=weights)
        with interruptible():
            sample_finetuned(
                PipelineDrawing(restored, run, tuple(prompt or ()), steps, guidance, batch_size or 4),
                Ranks(device),
                range(seed, seed + (8 if count is None else count)),
                out,
            )
        return
    if prompt:
        raise ValueError("--prompt: for the run of a finetuned pipeline, and this is none; leave it out")
    found = guided(restore(run, step=checkpoint, weights=weights, forcing=forcing, insist=insist), guidance)
    if found.is_audio and (forcing != "recorded" or insist):
        raise ValueError("--forcing, --insist: for networks of images, and this is one of audio; leave them out")
    _check(found, {"--input": input_, "--chunk": chunk, "--seconds": seconds})
    if seconds is not None:
        found = found._replace(sample_shape=(1, _samples(found, seconds)))
    drawing = Drawing(found, run, steps, solver, batch_size or (4 if found.is_audio else 32), schedule)
    ranks = Ranks(device)
    console.quiet = not ranks.is_first
    try:
        if found.is_audio:
            sample_audio(drawing, ranks, count=count, seed=seed, given=input_, chunk=chunk, out=out)
        else:
            _sample_images(drawing, ranks, range(seed, seed + (64 if count is None else count)), out)
    except KeyboardInterrupt:
        console.print("\ninterrupted; the same command continues")
        raise typer.Exit(130) from None


def _sample_images(drawing: Drawing, ranks: Ranks, seeds: range, out: Path | None) -> None:
    folder = out or drawing.run / "samples" / f"step-{drawing.found.step:08d}"
    with Progress(console=console) as progress:
        task = progress.add_task("sampling", total=len(seeds))
        drawing.draw(folder, seeds, ranks, lambda done, total: progress.update(task, completed=done, total=total))
    console.print(f"{len(seeds)} samples are in {folder}")


def _check(found: Restored, audio: dict[str, object]) -> None:
    """Raise if an option does not fit the kind of network."""
    given = [name for name, value in audio.items() if value is not None]
    if not found.is_audio and given:
        raise ValueError(f"{', '.join(given)}: for networks of audio, and this is one of images; leave it out")
    if found.is_vocoder and "--seconds" in given:
        raise ValueError("--seconds: a vocoder's audio is as long as its spectrogram; leave it out")
    if found.is_audio and not found.is_vocoder:
        wrong = [name for name in given if name != "--seconds"]
        if wrong:
            raise ValueError(
                f"{', '.join(wrong)}: for vocoders, and this network was trained without spectrograms; leave it out"
            )


def _samples(found: Restored, seconds: float) -> int:
    assert found.mel is not None
    samples = round(seconds * found.mel.sample_rate)
    if samples < 1:
        raise ValueError(f"--seconds must be above 0, got {seconds:g}")
    return samples
