"""How two sets of samples are compared, and what is checked before anything is measured."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from passband._checks import check_choice, check_integer
from passband.forcing.operator import check_kappa
from passband.metrics.planes import SampleKind
from passband.process import EDM, VP, Flow, Process
from passband.training.compare_audio import AudioSettings
from passband.training.measured_set import MeasuredSet, Measuring
from passband.training.sample_paths import Opening, Pair, Side, kind_of_side, sample_rate_of
from passband.transforms.taper import TAPERS, Taper

PROCESSES: dict[str, Callable[[], Process]] = {"flow": lambda: Flow(data_at=1), "vp": VP, "edm": EDM}


@dataclass(frozen=True)
class CompareSettings:
    """How two sets of samples are compared.

    Args:
        opening: how samples are read.
        audio: what is measured of clips beside their spectra.
        taper: "hann", or "none" for samples that are periodic.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        workers: processes; None: as many as are worth it.
        process: noising process whose time is shown beside the fronts of Spectral Forcing: "flow", "vp" or "edm".
        kappa: steepness of its mask.
        window: side of its windows; None: whole images.
        exact: its exact variant.

    Raises:
        TypeError: if a number is none.
        ValueError: if one is out of range, or a name unknown.

    """

    opening: Opening = field(default_factory=Opening)
    audio: AudioSettings = field(default_factory=AudioSettings)
    taper: Taper = "hann"
    replicates: int = 200
    seed: int = 0
    workers: int | None = None
    process: str = "flow"
    kappa: float = 30.0
    window: int | None = None
    exact: bool = False

    def __post_init__(self) -> None:
        check_choice("taper", self.taper, TAPERS)
        check_choice("process", self.process, PROCESSES)
        check_kappa(self.kappa)
        for name, value, least in (
            ("replicates", self.replicates, 20),
            ("seed", self.seed, None),
            ("workers", self.workers, 1),
            ("batch_size", self.opening.batch_size, 1),
        ):
            if value is None:
                continue
            check_integer(name, value)
            if least is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")

    def measuring(self, side: Side) -> Measuring:
        """How samples like those of a side are measured."""
        return Measuring(sample_kind(side), self.taper, self.replicates, self.seed, self.window, sample_rate_of(side))


def check_out(out: Path) -> None:
    """Raise unless a page can be written there."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {str(out)!r}: choose another place for the report")
    check_place("--out", out)


def check_place(option: str, path: Path) -> None:
    """Raise where a folder cannot be made or written to, as far as that is known before hours of measuring."""
    folder = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not folder.is_dir():
        raise ValueError(f"{option} cannot be {str(path)!r}, since {str(folder)!r} is a file: choose another place")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"nothing can be written into {str(folder)!r} ({error.strerror}): choose another {option}, or make room"
        ) from error


def check_settings(pair: Pair, settings: CompareSettings) -> None:
    """Raise, before anything is measured, if measured sets were measured otherwise."""
    asked = settings.measuring(pair.real)
    for side in (pair.real, *pair.fake):
        if not isinstance(side, MeasuredSet):
            continue
        found = side.measuring
        keys = ["taper", "replicates", "seed"] + ["window"] * side.has_law  # which is measured in windows
        wrong = [key for key in keys if getattr(found, key) != getattr(asked, key)]
        if wrong:
            raise ValueError(
                f"the measured {side.name} were measured with "
                + ", ".join(f"{key} {getattr(found, key)}" for key in wrong)
                + ": "
                + " and ".join(_as_measured(key, getattr(found, key)) for key in wrong)
                + ", or measure them again"
            )


def _as_measured(key: str, value: object) -> str:
    return f"leave out --{key}" if value is None else f"give --{key} {value}"


def sample_kind(side: Side) -> SampleKind:
    """What the samples of a side are."""
    kinds: dict[str, SampleKind] = {"images": "images", "latents": "latents", "signals": "signals"}
    return kinds[kind_of_side(side)]
