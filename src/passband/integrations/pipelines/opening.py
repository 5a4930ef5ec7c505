"""From a folder to a trainable pipeline."""

from pathlib import Path
from typing import Any

from torch import nn

from passband._checks import check_choice
from passband.forcing import SpectralForcing, attached, recorded
from passband.integrations.pipelines.base import TrainablePipeline
from passband.integrations.pipelines.dit import DiTTraining
from passband.integrations.pipelines.parts import (
    build_pipeline,
    check_part,
    class_of,
    load_part,
    named_parts,
    own_variant,
    read_index,
    taken_parts,
)
from passband.integrations.pipelines.pixels import PixelPipeline
from passband.integrations.pipelines.process import training_process
from passband.integrations.pipelines.stable_diffusion import StableDiffusionTraining, StableDiffusionXLTraining
from passband.integrations.pipelines.transformers import FluxTraining, StableDiffusion3Training
from passband.process import Process

#: The classes of diffusers that can be opened.
PIPELINES: dict[str, type[TrainablePipeline]] = {
    "DDPMPipeline": PixelPipeline,
    "DDIMPipeline": PixelPipeline,
    "DiTPipeline": DiTTraining,
    "StableDiffusionPipeline": StableDiffusionTraining,
    "StableDiffusionXLPipeline": StableDiffusionXLTraining,
    "StableDiffusion3Pipeline": StableDiffusion3Training,
    "FluxPipeline": FluxTraining,
}
_PREDICTIONS = ("epsilon", "sample", "v_prediction")


def open_pipeline(
    folder: str | Path, *, prediction: str | None = None, variant: str | None = None
) -> TrainablePipeline:
    """Open a diffusers pipeline for training: its network, process, autoencoder and text encoders behind one interface.

    Args:
        folder: what `DiffusionPipeline.save_pretrained` wrote, weights in safetensors. Nothing is downloaded or
            unpickled, and no code in it is run.
        prediction: the scheduler's prediction_type where its configuration is wrong: `epsilon`, `sample` or
            `v_prediction`. It is written into the scheduler of what is saved, too.
        variant: of the weights' files, such as `fp16`. They are loaded in float32 all the same.

    Returns:
        The pipeline, on the CPU.

    Raises:
        FileNotFoundError: if there is no pipeline, or a part is missing.
        ValueError: if the class is not supported, or a part is damaged or there as a pickle only.
        TypeError: if its scheduler is not supported.
        MissingExtraError: if diffusers or transformers is not installed.

    Example:
        >>> import tempfile
        >>> from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
        >>> from passband.integrations.pipelines import open_pipeline
        >>> unet = UNet2DModel(8, block_out_channels=(4, 4), norm_num_groups=2, layers_per_block=1,
        ...     down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
        >>> folder = tempfile.mkdtemp()
        >>> DDPMPipeline(unet, DDPMScheduler(prediction_type="v_prediction")).save_pretrained(folder)
        >>> pipeline = open_pipeline(folder)
        >>> pipeline.process, pipeline.condition, pipeline.sample_shape(8, 8)
        (VP(prediction='v_prediction', sigma_data=0.5), 'none', (3, 8, 8))

    """
    root = Path(folder)
    index = read_index(root, PIPELINES)
    kind = PIPELINES[index["_class_name"]]
    pipeline_class = class_of("diffusers", index["_class_name"])
    named = taken_parts(pipeline_class, named_parts(index))
    _check_named(root, kind, named)
    if prediction is not None:
        check_choice("prediction", prediction, _PREDICTIONS)
    if variant is not None and not any(own_variant(root / name, variant) for name in named):
        raise ValueError(
            f"no part of {str(root)!r} has weights of the variant {variant!r}: leave variant, or correct it"
        )
    for name, (library, part_kind) in named.items():
        check_part(root, name, library, part_kind, variant)
    # First, so that a scheduler that does not suit is told at once.
    scheduler = load_part(root, "scheduler", *named.pop("scheduler"), None)
    process = training_process(_predicting(scheduler, prediction))
    parts: dict[str, Any] = {"scheduler": scheduler}
    for name, (library, part_kind) in named.items():
        if name.startswith("text_encoder"):
            continue  # loaded when a text is to be embedded
        parts[name] = load_part(root, name, library, part_kind, variant)
    _force(parts[kind.network_folder], process)
    pipeline = build_pipeline(pipeline_class, index, parts)
    return kind(root, pipeline, process, variant)


def _check_named(root: Path, kind: type[TrainablePipeline], named: dict[str, tuple[str, str]]) -> None:
    for name in ("scheduler", kind.network_folder):
        if name not in named:
            raise ValueError(f"the model_index.json of {str(root)!r} names no {name}; save the pipeline again")
    found = named[kind.network_folder][1]
    if found not in kind.network_classes:
        raise ValueError(
            f"the {kind.network_folder} of {str(root)!r} is a {found}, expected {' or '.join(kind.network_classes)}"
        )
    named[kind.network_folder] = ("diffusers", kind.network_classes[0])


def _force(network: nn.Module, process: Process) -> None:
    """Attach the Spectral Forcing that the network's configuration records."""
    forcing = recorded(network)
    if forcing is not None and attached(network) is None:
        SpectralForcing.from_config(forcing, process).attach(network)


def _predicting(scheduler: Any, prediction: str | None) -> Any:
    """The scheduler, its configuration changed to this prediction."""
    if prediction is None:
        return scheduler
    if "prediction_type" not in scheduler.config:
        raise ValueError(f"a {type(scheduler).__name__} has no prediction type to choose: leave prediction")
    scheduler.register_to_config(prediction_type=prediction)
    return scheduler
