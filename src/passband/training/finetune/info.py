"""What a pipeline's folder tells without its weights."""

from pathlib import Path
from typing import NamedTuple

from passband.integrations.pipelines import PIPELINES
from passband.integrations.pipelines.base import Condition
from passband.integrations.pipelines.parts import read_index, read_json

#: Latent positions a side, where the network's configuration says nothing (Flux).
_LATENT_SIDE = 128


class PipelineInfo(NamedTuple):
    """What is known of a pipeline before it is loaded.

    Attributes:
        class_name: diffusers' class.
        condition: `none`, `classes` or `text`.
        resolution: of its images, the side or (height, width).

    """

    class_name: str
    condition: Condition
    resolution: int | list[int]


def pipeline_info(folder: Path) -> PipelineInfo:
    """Read the configurations of a pipeline.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if a configuration is damaged, or its class is not supported.

    """
    index = read_index(folder, PIPELINES)
    kind = PIPELINES[index["_class_name"]]
    config = read_json(folder / kind.network_folder / "config.json")
    side = config.get("sample_size") or _LATENT_SIDE
    vae = folder / "vae" / "config.json"
    factor = 2 ** (len(read_json(vae)["block_out_channels"]) - 1) if vae.is_file() else 1
    size = side * factor if isinstance(side, int) else [int(length) * factor for length in side]
    return PipelineInfo(index["_class_name"], kind.condition, size)
