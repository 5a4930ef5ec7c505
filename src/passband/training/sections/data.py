"""What a run is trained on."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from passband.training.sections.settings import Settings
from passband.transforms import MelScale, MelSpectrogram

Side = Annotated[int, Field(ge=4)]


class AugmentSettings(Settings):
    """EDM's non-leaking augmentation, whose labels the network is given."""

    probability: float = Field(0.12, ge=0, le=1)


class PictureData(Settings):
    """What all data sets of pictures have in common."""

    name: str
    path: Path | str
    resolution: Side | tuple[Side, Side] = Field(64, description="Of a sample: its side, or (height, width).")
    crop: Literal["center", "tile"] = "center"
    scale: float = Field(1.0, gt=0)
    channels: Literal[1, 3] = 3
    flip: bool = True
    subset: Literal["all", "train", "eval"] = "all"
    eval_share: float = Field(0.1, ge=0, le=1)
    limit: int | None = Field(None, ge=1)
    augment: AugmentSettings | None = None
    strict: bool = False
    workers: int = Field(0, ge=0)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a sample."""
        return (self.resolution, self.resolution) if isinstance(self.resolution, int) else self.resolution


class ImagesData(PictureData):
    """A folder or zip of images."""

    name: Literal["images"] = "images"
    path: Path
    labels: Literal["none", "json", "folder"] = "none"


class HubData(PictureData):
    """A data set of the Hugging Face library: a folder that it saved, local files, or a name."""

    name: Literal["hub"]
    path: str
    split: str = "train"
    image_column: str = "image"
    label_column: str | None = None


class DrawnData(Settings):
    """What samples that are drawn as they are needed have in common."""

    name: str
    resolution: int
    # What the other kinds of data may do in training, and these do not.
    flip: ClassVar[bool] = False
    augment: ClassVar[AugmentSettings | None] = None
    workers: ClassVar[int] = 0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a sample."""
        return self.resolution, self.resolution


class CheckerboardData(DrawnData):
    """Checkerboards, drawn as they are needed."""

    name: Literal["checkerboard"]
    resolution: int = Field(32, ge=4)
    cells: tuple[int, ...] = (2, 4)
    length: int = Field(1 << 20, ge=1)
    seed: int = 0


class PowerLawData(DrawnData):
    """Gaussian power-law fields with a texture, drawn as they are needed."""

    name: Literal["power_law"]
    resolution: int = Field(32, ge=5)
    beta: float = Field(2.0, ge=0)
    share: float = Field(0.0, ge=0, lt=1, description="Of the power, that the texture has.")
    kind: Literal["noise", "signal"] = Field("noise", description="Whether the low band predicts the texture.")
    cutoff: int | None = Field(None, ge=1)
    std: float = Field(0.3, gt=0)
    channels: Literal[1, 3] = 1
    length: int = Field(1 << 20, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _fits(self) -> "PowerLawData":
        highest = (self.resolution - 2) // 3
        if self.cutoff is not None and self.cutoff > highest:
            raise ValueError(f"cutoff must be at most {highest} for resolution {self.resolution}, got {self.cutoff}")
        return self


class LatentsData(Settings):
    """Latents that `passband encode` wrote."""

    name: Literal["latents"]
    path: Path
    shape: tuple[int, int, int] = Field(description="(channels, height, width) of a latent; latents.json says it.")
    posterior: Literal["sample", "mean"] = "sample"
    labels: Literal["none", "stored"] = "none"
    flip: bool = Field(True, description="Half of the time the latent of the flipped image; needs encode --flips.")
    workers: int = Field(0, ge=0)
    augment: ClassVar[AugmentSettings | None] = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a latent."""
        return self.shape[1:]


class MelSettings(Settings):
    """The mel spectrogram that a vocoder speaks, in torchaudio's terms."""

    n_fft: int = Field(1024, ge=8)
    win_length: int | None = Field(None, ge=8)
    hop_length: int = Field(256, ge=1)
    n_mels: int = Field(80, ge=1)
    f_min: float = Field(20.0, ge=0)
    f_max: float | None = Field(None, gt=0, description="In Hz; default: half the sample rate.")
    scale: MelScale = "htk"
    area_norm: bool = False


class AudioData(Settings):
    """A folder of audio files, of which random crops are taken."""

    name: Literal["audio"]
    path: Path
    sample_rate: int = Field(22050, ge=1000)
    frames: int = Field(62, ge=1, description="Length of a crop, in frames of mel.hop_length samples.")
    mel: MelSettings = MelSettings()
    subset: Literal["all", "train", "eval", "test"] = "all"
    eval_share: float = Field(0.1, ge=0, le=1)
    test_share: float = Field(0.0, ge=0, le=1)
    test_files: tuple[str, ...] = Field((), description="Patterns of file names that are the test set.")
    trim_db: float | None = Field(None, gt=0, description="Cut silence at both ends, so far below the loudest part.")
    limit: int | None = Field(None, ge=1)
    strict: bool = False
    workers: int = Field(0, ge=0)
    flip: ClassVar[bool] = False
    augment: ClassVar[AugmentSettings | None] = None

    @property
    def length(self) -> int:
        """Samples of a crop."""
        return self.frames * self.mel.hop_length

    @model_validator(mode="after")
    def _fits(self) -> "AudioData":
        mel = build_mel(self)
        if self.length <= mel.margin:  # or the run's own samples would be too short for their spectrograms
            raise ValueError(
                f"frames {self.frames} of {mel.hop_length} samples are {self.length}, and must be more than half of "
                f"mel.n_fft, {mel.margin}: set frames to {mel.margin // mel.hop_length + 1} or more (62 is usual)"
            )
        return self


def build_mel(settings: AudioData) -> MelSpectrogram:
    """The mel spectrogram of a recipe's audio.

    Raises:
        ValueError: if the settings make none.

    """
    return MelSpectrogram(settings.sample_rate, **settings.mel.model_dump())


AnyData = ImagesData | HubData | CheckerboardData | PowerLawData | LatentsData | AudioData
