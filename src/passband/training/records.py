"""What lies beside an imported network: its process, and the spectrograms that it is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Discriminator, Field, TypeAdapter, ValidationError

from passband.training.checkpoint import CheckpointError
from passband.training.sections import AnyProcess, MelSettings
from passband.transforms import MelSpectrogram

Found = TypeVar("Found")


class _MelRecord(MelSettings):
    """What a mel.json holds."""

    sample_rate: int = Field(ge=1)


_PROCESS: TypeAdapter[AnyProcess] = TypeAdapter(Annotated[AnyProcess, Discriminator("name")])
_MEL = TypeAdapter(_MelRecord)


def read_process(file: Path) -> AnyProcess:
    """The process that a process.json describes.

    Raises:
        CheckpointError: if it cannot be read.

    """
    return _read(_PROCESS.validate_json, file)


def read_mel(file: Path) -> MelSpectrogram:
    """The spectrograms that a mel.json describes.

    Raises:
        CheckpointError: if it cannot be read.

    """
    found = _read(_MEL.validate_json, file)
    try:
        return MelSpectrogram(**found.model_dump())
    except ValueError as error:
        raise CheckpointError(f"{str(file)!r} makes no spectrogram: {error}; import the checkpoint again") from error


def _read(parse: Callable[[bytes], Found], file: Path) -> Found:
    try:
        return parse(file.read_bytes())
    except (OSError, ValueError) as error:
        fault = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise CheckpointError(f"{str(file)!r} cannot be read ({fault}); import the checkpoint again") from error
