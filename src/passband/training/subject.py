"""A denoiser as it is diagnosed: its network behind one signature, its process, and what it was trained by."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from passband.integrations.pipelines import TrainablePipeline, open_pipeline
from passband.process import Process
from passband.sampling import Model
from passband.training.batches import Batch
from passband.training.conditioning import Conditioner, no_classes
from passband.training.config import FinetuneRecipe, RecipeError
from passband.training.decode import AUTOENCODER, LATENTS
from passband.training.finetune.parts import latent
from passband.training.restore import Restored, is_autoencoder, restore
from passband.training.run_folder import RunFolder
from passband.training.sections import AnyData, ForcingSettings, LossSettings, RegularizerSettings, knows_no_class
from passband.transforms import MelSpectrogram

#: The file of a diffusers pipeline, and where a run that trained one leaves it.
_PIPELINE_INDEX, _PIPELINE = "model_index.json", "pipeline"


class LatentSpace(NamedTuple):
    """What latents have in common that one network can be asked about.

    Attributes:
        autoencoder: the hash of its weights.
        shift: subtracted from each channel.
        scale: by which each was then divided.

    """

    autoencoder: str
    shift: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> "LatentSpace":
        """That of a latents.json."""
        return cls(header["autoencoder"]["sha256"], tuple(header["shift"]), tuple(header["scale"]))


@dataclass(frozen=True)
class Subject:
    """A denoiser to be diagnosed.

    Attributes:
        name: what it is called on the page.
        model: called as `model(input, times, **conditioning)`.
        process: the process that it was trained with.
        shape: (channels, *spatial) of a clean sample.
        kind: `images`, `latents` or `signals`.
        given: the network's keyword arguments for a batch.
        clean: the clean samples of a batch, as they are noised.
        move: moves all of it to a device.
        loss: the base loss that it was trained by.
        regularizer: the spectral term that it was trained with, None without.
        forcing: the Spectral Forcing that is attached, None without.
        data: what it was trained on, None where nobody says.
        mel: the spectrograms of its audio, None for others.
        space: that of the encoded latents that it was trained on, None for others.
        folder: where it lies, None for one that lies nowhere.
        facts: what the page shows of it.
        notes: what a reader must know.

    """

    name: str
    model: Model
    process: Process
    shape: tuple[int, ...]
    kind: Literal["images", "latents", "signals"]
    given: Callable[[Batch], dict[str, Any]]
    clean: Callable[[Batch], Tensor]
    move: Callable[[torch.device], None]
    loss: LossSettings = field(default_factory=LossSettings)
    regularizer: RegularizerSettings | None = None
    forcing: ForcingSettings | None = None
    data: AnyData | None = None
    mel: MelSpectrogram | None = None
    space: LatentSpace | None = None
    folder: Path | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def open_subject(path: str | Path, *, step: int | None = None, weights: str = "ema") -> Subject:
    """The denoiser in a folder.

    Args:
        path: the folder of a run, of a network that `passband import` or `passband average` wrote, or of a diffusers
            pipeline; of a run that trained a whole pipeline too.
        step: of a run: the checkpoint's step; default: the newest.
        weights: of a run: `ema`, another average's name, or `last`.

    Raises:
        FileNotFoundError: if there is no such folder.
        RecipeError: if it is a run that trained something else, or only adapters.
        CheckpointError: if there is no such checkpoint, or it cannot be read.
        ValueError: if the pipeline is of a kind that is not supported, or step or weights are asked of one.

    """
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(
            f"there is no folder {str(root)!r}: expected that of a run, of an imported network or of a diffusers "
            "pipeline"
        )
    return replace(_opened(root, step, weights), folder=root.resolve())


def told_apart(first: Subject, second: Subject) -> tuple[Subject, Subject]:
    """Two subjects of different names: of the same name, with that of the folder above, or with the checkpoint's step.

    Example:
        >>> from dataclasses import replace
        >>> from pathlib import Path
        >>> from passband import EDM
        >>> from passband.training.subject import Subject, told_apart
        >>> one = Subject("run", lambda x, t: x, EDM(), (3, 8, 8), "images", lambda _: {}, lambda _: _, lambda _: None)
        >>> [found.name for found in told_apart(*(replace(one, folder=Path(seed) / "run") for seed in ("s1", "s2")))]
        ['s1/run', 's2/run']

    """
    if first.name != second.name:
        return first, second
    above = [one.name if one.folder is None else f"{one.folder.parent.name}/{one.name}" for one in (first, second)]
    steps = [f"{one.name} ({one.facts.get('checkpoint', '')})" for one in (first, second)]
    names = next((found for found in (above, steps) if found[0] != found[1]), [first.name, f"{first.name} (2)"])
    return replace(first, name=names[0]), replace(second, name=names[1])


def _opened(root: Path, step: int | None, weights: str) -> Subject:
    if (root / _PIPELINE_INDEX).is_file():
        return _of_pipeline(root, step, weights)
    _check_folder(root)
    if (root / "recipe.yaml").is_file() and not (root / "process.json").is_file():
        recipe = RunFolder(root).recipe()
        if isinstance(recipe, FinetuneRecipe):
            return _of_finetuned(root, recipe, step, weights)
        if is_autoencoder(root):
            raise RecipeError(
                f"{str(root)!r} trained an autoencoder, which denoises nothing: look at it with `passband inspect`"
            )
    return _of_restored(root, restore(root, step=step, weights=weights))


def _check_folder(root: Path) -> None:
    """Whether a folder is a part of what was meant."""
    if any((root / name).is_file() for name in ("recipe.yaml", "process.json")):
        return
    for place in (root, root.parent):
        run = place.parent.parent
        if place.parent.name == "checkpoints" and (run / "recipe.yaml").is_file():
            raise RecipeError(
                f"{str(root)!r} is a part of the run in {str(run)!r}: give the run's folder, and the checkpoint by its "
                "step (--checkpoint)"
            )
    if (root / "config.json").is_file():
        raise RecipeError(
            f"{str(root)!r} holds a network, and nothing says which process it was trained with: give the folder of "
            f"its diffusers pipeline, which has a {_PIPELINE_INDEX}, or of what `passband import` wrote"
        )


def _of_restored(root: Path, found: Restored) -> Subject:
    recipe = found.recipe
    conditioner = Conditioner.of(found.model, 0.0, 0, None if not found.is_vocoder else found.mel)
    knows_none = recipe is None or knows_no_class(recipe.model)
    facts = {"process": repr(found.process), "network": type(found.model).__name__}
    facts |= {"checkpoint": f"step {found.step:,}"} if found.step else {}
    facts |= {"weights": found.weights} if recipe is not None else {}
    trained = "none" if recipe is None or recipe.regularizer is None else _in_words(recipe.regularizer)
    facts |= {"spectral term": trained} if recipe is not None else {}
    facts |= {"Spectral Forcing": str(found.forcing["front"])} if found.forcing is not None else {}
    return Subject(
        name=root.resolve().name,
        model=found.model,
        process=found.process,
        shape=tuple(found.sample_shape),
        kind="signals" if found.is_audio else "images" if found.decode is None else "latents",
        given=partial(_given, conditioner, found.model, knows_none, found.num_classes),
        clean=_as_read,
        move=partial(_move_restored, found),
        loss=LossSettings() if recipe is None else recipe.loss,
        regularizer=None if recipe is None else recipe.regularizer,
        forcing=None if recipe is None else recipe.forcing,
        data=None if recipe is None else recipe.data,
        mel=found.mel,
        space=None if found.decode is None else LatentSpace.of(json.loads((root / AUTOENCODER / LATENTS).read_text())),
        facts=facts,
    )


def _of_finetuned(root: Path, recipe: FinetuneRecipe, step: int | None, weights: str) -> Subject:
    if recipe.pipeline.lora is not None:
        raise RecipeError(
            f"{str(root)!r} trained adapters: fold them into the pipeline with diffusers (load_lora_weights, "
            "fuse_lora, save_pretrained), and diagnose that folder"
        )
    if not (root / _PIPELINE / _PIPELINE_INDEX).is_file():
        raise RecipeError(f"{str(root)!r} holds no pipeline yet, which is written when the training ends: resume it")
    found = _of_pipeline(root / _PIPELINE, step, weights)
    return replace(found, name=root.resolve().name, loss=recipe.loss)


def _of_pipeline(root: Path, step: int | None, weights: str) -> Subject:
    if step is not None or weights != "ema":
        raise ValueError(
            f"{str(root)!r} is a diffusers pipeline, which has one set of weights: leave the checkpoint and weights out"
        )
    pipeline = open_pipeline(root)
    height, width = pipeline.size
    notes = {
        "none": (),
        "classes": ("The network was asked without a class.",),
        "text": ("The network was asked without a prompt.",),
    }[pipeline.condition]
    return Subject(
        name=root.resolve().name,
        model=pipeline.model(pipeline.network),
        process=pipeline.process_at(height, width),
        shape=(pipeline.image_channels, height, width),
        kind="latents" if latent(pipeline) else "images",
        given=partial(_given_nothing, pipeline),
        clean=partial(_encoded, pipeline),
        move=partial(_move_pipeline, pipeline),
        facts={"process": repr(pipeline.process), "pipeline": pipeline.class_name},
        notes=notes,
    )


def _given(
    conditioner: Conditioner, network: nn.Module, knows_none: bool, classes: int, batch: Batch
) -> dict[str, Any]:
    if conditioner.classes and batch.classes is not None and int(batch.classes.max()) >= classes:
        raise ValueError(
            f"the network tells {classes} classes apart, 0 to {classes - 1}, and the data have class "
            f"{int(batch.classes.max())}: give data that are labelled as its own, or leave labels out (--labels none)"
        )
    if not conditioner.classes or batch.classes is not None:
        return conditioner(batch)
    if not knows_none:
        raise ValueError(
            "the network is class-conditional and was never trained without a class, and the data has no labels: give "
            "data with labels (--labels json or folder)"
        )
    empty = no_classes(network, len(batch.clean)).to(batch.clean.device)
    others = Conditioner(0, conditioner.one_hot, conditioner.augment_dim, 0.0, 0, conditioner.mel)
    return {"class_labels": empty} | others(batch)


def _given_nothing(pipeline: TrainablePipeline, batch: Batch) -> dict[str, Any]:
    """What a pipeline's network is given for no class, and no prompt."""
    count, device = len(batch.clean), batch.clean.device
    if pipeline.condition == "none":
        return {}
    if pipeline.condition == "classes":
        return pipeline.class_conditioning(torch.full((count,), pipeline.classes, device=device))
    rows = pipeline.unconditional()
    return {name: row.to(device).expand(count, *row.shape[1:]) for name, row in rows.items()}


def _as_read(batch: Batch) -> Tensor:
    return batch.clean


@torch.no_grad()
def _encoded(pipeline: TrainablePipeline, batch: Batch) -> Tensor:
    return pipeline.encode(batch.clean)


def _move_restored(found: Restored, device: torch.device) -> None:
    found.model.to(device)
    if found.mel is not None:
        found.mel.to(device)


def _move_pipeline(pipeline: TrainablePipeline, device: torch.device) -> None:
    pipeline.to(device)
    pipeline.network.to(device)


def _in_words(settings: RegularizerSettings) -> str:
    names = " + ".join(term.name for term in settings.losses)
    weight = settings.weight if isinstance(settings.weight, float | int | str) else settings.weight.model_dump()
    gate = "" if settings.gate is None else f", gate at noise ratio {settings.gate.max_ratio:g}"
    return f"{names}, weight {weight}{gate}"
