"""A few held-out clips spoken by several vocoders: FLAC files, a figure of their spectrograms, and a page to listen to.

    python -m benchmarks.audio_listening --out docs/listening --clips 2 \
        "no term=runs/speech16k/grid/runs/model/none/seed-0" "with the term=runs/speech16k/grid/runs/model/stft/seed-0"

The clips are the recipe's test set's longest ones under --seconds; each is spoken with the same noise by all vocoders.
"""

import argparse
import io
from pathlib import Path

from PIL import Image

from passband.data import save_audio
from passband.reports import ListeningClip, ListeningRow, listening_page, spectrogram_figure, to_png
from passband.training import restore
from passband.training.clips import FolderClips, held_out_clips, recipe_audio
from passband.training.draw import Drawing
from passband.training.draw_audio import Vocoding


def chosen(clips: FolderClips, count: int, seconds: float, sample_rate: int) -> list[int]:
    """The numbers of the longest clips of at most so many seconds."""
    lengths = {number: len(clips.audio(number)) for number in range(len(clips))}
    fitting = [number for number, length in lengths.items() if length <= seconds * sample_rate]
    return sorted(sorted(fitting, key=lambda number: (-lengths[number], clips.names[number]))[:count])


def small(png: bytes) -> Image.Image:
    """A picture of half the size in 128 colours."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS).quantize(128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    named = dict(model.split("=", 1) for model in options.models)
    vocoders = {name: Vocoding(Drawing(restore(Path(run)), Path(run)), options.seed) for name, run in named.items()}
    first = next(iter(vocoders.values())).drawing.found
    assert first.recipe is not None
    assert first.mel is not None
    clips, _ = held_out_clips(recipe_audio(first.recipe.data, "a recipe with audio"))
    rate, rows = first.mel.sample_rate, []
    for number in chosen(clips, options.clips, options.seconds, rate):
        name, clip = clips.names[number], clips.read(number, first.mel)
        heard = {"original": clip.audio} | {label: model.speak(clip, name) for label, model in vocoders.items()}
        for label, audio in heard.items():
            save_audio(options.out / f"{name}-{label.replace(' ', '-')}.flac", audio, rate)
        figure = spectrogram_figure(heard, rate)
        small(to_png(figure)).save(options.out / f"{name}.png", optimize=True)
        rows.append(ListeningRow(name, [ListeningClip(audio, rate) for audio in heard.values()]))
    summary = "Held-out clips, spoken from their mel spectrograms with the same noise by all."
    columns = ["original", *vocoders]
    print(listening_page("Spoken by several vocoders", rows, options.out, summary=summary, columns=columns))


if __name__ == "__main__":
    main()
