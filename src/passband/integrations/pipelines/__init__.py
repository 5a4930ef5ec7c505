"""Diffusers pipelines that can be trained: opened from a folder, and written back as one."""

from passband.integrations.pipelines.base import TrainablePipeline
from passband.integrations.pipelines.opening import PIPELINES, open_pipeline
from passband.integrations.pipelines.process import training_process

__all__ = ["PIPELINES", "TrainablePipeline", "open_pipeline", "training_process"]
