"""From a recipe's settings to the objects that they name."""

from torch import Tensor
from torch.utils.data import Dataset

from passband.data import Checkerboard, HubImages, ImageFolder, PowerLawFields
from passband.forcing import SpectralForcing, front_from_config
from passband.process import Process, process_from_record
from passband.regularization import (
    AmplitudeLoss,
    AmplitudePhaseLoss,
    EDMWeight,
    FocalFrequencyLoss,
    GradientShare,
    NoiseRatioGate,
    PixelLoss,
    SpectralLoss,
    SpectralRegularizer,
    WaveletLoss,
    Weight,
    WeightedSum,
)
from passband.training import sections
from passband.training.sections import ContourFrontSettings


def build_process(settings: sections.AnyProcess) -> Process:
    """The process that the settings name."""
    return process_from_record(settings.model_dump())


def build_dataset(settings: sections.AnyData) -> Dataset[Tensor]:
    """The data set that the settings name.

    Raises:
        FileNotFoundError, ValueError: if the data cannot be read; see [`ImageFolder`][passband.data.ImageFolder].

    """
    if isinstance(settings, sections.CheckerboardData):
        return Checkerboard(settings.resolution, settings.cells, length=settings.length, seed=settings.seed)
    if isinstance(settings, sections.PowerLawData):
        return PowerLawFields(**settings.model_dump(exclude={"name"}))
    options = settings.model_dump(exclude={"name", "path", "resolution", "flip", "augment", "workers"})
    images = ImageFolder if isinstance(settings, sections.ImagesData) else HubImages
    return images(settings.path, settings.resolution, **options)


def build_forcing(
    settings: sections.ForcingSettings | None, process: Process, size: tuple[int, int]
) -> SpectralForcing | None:
    """The Spectral Forcing that the settings name, None without.

    Args:
        settings: a recipe's section `forcing`.
        process: the process that is trained.
        size: (height, width) of the data.

    Raises:
        ValueError: if an option is out of its range.

    """
    if settings is None:
        return None
    front = settings.front.model_dump()
    if isinstance(settings.front, ContourFrontSettings) and settings.front.size is None:
        front["size"] = size
    options = settings.model_dump(exclude={"front"})
    return SpectralForcing(process, front_from_config(front), **options)


def build_regularizer(settings: sections.RegularizerSettings | None) -> SpectralRegularizer | None:
    """The spectral term that the settings name, None without."""
    if settings is None:
        return None
    losses = [(term.scale, _build_loss(term)) for term in settings.losses]
    alone = len(losses) == 1 and losses[0][0] == 1
    gate = None if settings.gate is None else NoiseRatioGate(**settings.gate.model_dump())
    return SpectralRegularizer(losses[0][1] if alone else WeightedSum(losses), _build_weight(settings.weight), gate)


def _build_loss(term: sections.Term) -> SpectralLoss:
    options = term.model_dump(exclude={"name", "scale"})
    return _LOSSES[term.name](**options)


def _build_weight(
    weight: float | str | sections.EDMWeightSettings | sections.ShareWeightSettings,
) -> float | str | Weight:
    if isinstance(weight, sections.EDMWeightSettings):
        return EDMWeight(weight.edm)
    if isinstance(weight, sections.ShareWeightSettings):
        return GradientShare(weight.share)
    return weight


_LOSSES: dict[str, type[SpectralLoss]] = {
    "amplitude": AmplitudeLoss,
    "amplitude_phase": AmplitudePhaseLoss,
    "wavelet": WaveletLoss,
    "focal_frequency": FocalFrequencyLoss,
    "pixel": PixelLoss,
}
