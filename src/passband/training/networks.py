"""The networks that recipes name: built, loaded, and asked what they take."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from passband._checks import import_extra
from passband.models import EDMUNet, load_model
from passband.training.sections import EDMUNetModel, Model, UNetModel

_FORMS: dict[str, dict[str, Any]] = {
    "ddpmpp": {
        "embedding_type": "positional",
        "encoder_type": "standard",
        "channel_mult_noise": 1,
        "resample_filter": (1, 1),
    },
    "ncsnpp": {
        "embedding_type": "fourier",
        "encoder_type": "residual",
        "channel_mult_noise": 2,
        "resample_filter": (1, 3, 3, 1),
    },
}


def build_network(settings: Model, shape: tuple[int, int, int], seed: int, num_classes: int = 0) -> nn.Module:
    """The network for samples of a shape, its initial weights drawn from the seed, or the pretrained one.

    Args:
        settings: a recipe's section `model`.
        shape: (channels, height, width) of a sample.
        seed: of the initial weights.
        num_classes: of the data; used where the settings are class-conditional.

    Raises:
        ValueError: if a pretrained network has other channels, another resolution or other classes than the data.
        OSError: if there is no saved network at `pretrained`, or it is damaged.

    """
    classes = num_classes if settings.class_conditional else 0
    if settings.pretrained is None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return (
                _edm_unet(settings, shape, classes)
                if isinstance(settings, EDMUNetModel)
                else _unet(settings, shape, classes)
            )
    network = load_network(settings.pretrained)
    if isinstance(settings, EDMUNetModel) != isinstance(network, EDMUNet):
        raise ValueError(
            f"the network at {str(settings.pretrained)!r} is of the class {type(network).__name__}, which "
            f"model.name {settings.name!r} is not: set it to {'edm_unet' if isinstance(network, EDMUNet) else 'unet'}"
        )
    _check_fits(network, settings, shape, classes)
    return _with_dropout(network, settings)


def load_network(folder: Path) -> nn.Module:
    """A network as its library saves it, from safetensors alone: nothing is unpickled.

    Raises:
        OSError: if there is none, or it is damaged.
        ValueError: if its weights do not fit its configuration.

    """
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        hint = "; of a run, take checkpoints/step-N/ema" if (folder / "recipe.yaml").is_file() else ""
        raise FileNotFoundError(
            f"there is no saved network at {str(folder)!r}: expected a folder with config.json and *.safetensors{hint}"
        )
    if _class_name(folder / "config.json") != "UNet2DModel":
        return load_model(folder)
    diffusers = import_extra("diffusers", "train")
    network, found = diffusers.UNet2DModel.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    if found["missing_keys"]:
        raise ValueError(
            f"the network at {str(folder)!r} lacks the weights {sorted(found['missing_keys'])[:3]} and more"
        )
    assert isinstance(network, nn.Module)
    return network


def _class_name(file: Path) -> object:
    try:
        config = json.loads(file.read_text())
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise ValueError(f"{str(file)!r} is damaged: it holds no JSON object; save or import the network again")
    return config.get("_class_name")


def network_shape(network: nn.Module) -> tuple[int, int, int]:
    """(channels, height, width) of the samples that a network was made for."""
    config = _config(network)
    if isinstance(network, EDMUNet):
        return config["img_channels"], config["img_resolution"], config["img_resolution"]
    size = config["sample_size"]
    height, width = (size, size) if isinstance(size, int) else size
    return config["in_channels"], height, width


def class_inputs(network: nn.Module) -> int:
    """How many classes a network tells apart, 0 without; a null class counts, where it has one."""
    config = _config(network)
    return int(config["label_dim"] if isinstance(network, EDMUNet) else config.get("num_class_embeds") or 0)


def augment_inputs(network: nn.Module) -> int:
    """The width of the augmentation labels that a network takes, 0 without."""
    return int(_config(network)["augment_dim"]) if isinstance(network, EDMUNet) else 0


def _config(network: nn.Module) -> Mapping[str, Any]:
    found: Any = network.config
    return dict(found)


def _unet(settings: UNetModel, shape: tuple[int, int, int], classes: int) -> nn.Module:
    diffusers = import_extra("diffusers", "train")
    channels, height, width = shape
    levels = range(len(settings.block_out_channels))
    attention = [level in settings.attention_levels for level in levels]
    network = diffusers.UNet2DModel(
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
        # With label dropout, the last class is the null class.
        num_class_embeds=classes + (settings.label_dropout > 0) if classes else None,
    )
    assert isinstance(network, nn.Module)
    return network


def _edm_unet(settings: EDMUNetModel, shape: tuple[int, int, int], classes: int) -> EDMUNet:
    channels, height, _ = shape
    return EDMUNet(
        img_resolution=height,
        img_channels=channels,
        label_dim=classes,
        augment_dim=settings.augment_dim,
        model_channels=settings.model_channels,
        channel_mult=settings.channel_mult,
        num_blocks=settings.num_blocks,
        attn_resolutions=settings.attn_resolutions,
        dropout=0.1 if settings.dropout is None else settings.dropout,
        **_FORMS[settings.form],
    )


def _check_fits(network: nn.Module, settings: Model, shape: tuple[int, int, int], classes: int) -> None:
    where = f"the network at {str(settings.pretrained)!r}"
    channels, height, _ = network_shape(network)
    if channels != shape[0]:
        raise ValueError(f"{where} has {channels} channels, the data {shape[0]}; set data.channels")
    if isinstance(network, EDMUNet) and height != shape[1]:
        raise ValueError(
            f"{where} was made for {height} x {height} pixels, the data has {shape[1]}; set data.resolution"
        )
    if not isinstance(network, EDMUNet):
        _check_unet(_config(network), where, shape)
    null = isinstance(settings, UNetModel) and settings.label_dropout > 0
    if classes and class_inputs(network) != classes + null:
        raise ValueError(
            f"{where} takes {class_inputs(network) or 'no'} classes, the data has {classes}; use the data it was "
            "trained on, or set model.class_conditional to false"
        )
    if class_inputs(network) and not classes:
        raise ValueError(
            f"{where} is class-conditional: set model.class_conditional to true and data.labels to json or folder"
        )


def _check_unet(config: Mapping[str, Any], where: str, shape: tuple[int, int, int]) -> None:
    if config["out_channels"] != config["in_channels"]:
        raise ValueError(
            f"{where} gives {config['out_channels']} channels for {config['in_channels']}: one that learns the "
            "variance too cannot be trained here"
        )
    unit = 2 ** (len(config["block_out_channels"]) - 1)
    if shape[1] % unit:
        raise ValueError(
            f"{where} needs a resolution divisible by {unit}, the data has {shape[1]}; set data.resolution"
        )


def _with_dropout(network: nn.Module, settings: Model) -> nn.Module:
    """The network with the settings' dropout, if they name one and it has another."""
    if not isinstance(network, EDMUNet) or settings.dropout in (None, network.config["dropout"]):
        return network
    changed = EDMUNet(**{**network.config, "dropout": settings.dropout})
    changed.load_state_dict(network.state_dict())
    return changed
