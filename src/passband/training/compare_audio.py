"""What `passband compare` measures of two folders of audio beside their spectra: pairs, clips, Fréchet distance."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from passband.metrics import AudioMeasure, load_audio_embedding, load_audio_measure
from passband.reports.audio_compare import beside_audio
from passband.reports.audio_folders import AudioFound, AudioPairs, listening_rows, measure_audio, pair_by_name
from passband.reports.spectrum import Beside
from passband.training.audio_samples import AudioSet
from passband.training.progress import OnProgress

DEFAULT_METRICS = "mr_stft,lsd"


@dataclass(frozen=True)
class AudioSettings:
    """What is measured of clips.

    Args:
        metrics: names of measures, separated by commas; "none"; None: those of `DEFAULT_METRICS` that are installed.
        embedding: of the Fréchet audio distance, see `load_audio_embedding`.
        players: rows of players and spectrograms on the page.

    """

    metrics: str | None = None
    embedding: str = "mel"
    players: int = 6


class AudioWork:
    """The clips of two folders, and what is to be measured of them.

    Args:
        real: the reference.
        fake: the other clips.
        settings: what to measure.
        limit: as both were opened with.

    Attributes:
        notes: what a reader must know.

    Raises:
        ValueError: if a measure is unknown or cannot be used, or one of pairs is asked for and there are none.

    """

    def __init__(self, real: AudioSet, fake: AudioSet, settings: AudioSettings, limit: int | None = None) -> None:
        self.settings = settings
        self.notes: list[str] = []
        self.measures = _measures(settings.metrics, self.notes)
        self.embedding = load_audio_embedding(settings.embedding)
        sounds = pair_by_name(real.data.names, fake.data.names, limit)
        self.clips = AudioPairs(real.data, fake.data, sounds)
        _check_pairs(self.clips, self.measures, settings.metrics)

    def measure(self, on_progress: OnProgress | None = None) -> AudioFound:
        """Read all clips once."""
        total, done = len(self.clips.sounds), 0

        def step() -> None:
            nonlocal done
            done += 1
            if on_progress is not None:
                on_progress("clips: measuring", done, total)

        found = measure_audio(self.clips, self.measures, self.embedding, step)
        self.notes += found.notes
        return found

    def beside(self, found: AudioFound, out: Path) -> Beside:
        """What the page shows of it."""
        rows, text = listening_rows(self.clips, found, self.settings.players)
        return beside_audio(out, frechet=found.frechet, measured=found.measured, rows=rows, rows_text=text)


def _measures(names: str | None, notes: list[str]) -> list[AudioMeasure]:
    specs = [name.strip() for name in (DEFAULT_METRICS if names is None else names).split(",") if name.strip()]
    measures = []
    for measure in (load_audio_measure(spec) for spec in dict.fromkeys(specs) if spec != "none"):
        reason = measure.unavailable()
        if reason is None:
            measures.append(measure)
        elif names is not None:
            raise ValueError(f"cannot measure {measure.name!r}: {reason}")
        else:
            notes.append(f"Not measured: {reason}.")
    return measures


def _check_pairs(clips: AudioPairs, measures: Sequence[AudioMeasure], asked: str | None) -> None:
    """Raise if a measure of pairs is asked for and there are none."""
    paired = [measure.name for measure in measures if measure.paired]
    if asked is not None and paired and not any(sound.paired for sound in clips.sounds):
        raise ValueError(
            f"{', '.join(paired)} compare pairs of one name, and no file has the same name in {clips.real.path!r} "
            f"({clips.real.names[0]!r}, ...) and {clips.fake.path!r} ({clips.fake.names[0]!r}, ...); name the "
            "generated files as the real ones, or leave these metrics out"
        )
