"""From a recipe's settings to the objects that they name."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset

from passband._checks import import_extra
from passband.data import Checkerboard, ImageFolder
from passband.process import EDM, VP, Flow, Process, cosine_alphas_cumprod, linear_alphas_cumprod
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
from passband.training import config

if TYPE_CHECKING:
    from diffusers import UNet2DModel

_SCHEDULES = {"linear": linear_alphas_cumprod, "cosine": cosine_alphas_cumprod}


def build_process(settings: config.VPProcess | config.EDMProcess | config.FlowProcess) -> Process:
    """The process that the settings name."""
    options = settings.model_dump(exclude={"name"})
    if isinstance(settings, config.VPProcess):
        return VP(settings.prediction, alphas_cumprod=_SCHEDULES[settings.schedule](settings.steps))
    return EDM(**options) if isinstance(settings, config.EDMProcess) else Flow(**options)


def build_dataset(settings: config.ImagesData | config.CheckerboardData) -> Dataset[Tensor]:
    """The data set that the settings name.

    Raises:
        FileNotFoundError, ValueError: if the data cannot be read; see [`ImageFolder`][passband.data.ImageFolder].

    """
    if isinstance(settings, config.CheckerboardData):
        return Checkerboard(settings.resolution, settings.cells, length=settings.length, seed=settings.seed)
    return ImageFolder(
        settings.path,
        settings.resolution,
        crop=settings.crop,
        channels=settings.channels,
        subset=settings.subset,
        eval_share=settings.eval_share,
        limit=settings.limit,
        strict=settings.strict,
    )


def build_model(settings: config.UNetModel, shape: tuple[int, int, int], seed: int) -> "UNet2DModel":
    """The U-Net for samples of a shape, its initial weights drawn from the seed.

    Raises:
        ValueError: if a pretrained network has other channels than the data.
        OSError: if there is no saved network at `pretrained`, or it is damaged.

    """
    channels, height, width = shape
    if settings.pretrained is not None:
        model = load_network(settings.pretrained)
        if model.config["in_channels"] != channels:
            raise ValueError(
                f"the network at {str(settings.pretrained)!r} has {model.config['in_channels']} channels, the data "
                f"{channels}; set data.channels"
            )
        return model
    diffusers = import_extra("diffusers", "train")
    levels = range(len(settings.block_out_channels))
    attention = [level in settings.attention_levels for level in levels]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return diffusers.UNet2DModel(
            sample_size=(height, width),
            in_channels=channels,
            out_channels=channels,
            block_out_channels=settings.block_out_channels,
            layers_per_block=settings.layers_per_block,
            down_block_types=tuple("AttnDownBlock2D" if has else "DownBlock2D" for has in attention),
            up_block_types=tuple("AttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attention)),
            add_attention=settings.mid_attention,
            attention_head_dim=settings.attention_head_dim,
            norm_num_groups=settings.norm_num_groups,
            dropout=settings.dropout,
        )


def load_network(folder: Path) -> "UNet2DModel":
    """A U-Net as diffusers saves it, from safetensors alone: nothing is unpickled.

    Raises:
        OSError: if there is none, or it is damaged.
        ValueError: if its weights do not fit its configuration.

    """
    diffusers = import_extra("diffusers", "train")
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(
            f"there is no saved network at {str(folder)!r}: expected a folder with config.json and *.safetensors"
        )
    model, found = diffusers.UNet2DModel.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    if found["missing_keys"]:
        raise ValueError(
            f"the network at {str(folder)!r} lacks the weights {sorted(found['missing_keys'])[:3]} and more"
        )
    return model


def build_regularizer(settings: config.RegularizerSettings | None) -> SpectralRegularizer | None:
    """The spectral term that the settings name, None without."""
    if settings is None:
        return None
    losses = [(term.scale, _build_loss(term)) for term in settings.losses]
    alone = len(losses) == 1 and losses[0][0] == 1
    gate = None if settings.gate is None else NoiseRatioGate(**settings.gate.model_dump())
    return SpectralRegularizer(losses[0][1] if alone else WeightedSum(losses), _build_weight(settings.weight), gate)


def _build_loss(term: config.Term) -> SpectralLoss:
    options = term.model_dump(exclude={"name", "scale"})
    return _LOSSES[term.name](**options)


def _build_weight(
    weight: float | str | config.EDMWeightSettings | config.ShareWeightSettings,
) -> float | str | Weight:
    if isinstance(weight, config.EDMWeightSettings):
        return EDMWeight(weight.edm)
    if isinstance(weight, config.ShareWeightSettings):
        return GradientShare(weight.share)
    return weight


_LOSSES: dict[str, type[SpectralLoss]] = {
    "amplitude": AmplitudeLoss,
    "amplitude_phase": AmplitudePhaseLoss,
    "wavelet": WaveletLoss,
    "focal_frequency": FocalFrequencyLoss,
    "pixel": PixelLoss,
}
