"""How diffusers draws from what a finetuning wrote."""

from pathlib import Path

from passband.integrations.pipelines import TrainablePipeline

_CALLS = {"none": "pipeline()", "classes": "pipeline(class_labels=[0])", "text": 'pipeline("A PROMPT")'}


def usage(pipeline: TrainablePipeline, result: Path) -> list[str]:
    """Lines of Python that draw an image.

    Args:
        pipeline: the pipeline that was trained.
        result: the folder of the new pipeline, or of adapters (without model_index.json).

    """
    adapters = not (result / "model_index.json").is_file()
    folder = str(pipeline.folder if adapters else result)
    lines = ["from diffusers import DiffusionPipeline", f"pipeline = DiffusionPipeline.from_pretrained({folder!r})"]
    if adapters and pipeline.loads_lora:
        lines.append(f"pipeline.load_lora_weights({str(result)!r})")
    elif adapters:
        place = f"pipeline.{pipeline.network_folder}"
        lines[0] = "from diffusers import DiffusionPipeline; from peft import PeftModel"
        lines.append(f"{place} = PeftModel.from_pretrained({place}, {str(result)!r}).merge_and_unload()")
    return [*lines, f'{_CALLS[pipeline.condition]}.images[0].save("image.png")']
