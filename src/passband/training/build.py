"""From a recipe's settings to the objects that they name."""

from torch import Tensor
from torch.utils.data import Dataset

from passband.data import Checkerboard, HubImages, ImageFolder
from passband.process import (
    EDM,
    VP,
    Flow,
    Process,
    VEPreconditioned,
    VPPreconditioned,
    cosine_alphas_cumprod,
    linear_alphas_cumprod,
)
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

_SCHEDULES = {"linear": linear_alphas_cumprod, "cosine": cosine_alphas_cumprod}


def build_process(settings: sections.AnyProcess) -> Process:
    """The process that the settings name."""
    options = settings.model_dump(exclude={"name"})
    if isinstance(settings, sections.VPProcess):
        return VP(settings.prediction, alphas_cumprod=_SCHEDULES[settings.schedule](settings.steps))
    return _PROCESSES[settings.name](**options)


_PROCESSES: dict[str, type[Process]] = {
    "edm": EDM,
    "edm_vp": VPPreconditioned,
    "edm_ve": VEPreconditioned,
    "flow": Flow,
}


def build_dataset(settings: sections.AnyData) -> Dataset[Tensor]:
    """The data set that the settings name.

    Raises:
        FileNotFoundError, ValueError: if the data cannot be read; see [`ImageFolder`][passband.data.ImageFolder].

    """
    if isinstance(settings, sections.CheckerboardData):
        return Checkerboard(settings.resolution, settings.cells, length=settings.length, seed=settings.seed)
    options = settings.model_dump(exclude={"name", "path", "resolution", "flip", "augment", "workers"})
    images = ImageFolder if isinstance(settings, sections.ImagesData) else HubImages
    return images(settings.path, settings.resolution, **options)


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
