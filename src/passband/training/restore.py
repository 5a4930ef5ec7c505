"""A trained network from a run's folder, or an imported one, ready to sample."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from passband._checks import check_choice, nearest
from passband.forcing import SpectralForcing, attached, recorded
from passband.integrations.autoencoder import Autoencoder
from passband.integrations.autoencoder import load_network as load_autoencoder
from passband.models import DiffWave, JiT
from passband.process import VP, Process
from passband.training.build import build_process
from passband.training.checkpoint import CheckpointError, checkpoint_folder, checkpoints, torn
from passband.training.config import AutoencoderRecipe, FinetuneRecipe, Recipe, denoiser_recipe, load_recipe
from passband.training.decode import AUTOENCODER, LATENTS, LatentDecoder, latent_decoder
from passband.training.families import family_named
from passband.training.networks import data_classes, load_network, network_shape
from passband.training.records import read_mel, read_process
from passband.training.run_folder import RunFolder
from passband.training.sections import (
    AudioData,
    GuidanceSettings,
    LatentsData,
    SamplingSettings,
    build_mel,
    knows_no_class,
)
from passband.transforms import MelSpectrogram

#: How a network may be sampled: as it was trained, without forcing, or with the published one.
FORCINGS = ("recorded", "none", "linear")


class Restored(NamedTuple):
    """A trained network with what it was trained as.

    Attributes:
        model: the network, in evaluation mode.
        process: its process.
        sampling: how the recipe draws samples; EDM's sampler for an imported network.
        sample_shape: (channels, height, width) of a sample; of a latent, for a network that draws latents; of audio
            (1, samples), which a network is free to exceed.
        num_classes: classes that it is given, 0 without.
        step: the checkpoint's step, 0 for an imported network.
        recipe: the run's recipe, None for an imported network.
        weights: whose they are: `ema`, another average's name, or `last`.
        forcing: the Spectral Forcing that is attached to the network, None without.
        decode: from samples to images, for a network that draws latents; None where the samples are images.
        mel: the spectrograms of its audio, with its sample rate and hop; None where the samples are no audio.

    """

    model: nn.Module
    process: Process
    sampling: SamplingSettings
    sample_shape: tuple[int, ...]
    num_classes: int
    step: int
    recipe: Recipe | None
    weights: str = "ema"
    forcing: dict[str, Any] | None = None
    decode: LatentDecoder | None = None
    mel: MelSpectrogram | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a sample as an image."""
        channels, height, width = self.sample_shape if self.decode is None else self.decode.image_shape
        return channels, height, width

    @property
    def is_audio(self) -> bool:
        """Whether its samples are audio."""
        return self.mel is not None

    @property
    def is_vocoder(self) -> bool:
        """Whether it makes audio of spectrograms."""
        return self.mel is not None and not getattr(self.model, "unconditional", False)


def restore(
    root: str | Path, *, step: int | None = None, weights: str = "ema", forcing: str = "recorded", insist: bool = False
) -> Restored:
    """Load the network of a run's checkpoint, or an imported one, in evaluation mode.

    Args:
        root: the run's folder, or that of a network that `passband import` or `passband average` wrote.
        step: the checkpoint's step; default: the newest.
        weights: `ema`, another average of the run (`ema2`), or `last` for those of the last step.
        forcing: `recorded` attaches the Spectral Forcing that the network was trained with, `none` does not, and
            `linear` attaches the published one.
        insist: take a network with another forcing than it was trained with.

    Raises:
        RecipeError: if root is no run folder, or an autoencoder's.
        CheckpointError: if there is no such checkpoint, or it cannot be read; nor the autoencoder of its latents.
        ValueError: if the forcing is unknown, or not the recorded one and insist is off.

    """
    found = _found(Path(root), step, weights)
    force(found.model, found.process, forcing, insist)
    attachment = attached(found.model)
    return found._replace(forcing=None if attachment is None else attachment.config)


def force(model: nn.Module, process: Process, forcing: str = "recorded", insist: bool = False) -> None:
    """Attach Spectral Forcing to a network as it was trained, or otherwise on insistence.

    Args:
        model: a network as it was loaded.
        process: the process that it was trained with.
        forcing: `recorded`, `none` or `linear`.
        insist: allow another forcing than the recorded one.

    Raises:
        ValueError: if the forcing is unknown, or not the recorded one and insist is off.

    """
    check_choice("forcing", forcing, FORCINGS)
    trained = recorded(model)
    wanted = trained
    if forcing != "recorded":
        wanted = None if forcing == "none" else SpectralForcing(process, forcing).config
    if wanted != trained and not insist:
        raise ValueError(
            f"the network was trained {_in_words(trained)}, and is asked to sample {_in_words(wanted)}: leave the "
            "forcing as it is recorded, or insist (--insist) to try another"
        )
    if wanted is not None:
        SpectralForcing.from_config(wanted, process).attach(model)


def guided(found: Restored, scale: float | None) -> Restored:
    """The network to be sampled with another guidance scale; None leaves it as it is.

    Raises:
        ValueError: if it is not class-conditional, or was never trained without classes.

    """
    if scale is None:
        return found
    if not found.num_classes:
        raise ValueError("guidance needs a class-conditional network, and this one takes no classes")
    if scale != 1 and found.recipe is not None and not knows_no_class(found.recipe.model):
        raise ValueError(
            "guidance needs a network that was trained without classes too, and this one never was (its "
            "model.label_dropout is 0): leave --guidance out, or set it to 1"
        )
    earlier = found.sampling.guidance or GuidanceSettings(scale=scale)
    guidance = earlier.model_copy(update={"scale": scale})
    return found._replace(sampling=found.sampling.model_copy(update={"guidance": guidance}))


def find_autoencoder(path: str | Path, *, step: int | None = None, weights: str = "ema") -> Autoencoder:
    """An autoencoder in evaluation mode: that of a training run, of encoded latents, or one that diffusers saved.

    Args:
        path: the folder of a run that trained an autoencoder, of latents that `passband encode` wrote, of a saved
            `AutoencoderKL`, or of a saved pipeline.
        step: of a run: the checkpoint's step; default: the newest.
        weights: of a run: `ema`, another of its averages, or `last` for those of the last step.

    Raises:
        CheckpointError: if a run has no such checkpoint, or it cannot be read.
        OSError: if there is no saved autoencoder at path.
        ValueError: if the run trained a denoiser, the network is of another kind, or a step or weights are asked of a
            folder that is no run's.

    """
    root = Path(path)
    if (root / "recipe.yaml").is_file():
        return _trained_autoencoder(root, step, weights)
    if step is not None or weights != "ema":
        raise ValueError(
            f"a checkpoint's step and weights belong to a run's folder, and {str(path)!r} is none (it holds no "
            "recipe.yaml): leave them out"
        )
    encoded = (root / LATENTS).is_file() and (root / AUTOENCODER).is_dir()
    network = load_autoencoder(root / AUTOENCODER if encoded else root)
    return Autoencoder(network.eval(), root.resolve().name)


def is_autoencoder(path: str | Path) -> bool:
    """Whether a folder holds an autoencoder, as find_autoencoder takes it, rather than a denoiser.

    Raises:
        RecipeError: if it holds a recipe that cannot be read.

    """
    root = Path(path)
    if (root / "recipe.yaml").is_file():
        return isinstance(RunFolder(root).recipe(), AutoencoderRecipe)
    files = ("config.json", "vae/config.json", LATENTS)
    return not (root / "process.json").is_file() and any((root / name).is_file() for name in files)


def is_audio(path: str | Path) -> bool:
    """Whether a folder holds a network of audio: a run's, or an imported one.

    Raises:
        RecipeError: if it holds a recipe that cannot be read.

    """
    root = Path(path)
    if (root / "recipe.yaml").is_file():
        return isinstance(RunFolder(root).recipe().data, AudioData)
    return (root / "mel.json").is_file()


def is_vocoder(path: str | Path) -> bool:
    """Whether a folder holds a network of audio that takes spectrograms: a run's, or an imported one.

    Raises:
        RecipeError: if it holds a recipe that cannot be read.

    """
    root = Path(path)
    if not is_audio(root):
        return False
    if (root / "recipe.yaml").is_file():
        recipe = RunFolder(root).recipe()
        return isinstance(recipe, Recipe) and not getattr(recipe.model, "unconditional", True)
    config = root / "config.json"
    return config.is_file() and not json.loads(config.read_text()).get("unconditional", False)


def checkpoint_step(root: Path, step: int | None) -> int:
    """The step of a run's checkpoint: the one asked for, or the newest.

    Raises:
        CheckpointError: if there is none, or it is not whole.

    """
    return _step(RunFolder(root).checkpoints, step)


def _trained_autoencoder(root: Path, step: int | None, weights: str) -> Autoencoder:
    """The autoencoder of a run's checkpoint."""
    folder = RunFolder(root)
    recipe = folder.recipe()
    if isinstance(recipe, FinetuneRecipe):
        raise ValueError(
            f"{str(root)!r} is the run of a pipeline's network, and an autoencoder is needed; that of the pipeline is "
            f"in {str(recipe.pipeline.path / 'vae')!r}, if it has one"
        )
    if isinstance(recipe, Recipe):
        own = root / AUTOENCODER
        hint = f"; the autoencoder of its latents is in {str(own)!r}" if own.is_dir() else ""
        raise ValueError(f"{str(root)!r} is the run of a denoiser, and an autoencoder is needed{hint}")
    checkpoint = checkpoint_folder(folder.checkpoints, _step(folder.checkpoints, step))
    place = weights_folder(checkpoint, "vae", weights)
    try:
        network = load_autoencoder(place)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the weights in {str(place)!r} cannot be read: {error}") from error
    return Autoencoder(network.eval(), recipe.name)


def _in_words(forcing: dict[str, Any] | None) -> str:
    return "without Spectral Forcing" if forcing is None else f"with Spectral Forcing {json.dumps(forcing)}"


def _found(root: Path, step: int | None, weights: str) -> Restored:
    """The network without its forcing."""
    if (root / "process.json").is_file():
        if weights != "ema":
            raise CheckpointError(f"{str(root)!r} holds one set of weights, got {weights!r}: leave --weights out")
        return _imported(root)
    folder = RunFolder(root)
    recipe = denoiser_recipe(folder.recipe(), "drawing samples")
    step = _step(folder.checkpoints, step)
    last = family_named(recipe.model).folder
    model = _load(weights_folder(checkpoint_folder(folder.checkpoints, step), last, weights))
    return _restored(root, model, build_process(recipe.process), recipe, step)._replace(weights=weights)


def _restored(root: Path, model: nn.Module, process: Process, recipe: Recipe, step: int) -> Restored:
    """A network as its recipe describes it."""
    decode = latent_decoder(root / AUTOENCODER) if isinstance(recipe.data, LatentsData) else None
    classes = data_classes(model, recipe.model)
    mel = build_mel(recipe.data) if isinstance(recipe.data, AudioData) else None
    shape = recipe.sample_shape
    return Restored(model.eval(), process, recipe.sampling, shape, classes, step, recipe, decode=decode, mel=mel)


def weights_folder(checkpoint: Path, last: str, weights: str) -> Path:
    """The folder of the weights in a checkpoint, in which those of the last step have a name of their own.

    Args:
        checkpoint: the checkpoint's folder.
        last: the folder of the last step's weights in it.
        weights: `last`, or an average's name.

    Raises:
        CheckpointError: if there are none of this name.

    """
    averages = sorted(found.name for found in checkpoint.glob("*/") if found.name != last)
    if weights != "last" and weights not in averages:
        raise CheckpointError(
            f"{str(checkpoint)!r} holds no weights {weights!r}{nearest(weights, averages)}; expected last, or one of "
            f"the averages: {', '.join(averages)}"
        )
    return checkpoint / (last if weights == "last" else weights)


def _imported(root: Path) -> Restored:
    model = _load(root)
    settings = read_process(root / "process.json")
    process = build_process(settings)
    if (root / "recipe.yaml").is_file():  # of an average that was put together after training
        recipe = denoiser_recipe(load_recipe(root / "recipe.yaml"), "drawing samples")
        return _restored(root, model, process, recipe, 0)
    if isinstance(model, DiffWave):
        return _imported_audio(root, model, process)
    shape, classes = network_shape(model), data_classes(model, None)
    return Restored(model.eval(), process, _published_sampling(model, shape, classes), shape, classes, 0, None)


def _imported_audio(root: Path, model: DiffWave, process: Process) -> Restored:
    """A network of audio, sampled as its publication does: by every step of DDPM's sampler."""
    mel = read_mel(root / "mel.json")
    if not model.unconditional and (model.hop, model.config["n_mels"]) != (mel.hop_length, mel.n_mels):
        raise CheckpointError(
            f"the network in {str(root)!r} takes {model.config['n_mels']} bands and {model.hop} samples a frame, its "
            f"mel.json says {mel.n_mels} and {mel.hop_length}: import the checkpoint again"
        )
    steps = process.steps if isinstance(process, VP) else 50
    shape = (1, round(_SECONDS * mel.sample_rate / mel.hop_length) * mel.hop_length)
    sampling = SamplingSettings(steps=steps, solver="ancestral" if isinstance(process, VP) else "euler")
    return Restored(model.eval(), process, sampling, shape, 0, 0, None, mel=mel)


#: Of a sample of an imported network that takes no spectrogram.
_SECONDS = 5


def _published_sampling(model: nn.Module, shape: tuple[int, ...], classes: int) -> SamplingSettings:
    """How the publication of an imported network draws its samples."""
    if isinstance(model, JiT):
        guidance = GuidanceSettings(scale=2.9, interval=(0.1, 1.0)) if classes else None
        return SamplingSettings(steps=50, solver="heun", guidance=guidance, classes="balanced")
    # EDM's own settings: 18 steps for 32 x 32 pixels, 40 for 64 x 64.
    return SamplingSettings(steps=18 if shape[-1] <= 32 else 40, solver="heun")


def _step(root: Path, step: int | None) -> int:
    steps = [found for found, _ in checkpoints(root)]
    if not steps or (step is not None and step not in steps):
        raise CheckpointError(
            f"{str(root.parent)!r} has no checkpoint{'' if step is None else f' of step {step}'}: "
            f"it holds {f'those of steps {steps}' if steps else 'none yet; train it first'}"
        )
    step = steps[-1] if step is None else step
    fault = torn(checkpoint_folder(root, step))
    if fault is not None:
        raise CheckpointError(
            f"the checkpoint of step {step} in {str(root.parent)!r} is not whole ({fault}): ask for another of steps "
            f"{steps}, or resume the training, which continues from the newest whole one"
        )
    return step


def _load(folder: Path) -> nn.Module:
    try:
        return load_network(folder)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the weights in {str(folder)!r} cannot be read: {error}") from error
