"""The spectrum's monitor of a run: a few samples of its data, measured every so many steps."""

from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from passband.metrics import SpectrumMonitor
from passband.reports import monitor_picture
from passband.training.batches import Reading, batches
from passband.training.journal import Journal
from passband.training.sections import MonitorSettings
from passband.training.task import Task


class RunMonitor:
    """Measures a run's network and writes what it finds into the run's folder and to its trackers.

    The samples are the run's first ones, as they are read, not augmented.

    Args:
        settings: the recipe's.
        task: the run's.
        dataset: its data.
        seed: the run's, by which samples are chosen and noised.
        reading: how samples are read.
        device: where the network lies.
        batch_size: samples in one call of the network, at most.

    Raises:
        ValueError: if the process does not reach a level, or a sample of the data is not finite.

    """

    def __init__(
        self,
        settings: MonitorSettings,
        task: Task,
        dataset: Dataset[Any],
        *,
        seed: int,
        reading: Reading,
        device: torch.device,
        batch_size: int,
    ) -> None:
        self.task = task
        count = min(settings.samples, len(dataset))  # type: ignore[arg-type]
        (batch,) = batches(dataset, 0, 1, count, seed, reading=reading, device=device)
        watched = task.watched(batch)
        self._per = watched.per
        self._monitor = SpectrumMonitor(
            watched.process,
            watched.clean,
            settings.every,
            ratios=settings.ratios,
            conditioning=watched.conditioning,
            seed=seed,
            batch_size=min(count, batch_size),
        )

    def __call__(self, step: int, network: nn.Module, journal: Journal | None) -> None:
        """Measure the network, and write the result if there is where to."""
        with self.task.calling(network) as model:
            values = self._monitor(step, model)
        if journal is not None and values is not None and self._monitor.latest is not None:
            journal.spectrum(step, values, monitor_picture(self._monitor.latest, step, per=self._per))
