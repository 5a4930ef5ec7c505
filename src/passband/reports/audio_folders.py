"""Two folders of audio, clip by clip: Fréchet distance, measures of those of one name, what to listen to."""

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from torch import Tensor

from passband.data import AudioFolder
from passband.metrics import AudioEmbedding, AudioMeasure, FrechetAudioDistance
from passband.reports.audio_results import FrechetComparison, MeasuredClips
from passband.reports.listening import ListeningClip, ListeningRow

_HALVES_FROM = 8  # real clips for the Fréchet distance of two halves


class Sound(NamedTuple):
    """One sound of either side or of both.

    Attributes:
        name: the file's name without suffix.
        real: its place among the real files, or None.
        fake: its place among the generated files, or None.
        number: pairs are numbered first; then the rest of each side, for itself.

    """

    name: str
    real: int | None
    fake: int | None
    number: int

    @property
    def paired(self) -> bool:
        """Whether both sides have it."""
        return self.real is not None and self.fake is not None


def pair_by_name(real: Sequence[str], fake: Sequence[str], limit: int | None = None) -> list[Sound]:
    """Sounds of both sides, those of one name (without suffix) together; pairs first, then real, then fake ones.

    Args:
        real: names of the real files.
        fake: names of the generated files.
        limit: keep this many of each side at most, pairs first.

    Example:
        >>> from passband.reports.audio_folders import pair_by_name
        >>> [(sound.name, sound.real, sound.fake) for sound in pair_by_name(["a.wav", "b.wav"], ["b.flac", "c.flac"])]
        [('b', 1, 0), ('a', 0, None), ('c', None, 1)]

    """
    stems = [{str(PurePosixPath(name).with_suffix("")): i for i, name in enumerate(names)} for names in (real, fake)]
    both = sorted(stems[0].keys() & stems[1].keys())
    sounds = [Sound(name, stems[0][name], stems[1][name], number) for number, name in enumerate(both)]
    for side, names in enumerate((real, fake)):
        taken = {stems[side][name] for name in both}
        alone = [(i, name) for i, name in enumerate(names) if i not in taken]
        for number, (i, name) in enumerate(alone, len(both)):
            stem = str(PurePosixPath(name).with_suffix(""))
            # A second file of one stem keeps its suffix, so that each sound has a name of its own.
            shown = stem if stems[side][stem] == i else name
            sounds.append(Sound(shown, i, None, number) if side == 0 else Sound(shown, None, i, number))
    return [sound for sound in sounds if limit is None or sound.number < limit]


class AudioPairs(NamedTuple):
    """Two folders and which of their files belong together."""

    real: AudioFolder
    fake: AudioFolder
    sounds: list[Sound]

    @property
    def sample_rate(self) -> int:
        """Of both."""
        return self.real.sample_rate

    def load(self, sound: Sound) -> tuple[Tensor | None, Tensor | None]:
        """The clips of a sound; None where a side has none, or it turns out to be broken (see `skipped`)."""
        return _clip(self.real, sound.real), _clip(self.fake, sound.fake)


def _clip(data: AudioFolder, number: int | None) -> Tensor | None:
    if number is None:
        return None
    try:
        return data.clip(number).audio
    except ValueError:
        if data.strict:
            raise
        return None


class AudioFound(NamedTuple):
    """What was measured of two folders of audio.

    Attributes:
        frechet: the Fréchet audio distance, if there are enough windows.
        measured: clip by clip, one entry per measure that applies to a clip at all.
        pairs: number of sounds that both sides have.
        notes: what a reader must know.

    """

    frechet: FrechetComparison | None
    measured: list[MeasuredClips]
    pairs: int
    notes: list[str]


def measure_audio(
    clips: AudioPairs,
    measures: Sequence[AudioMeasure],
    embedding: AudioEmbedding,
    step: Callable[[], None] = lambda: None,
) -> AudioFound:
    """Read all clips once and measure them.

    Args:
        clips: the folders.
        measures: what is measured clip by clip; paired ones where both sides have the sound.
        embedding: of the Fréchet audio distance.
        step: called after each sound.

    Raises:
        ValueError: if a clip cannot be decoded and the folders are strict.

    """
    frechet = _Frechet(embedding, clips.sample_rate)
    values: dict[str, dict[str, float]] = {measure.name: {} for measure in measures}
    of_real: dict[str, list[float]] = {measure.name: [] for measure in measures}
    pairs, unequal = 0, 0
    for sound in clips.sounds:
        real, fake = clips.load(sound)
        frechet.update(real, fake)
        if real is not None and fake is not None:
            pairs += 1
            unequal += abs(len(real) - len(fake)) > 0.1 * max(len(real), len(fake))
        for measure in measures:
            if fake is not None and (real is not None or not measure.paired):
                values[measure.name][sound.name] = measure(fake, real, clips.sample_rate)
            if real is not None and not measure.paired:
                of_real[measure.name].append(measure(real, None, clips.sample_rate))
        step()
    notes = []
    if unequal:
        notes.append(
            f"{unequal} of {pairs} pairs differ in length by more than a tenth; each is measured up to its shorter end."
        )
    distance = frechet.compute(notes)
    measured = [
        MeasuredClips(measure, tuple(found), tuple(found.values()), tuple(of_real[measure.name]))
        for measure in measures
        if (found := values[measure.name])
    ]
    return AudioFound(distance, measured, pairs, notes)


class _Frechet:
    """The Fréchet audio distance, and that of two halves of the real clips: those of even and of odd place."""

    def __init__(self, embedding: AudioEmbedding, rate: int) -> None:
        self.distance, self.halves = FrechetAudioDistance(embedding), FrechetAudioDistance(embedding)
        self.rate, self.count, self.too_short = rate, 0, 0

    def update(self, real: Tensor | None, fake: Tensor | None) -> None:
        if real is not None:
            self._add(self.halves, "fake" if self.count % 2 else "real", real)
            self.count += 1
        if fake is not None:
            self._add(self.distance, "fake", fake)

    def _add(self, distance: FrechetAudioDistance, side: str, audio: Tensor) -> None:
        try:
            if side == "real":
                distance.update(real=audio, sample_rate=self.rate)
            else:
                distance.update(fake=audio, sample_rate=self.rate)
        except ValueError:  # clips are finite here: what is left is that it is too short for the embedding
            self.too_short += 1

    def compute(self, notes: list[str]) -> FrechetComparison | None:
        if self.too_short:
            notes.append(
                f"Left out of the Fréchet audio distance: {self.too_short} clips, too short for the embedding."
            )
        self.distance.real.merge(self.halves.real)
        self.distance.real.merge(self.halves.fake)
        try:
            result = self.distance.compute()
            reference = self.halves.compute().distance if self.count >= _HALVES_FROM else None
        except ValueError as error:
            notes.append(f"No Fréchet audio distance: {error}")
            return None
        return FrechetComparison(result, reference)


def listening_rows(clips: AudioPairs, found: AudioFound, count: int) -> tuple[list[ListeningRow], str]:
    """Clips to listen to, (real, fake) in each row, and how they were chosen.

    Args:
        clips: the folders.
        found: what was measured of them.
        count: rows at most: half of them the first pairs, half those that the first paired measure finds worst. Where
            there are no pairs, the first clips of each side.

    """
    pairs = {sound.name: sound for sound in clips.sounds if sound.paired}
    if not pairs:
        sides = ([sound for sound in clips.sounds if getattr(sound, side) is not None] for side in ("real", "fake"))
        rows = [_row(clips, found, real, fake) for real, fake in list(zip(*sides, strict=False))[:count]]
        text = "No file has the same name in both folders, so the clips beside each other are different sounds."
        return [row for row in rows if row is not None], text
    ranking = next((measured for measured in found.measured if measured.measure.paired), None)
    worst = [] if ranking is None else [name for name in ranking.worst(count // 2) if name in pairs]
    first = [name for name in pairs if name not in worst][: count - len(worst)]
    rows = [_row(clips, found, pairs[name], pairs[name]) for name in [*first, *worst]]
    text = "The first pairs of files of one name"
    if ranking is not None and worst and first:
        text += f", then the worst by {ranking.measure.name}, the worst first"
    return [row for row in rows if row is not None], f"{text}."


def _row(clips: AudioPairs, found: AudioFound, real: Sound, fake: Sound) -> ListeningRow | None:
    audio = clips.load(real)[0], clips.load(fake)[1]
    if audio[0] is None and audio[1] is None:
        return None
    numbers = {
        measured.measure.name: dict(zip(measured.names, measured.fake, strict=True))[fake.name]
        for measured in found.measured
        if fake.name in measured.names
    }
    rate = clips.sample_rate
    return ListeningRow(
        real.name if real.name == fake.name else f"{real.name} · {fake.name}",
        [
            None if audio[0] is None else ListeningClip(audio[0], rate),
            None if audio[1] is None else ListeningClip(audio[1], rate, numbers),
        ],
    )
