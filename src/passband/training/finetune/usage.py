"""How diffusers draws from what a finetuning wrote."""

from pathlib import Path

from passband.integrations.pipelines import TrainablePipeline

#: diffusers' DiTPipeline takes this class for none, however many the network knows.
_NO_CLASS = 1000


def usage(pipeline: TrainablePipeline, result: Path, size: tuple[int, int]) -> list[str]:
    """Lines of Python that draw an image.

    Args:
        pipeline: the pipeline that was trained.
        result: the folder of the new pipeline, or of adapters (without model_index.json).
        size: that it was trained at, (height, width).

    """
    adapters = not (result / "model_index.json").is_file()
    folder = str(pipeline.folder if adapters else result)
    lines = ["from diffusers import DiffusionPipeline", f"pipeline = DiffusionPipeline.from_pretrained({folder!r})"]
    if adapters and pipeline.loads_lora:
        lines.append(f"pipeline.load_lora_weights({str(result)!r})")
    elif adapters:
        place = f"pipeline.{pipeline.network_folder}"
        lines.insert(1, "from peft import PeftModel")
        lines.append(f"{place} = PeftModel.from_pretrained({place}, {str(result)!r}).merge_and_unload()")
    return [*lines, f'pipeline({_arguments(pipeline, size)}).images[0].save("image.png")']


def _arguments(pipeline: TrainablePipeline, size: tuple[int, int]) -> str:
    if pipeline.condition == "none":
        return ""
    if pipeline.condition == "classes":
        return "class_labels=[0]" if pipeline.classes == _NO_CLASS else "class_labels=[0], guidance_scale=1.0"
    return '"A PROMPT"' if size == pipeline.size else f'"A PROMPT", height={size[0]}, width={size[1]}'
