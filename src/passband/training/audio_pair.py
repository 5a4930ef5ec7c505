"""Two paths of audio opened so that they can be compared: folders of clips, and what was measured of some before."""

from collections.abc import Mapping
from pathlib import Path

from passband.training.audio_samples import AudioSet, open_clips
from passband.training.measured_files import holds_measured, load_measured
from passband.training.measured_set import MeasuredSet
from passband.training.progress import OnProgress


def open_audio(
    real: Path,
    fakes: Mapping[str, Path],
    sample_rate: int | None = None,
    *,
    limit: int | None = None,
    strict: bool = False,
    on_progress: OnProgress | None = None,
) -> tuple[AudioSet | MeasuredSet, list[AudioSet | MeasuredSet]]:
    """Open the reference, and the sets that are compared with it, at one sample rate.

    Args:
        real: a folder of clips, or what was measured of one.
        fakes: what each is called, and where it is: likewise.
        sample_rate: to which clips are resampled, Hz; None: that of what was measured, or the lowest of the folders'
            commonest rates.
        limit: use this many files of each at most.
        strict: raise at the first file that cannot be used.
        on_progress: told about the reading of headers.

    Raises:
        FileNotFoundError: if there is nothing at a path.
        ValueError: if a folder has no file that can be used, or sample rates differ.

    """
    paths = {"real": real, **fakes}
    measured = {name: load_measured(path, f"{name} clips") for name, path in paths.items() if holds_measured(path)}
    rates = [_agreed(paths[name], side.spectrum.sample_rate, sample_rate) for name, side in measured.items()]
    folders = {name: path for name, path in paths.items() if name not in measured}
    rate = rates[0] if rates else sample_rate
    clips = open_clips(folders, rate, limit=limit, strict=strict, on_progress=on_progress) if folders else []
    opened: dict[str, AudioSet | MeasuredSet] = measured | dict(zip(folders, clips, strict=True))
    return opened["real"], [opened[name] for name in fakes]


def _agreed(path: Path, found: int | None, asked: int | None) -> int:
    if found is None:
        raise ValueError(
            f"both must hold the same kind of samples; {str(path)!r} was measured of something else than audio"
        )
    if asked not in (None, found):
        raise ValueError(
            f"{str(path)!r} was measured at {found} Hz: give --sample-rate {found}, or measure it again at {asked} Hz"
        )
    return found
