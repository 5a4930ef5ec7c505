"""`passband sample` of a network of audio."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import Progress

from passband.cli.console import console
from passband.data import read_audio
from passband.reports.listening import ListeningClip, ListeningRow, listening_page
from passband.training.clips import Clips, FileClips, held_out_clips, recipe_audio
from passband.training.draw import Drawing, sample_name
from passband.training.draw_audio import Vocoding
from passband.training.ranks import Ranks

_COUNT = 8
_SHOWN = 24


def sample_audio(
    drawing: Drawing,
    ranks: Ranks,
    *,
    count: int | None,
    seed: int,
    given: Path | None,
    chunk: float | None,
    out: Path | None,
) -> None:
    """Write audio files and a page to listen to.

    Args:
        drawing: the network, and how its samples are drawn.
        ranks: the processes that share the work; all must call this.
        count: of samples; of a vocoder's clips, at most. Default: 8, or all that are given.
        seed: of the first sample; of a vocoder, of all noise.
        given: audio or spectrograms for a vocoder; default: the clips that its recipe holds out.
        chunk: seconds that a vocoder sees at once.
        out: the folder; default: in the run's folder samples, named by the step and what is given.

    """
    folder = out or drawing.run / "samples" / _folder_name(drawing.found.step, given)
    if drawing.found.is_vocoder:
        _speak(Vocoding(drawing, seed, chunk), ranks, given, count, folder)
    else:
        _draw(drawing, ranks, range(seed, seed + (_COUNT if count is None else count)), folder)


def _speak(vocoding: Vocoding, ranks: Ranks, given: Path | None, count: int | None, folder: Path) -> None:
    found = vocoding.drawing.found
    assert found.mel is not None
    if given is None:
        data = recipe_audio(None if found.recipe is None else found.recipe.data, "--input")
        clips: Clips = held_out_clips(data, limit=_COUNT if count is None else count)[0]
    else:
        clips = FileClips(given, found.mel, limit=count)
    for note in clips.notes:
        console.print(note, style="yellow", markup=False)
    with _progress() as report:
        vocoding.draw(folder, clips, ranks, report)
    if not ranks.is_first:
        return
    rate, rows = found.mel.sample_rate, []
    for number, name in enumerate(clips.names[:_SHOWN]):
        original = clips.audio(number)
        made = ListeningClip(read_audio(folder / f"{name}.wav").audio, rate)
        rows.append(ListeningRow(name, [None if original is None else ListeningClip(original, rate), made]))
    columns = ["original", "from its spectrogram"]
    if all(row.clips[0] is None for row in rows):
        rows, columns = [ListeningRow(row.name, row.clips[1:]) for row in rows], columns[1:]
    _page(vocoding.drawing, rows, columns, len(clips), folder)


def _draw(drawing: Drawing, ranks: Ranks, seeds: range, folder: Path) -> None:
    mel = drawing.found.mel
    assert mel is not None
    with _progress() as report:
        drawing.draw(folder, seeds, ranks, report)
    if not ranks.is_first:
        return
    shown = [(seed, read_audio(folder / sample_name(seed, ".wav")).audio) for seed in seeds[:_SHOWN]]
    rows = [ListeningRow(f"seed {seed}", [ListeningClip(audio, mel.sample_rate)]) for seed, audio in shown]
    _page(drawing, rows, ["drawn"], len(seeds), folder)


def _page(drawing: Drawing, rows: list[ListeningRow], columns: list[str], count: int, folder: Path) -> None:
    name, settings = drawing.run.resolve().name, drawing.settings
    schedule = " of a noise schedule" if "noise_schedule" in settings else ""
    clips = f"{count:,} clip{'s' * (count != 1)}"
    summary = (
        f"{clips} by {name} at step {drawing.found.step:,}: {settings['steps']} steps{schedule}, {settings['solver']}."
    )
    if len(rows) < count:
        summary += f" The first {len(rows)} are here, all of them in the folder."
    page = listening_page(f"Audio of {name}", rows, folder, summary=summary, columns=columns)
    console.print(f"{clips} {'is' if count == 1 else 'are'} in {folder}; listen: {page}", markup=False)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A progress bar as a function of (done, total)."""
    with Progress(console=console) as bar:
        task = bar.add_task("sampling", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _folder_name(step: int, given: Path | None) -> str:
    return f"step-{step:08d}" + ("" if given is None else f"-{given.resolve().stem}")
