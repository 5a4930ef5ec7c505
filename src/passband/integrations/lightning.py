"""The spectral term in Lightning: a mixin for modules, and callbacks that log the terms and watch the spectrum.

All work with `lightning` and with `pytorch_lightning`: neither is imported for the mixin, and the callbacks are made
of the package that is loaded.
"""

import sys
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from passband._checks import import_extra
from passband.integrations._host_terms import as_regularizer
from passband.metrics import SpectrumMonitor
from passband.process import Process, Time
from passband.regularization import SpectralRegularizer
from passband.reports import monitor_picture, pixels_of


class SpectralMixin:
    r"""Gives a LightningModule `spectral_term`, the term of a step, which logs what it consists of.

    The module's regularizer is its attribute `spectral`, or what the class is told: each module then has its own. Terms
    are logged as tensors, so a training step waits for nothing.

    `spectral=` of the class is the regularizer, or its arguments in plain values.

    Example:
        >>> import torch
        >>> from lightning import LightningModule
        >>> from passband import Flow
        >>> from passband.integrations.lightning import SpectralMixin
        >>> class Module(SpectralMixin, LightningModule, spectral={"loss": "wavelet", "weight": 0.01}):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.network, self.process = torch.nn.Conv2d(3, 3, 3, padding=1), Flow(data_at=0)
        ...     def training_step(self, clean, index):
        ...         noise, t = torch.randn_like(clean), self.process.sample_times(len(clean), device=clean.device)
        ...         noisy = self.process.add_noise(clean, noise, t)
        ...         pred = self.network(noisy)
        ...         loss = (pred - (noise - clean)).square().mean()
        ...         return loss + self.spectral_term(self.process, noisy, pred, t, clean=clean)
        >>> Module().training_step(torch.randn(2, 3, 8, 8), 0).shape
        torch.Size([])

    """

    spectral: SpectralRegularizer
    _spectral_of_class: ClassVar[SpectralRegularizer | None] = None

    def __init_subclass__(
        cls, *, spectral: SpectralRegularizer | Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        super().__init_subclass__(**options)
        if spectral is not None:
            cls._spectral_of_class = as_regularizer(spectral)

    def spectral_term(
        self,
        process: Process,
        noisy: Tensor,
        pred: Tensor,
        t: Time,
        *,
        clean: Tensor,
        prefix: str = "spectral",
        sync_dist: bool = False,
        **options: Any,
    ) -> Tensor:
        r"""Return the term, and log its parts under one prefix.

        Args:
            process: the process that noised the samples, with the network's prediction.
            noisy: $x_t$, (batch, channels, \*spatial).
            pred: the network's output.
            t: times, a number or (batch,).
            clean: $x_0$.
            prefix: what stands before the names of the logged terms.
            sync_dist: log the mean over all processes, which costs a reduction of each value; otherwise each process
                logs its own batch, and the trackers show that of the first.
            options: further arguments of [`SpectralRegularizer`][passband.regularization.SpectralRegularizer], such as
                base_loss, denoiser or sample_weight.

        Returns:
            A scalar to add to the loss.

        Raises:
            TypeError: if the module has no regularizer as `spectral`.

        """
        regularizer = getattr(self, "spectral", None)
        if regularizer is None and self._spectral_of_class is not None:
            regularizer = self.spectral = deepcopy(self._spectral_of_class)
        if not isinstance(regularizer, SpectralRegularizer):
            raise TypeError(
                f"{type(self).__name__}.spectral must be a SpectralRegularizer, got {type(regularizer).__name__}; "
                "set it in __init__, after super().__init__(), or say it in the class: "
                f"class {type(self).__name__}(SpectralMixin, LightningModule, spectral={{'loss': 'wavelet'}})"
            )
        term: Tensor = regularizer(process, noisy, pred, t, clean=clean, **options)
        if getattr(self, "_trainer", None) is not None:
            log: Any = self
            log.log_dict(_named(regularizer, prefix), sync_dist=sync_dist, batch_size=len(clean))
        return term


def spectral_logger(
    regularizer: SpectralRegularizer | None = None, *, prefix: str = "spectral", sync_dist: bool = False
) -> Any:
    """A callback that logs the terms of a regularizer after every training batch.

    For modules that call their regularizer themselves; with
    [`SpectralMixin`][passband.integrations.lightning.SpectralMixin] it is not needed.

    Args:
        regularizer: the one; default: every one among the module's own parts, by its name in the module where there are
            several.
        prefix: what stands before the names.
        sync_dist: log the mean over all processes instead of the first one's.

    Returns:
        A `Callback` of `pytorch_lightning` if that package alone is loaded, else of `lightning`.

    Raises:
        MissingExtraError: if neither package is installed.

    Example:
        >>> from lightning import Trainer
        >>> from passband.integrations.lightning import spectral_logger
        >>> trainer = Trainer(callbacks=[spectral_logger()], logger=False, accelerator="cpu")

    """
    callback: Any = _package().Callback

    class SpectralLogger(callback):  # type: ignore[misc]
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            for name, found in _found(module, regularizer, prefix):
                module.log_dict(_named(found, name), sync_dist=sync_dist)

        def __reduce__(self) -> Any:
            # A class made here has no import path, and strategies that spawn processes pickle callbacks.
            return partial(spectral_logger, regularizer, prefix=prefix, sync_dist=sync_dist), ()

    return SpectralLogger()


def spectrum_logger(monitor: SpectrumMonitor, network: str | None = None) -> Any:
    """A callback that measures the spectrum of the network's clean estimates every so many steps.

    The numbers and a picture go to the trainer's loggers, from the first process alone; other steps cost nothing.

    Args:
        monitor: what is measured and how often; its steps are the trainer's `global_step`.
        network: the attribute of the module that is the network, called with noisy samples and times; default: the
            module itself.

    Returns:
        A `Callback` of `pytorch_lightning` if that package alone is loaded, else of `lightning`.

    Raises:
        MissingExtraError: if neither package is installed.

    Example:
        >>> import torch
        >>> from lightning import Trainer
        >>> from passband import Flow, SpectrumMonitor
        >>> from passband.integrations.lightning import spectrum_logger
        >>> monitor = SpectrumMonitor(Flow(data_at=0), torch.randn(4, 3, 16, 16), every=100)
        >>> callback = spectrum_logger(monitor, "network")
        >>> trainer = Trainer(callbacks=[callback], logger=False, enable_checkpointing=False, accelerator="cpu")

    """
    callback: Any = _package().Callback

    class SpectrumLogger(callback):  # type: ignore[misc]
        measured: int | None = None

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            step = int(trainer.global_step)
            # Of accumulated batches, several end in one step.
            if not trainer.is_global_zero or step == self.measured or not monitor.due(step):
                return
            self.measured = step
            values = monitor(step, module if network is None else getattr(module, network))
            for logger in trainer.loggers:
                logger.log_metrics(values, step=step)
                _show(logger, monitor, step)

        def __reduce__(self) -> Any:
            return partial(spectrum_logger, monitor, network), ()

    return SpectrumLogger()


def _show(logger: Any, monitor: SpectrumMonitor, step: int) -> None:
    """The picture, where a logger's own writer takes pictures as TensorBoard's does."""
    add_image = getattr(logger.experiment, "add_image", None)
    if add_image is not None and monitor.latest is not None:
        add_image("spectrum", pixels_of(monitor_picture(monitor.latest, step)), step, dataformats="HWC")


def _package() -> Any:
    """The Lightning that the caller has loaded; `lightning` where there is a choice or none."""
    if "pytorch_lightning" in sys.modules and "lightning" not in sys.modules:
        return import_extra("pytorch_lightning", "lightning")
    return import_extra("lightning", "lightning")


def _named(regularizer: SpectralRegularizer, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": value for name, value in regularizer.terms.items()}


def _found(
    module: nn.Module, regularizer: SpectralRegularizer | None, prefix: str
) -> list[tuple[str, SpectralRegularizer]]:
    if regularizer is not None:
        return [(prefix, regularizer)]
    found = [(name, part) for name, part in module.named_modules() if isinstance(part, SpectralRegularizer)]
    if len(found) == 1:
        return [(prefix, found[0][1])]
    return [(f"{prefix}/{name}", part) for name, part in found]
