"""Watching for losses that are not finite, without looking at them in every step, and keeping one for study."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from passband.training.batches import Batch


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; nothing after the last checkpoint was saved."""


class LossGuard:
    """The first step with a non-finite loss, remembered on the device: looking at it each step would stall it.

    Args:
        device: where the losses are.

    """

    def __init__(self, device: torch.device) -> None:
        self.first = torch.full((1,), math.inf, device=device)

    def note(self, loss: Tensor, step: int) -> None:
        """Take note of the loss of a step."""
        self.first = torch.where(torch.isfinite(loss), self.first, self.first.clamp(max=step))


def save_batch(batch: Batch, seen: Mapping[str, Tensor], folder: Path, facts: dict[str, Any]) -> None:
    """Write a batch as the network saw it: `batch.safetensors` (clean, noise, ...) and `batch.json`."""
    named = {"positions": batch.positions, "classes": batch.classes, "augment_labels": batch.augment_labels}
    tensors = {**seen, **{name: value for name, value in named.items() if value is not None}}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, folder / "batch.safetensors")
    (folder / "batch.json").write_text(json.dumps(facts, indent=1))
