"""From a recipe's settings to the objects that they name."""

from typing import Annotated, Any

import torch
from pydantic import Discriminator, TypeAdapter
from torch import nn
from torch.utils.data import Dataset

from passband._checks import import_extra
from passband.data import AudioFolder, Checkerboard, HubImages, ImageFolder, ImageSamples, LatentShards, PowerLawFields
from passband.forcing import SpectralForcing, front_from_config
from passband.integrations.autoencoder import load_network
from passband.process import Process, process_from_record
from passband.regularization import CleanEstimate, DDIMEstimate, SpectralRegularizer, tweedie
from passband.training import sections
from passband.training.batches import Reading
from passband.training.config import AnyRecipe, Recipe
from passband.training.sections import ContourFrontSettings


def build_process(settings: sections.AnyProcess) -> Process:
    """The process that the settings name."""
    return process_from_record(settings.model_dump())


def build_dataset(settings: sections.AnyData, *, images: bool = False) -> Dataset[Any]:
    """The data set that the settings name.

    Args:
        settings: a recipe's section `data`.
        images: of latents, read the images that were encoded too.

    Raises:
        FileNotFoundError, ValueError: if the data cannot be read; see [`ImageFolder`][passband.data.ImageFolder].

    """
    if isinstance(settings, sections.CheckerboardData):
        return Checkerboard(settings.resolution, settings.cells, length=settings.length, seed=settings.seed)
    if isinstance(settings, sections.PowerLawData):
        return PowerLawFields(**settings.model_dump(exclude={"name"}))
    if isinstance(settings, sections.LatentsData):
        return _build_latents(settings, images)
    if isinstance(settings, sections.AudioData):
        return build_audio(settings)
    options = settings.model_dump(exclude={"name", "path", "resolution", "flip", "augment", "workers"})
    pictures: Any = ImageFolder if isinstance(settings, sections.ImagesData) else HubImages
    return pictures(settings.path, settings.resolution, **options)  # type: ignore[no-any-return]


def build_audio(settings: sections.AudioData) -> AudioFolder:
    """The crops of audio files, with the surroundings that their mel spectrograms depend on.

    Raises:
        FileNotFoundError, ValueError: if the files cannot be read; see [`AudioFolder`][passband.data.AudioFolder].

    """
    mel = sections.build_mel(settings)
    options = settings.model_dump(exclude={"name", "path", "sample_rate", "frames", "mel", "workers"})
    options |= {"length": settings.length, "hop_length": mel.hop_length, "margin": mel.margin}
    return AudioFolder(settings.path, settings.sample_rate, **options)


def _build_latents(settings: sections.LatentsData, images: bool) -> LatentShards:
    found = LatentShards(settings.path)
    if found.shape != settings.shape:
        raise ValueError(
            f"the latents in {str(settings.path)!r} are {list(found.shape)}, the recipe's data.shape is "
            f"{list(settings.shape)}: set it to that"
        )
    if settings.flip and not found.flips:
        raise ValueError(
            f"data.flip needs the latents of the flipped images, which {str(settings.path)!r} does not hold: encode "
            "with --flips, or set data.flip to false"
        )
    if images:
        if found.data is None:
            raise ValueError(
                f"a teacher looks at the images, and {str(settings.path)!r} does not say which they are: store its "
                "features (encode with --teacher), and name them stored:NAME in alignment.teachers"
            )
        encoded = build_dataset(_DATA.validate_python(found.data))
        assert isinstance(encoded, ImageSamples)
        found.with_images(encoded)
    return found


def classes_of(dataset: Dataset[Any]) -> int:
    """How many classes the samples of a data set have, 0 without labels."""
    return dataset.num_classes if isinstance(dataset, ImageSamples | LatentShards) else 0


def reading_of(recipe: AnyRecipe) -> Reading:
    """How the samples of a recipe's data are read."""
    if not isinstance(recipe.data, sections.LatentsData):
        return Reading(flip=recipe.data.flip)
    alignment = recipe.alignment if isinstance(recipe, Recipe) else None
    stored = () if alignment is None else alignment.stored
    return Reading(recipe.data.flip, recipe.data.posterior == "sample", stored)


def build_autoencoder(settings: sections.AutoencoderKLModel, shape: tuple[int, int, int], seed: int) -> nn.Module:
    """Diffusers' AutoencoderKL for images of a shape, its first weights drawn from the seed, or the pretrained one.

    Raises:
        ValueError: if a pretrained one has other channels, or halves the sides of images to no whole number.
        OSError: if there is none at `pretrained`, or it is damaged.
        MissingExtraError: if diffusers is not installed.

    """
    if settings.pretrained is not None:
        network = load_network(settings.pretrained)
        _check_autoencoder(network, str(settings.pretrained), shape)
    else:
        diffusers, levels = import_extra("diffusers", "train"), len(settings.block_out_channels)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = diffusers.AutoencoderKL(
                in_channels=shape[0],
                out_channels=shape[0],
                down_block_types=("DownEncoderBlock2D",) * levels,
                up_block_types=("UpDecoderBlock2D",) * levels,
                block_out_channels=settings.block_out_channels,
                layers_per_block=settings.layers_per_block,
                latent_channels=settings.latent_channels,
                norm_num_groups=settings.norm_num_groups,
                mid_block_add_attention=settings.mid_attention,
                sample_size=shape[1],
            )
    if settings.gradient_checkpointing:
        network.enable_gradient_checkpointing()  # type: ignore[operator]
    return network


def _check_autoencoder(network: nn.Module, where: str, shape: tuple[int, int, int]) -> None:
    config: Any = network.config
    if config["in_channels"] != shape[0]:
        raise ValueError(
            f"the autoencoder at {where!r} takes {config['in_channels']} channels, the data has {shape[0]}; set "
            "data.channels"
        )
    factor = 2 ** (len(config["block_out_channels"]) - 1)
    if any(side % factor for side in shape[1:]):
        raise ValueError(
            f"the autoencoder at {where!r} needs sides divisible by {factor}, the data has {shape[1]} x {shape[2]}; "
            "set data.resolution"
        )


def build_forcing(
    settings: sections.ForcingSettings | None, process: Process, size: tuple[int, ...]
) -> SpectralForcing | None:
    """The Spectral Forcing that the settings name, None without.

    Args:
        settings: a recipe's section `forcing`.
        process: the process that is trained.
        size: the sides of the data.

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
    plain = settings.model_dump(include={"weight", "gate"})
    losses = [term.model_dump() for term in settings.losses]
    return SpectralRegularizer(losses, clean_estimate=_build_clean_estimate(settings.clean_estimate), **plain)


def _build_clean_estimate(estimate: str | sections.DDIMSettings) -> CleanEstimate:
    return DDIMEstimate(estimate.ddim) if isinstance(estimate, sections.DDIMSettings) else tweedie


_DATA: TypeAdapter[sections.AnyData] = TypeAdapter(Annotated[sections.AnyData, Discriminator("name")])
