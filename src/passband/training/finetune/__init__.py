"""Going on with a diffusers pipeline: its network or adapters, on its own noising, with a spectral term."""

from passband.training.finetune.recipe import TERMS, FinetuneRequest
from passband.training.finetune.task import FinetuneTask

__all__ = ["TERMS", "FinetuneRequest", "FinetuneTask"]
