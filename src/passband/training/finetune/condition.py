"""What the network of a pipeline is given beside image and time, and leaving it out for guidance."""

from collections.abc import Sequence

import torch
from torch import Tensor

from passband._seeds import seed_for
from passband.data import CaptionedImages, ImageSamples
from passband.integrations.pipelines import TrainablePipeline
from passband.training.batches import Batch

_AT_ONCE = 16


class Conditions:
    """From a batch to the keyword arguments of a pipeline's network.

    Prompts are embedded once, here; then the text encoders are let go.

    Args:
        pipeline: the pipeline, on the device that computes.
        dataset: its images, with captions or classes where the pipeline takes them.
        dropout: share of samples that are trained without.
        seed: the run's.
        store: where the embeddings are kept.

    """

    def __init__(
        self, pipeline: TrainablePipeline, dataset: ImageSamples, dropout: float, seed: int, store: torch.device
    ) -> None:
        self.pipeline, self.dropout, self.seed = pipeline, dropout, seed
        self._table: dict[str, Tensor] = {}
        if isinstance(dataset, CaptionedImages):
            self._table = embedding_table(pipeline, dataset.captions, store)
            pipeline.drop_text_encoders()

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The network's keyword arguments for a batch."""
        if self.pipeline.condition == "none":
            return {}
        assert batch.classes is not None
        dropped = [seed_for(self.seed, int(p), "label") < self.dropout * 2.0**63 for p in batch.positions]
        drop = torch.tensor(dropped).to(batch.classes.device, non_blocking=True)
        if self.pipeline.condition == "classes":
            return self.pipeline.class_conditioning(torch.where(drop, self.pipeline.classes, batch.classes))
        rows = next(iter(self._table.values()))
        numbers = torch.where(drop, len(rows) - 1, batch.classes).to(rows.device)
        device = batch.clean.device
        return {name: table[numbers].to(device, non_blocking=True) for name, table in self._table.items()}


@torch.no_grad()
def embedding_table(pipeline: TrainablePipeline, captions: Sequence[str], store: torch.device) -> dict[str, Tensor]:
    """The embeddings of captions, a row each, and a last row for none.

    Args:
        pipeline: embeds on its own device.
        captions: the texts.
        store: where the rows are kept.

    """
    parts = [pipeline.embed(captions[start : start + _AT_ONCE]) for start in range(0, len(captions), _AT_ONCE)]
    kept = [{name: rows.to(store) for name, rows in part.items()} for part in [*parts, pipeline.unconditional()]]
    return {name: torch.cat([part[name] for part in kept]) for name in kept[0]}
