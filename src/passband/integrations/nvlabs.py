"""The spectral term for NVLabs' EDM and EDM2, as losses that their training loops build by dotted path."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from passband.integrations._named import import_named
from passband.integrations._recorded import Recorded
from passband.process import EDM
from passband.regularization import SpectralRegularizer

#: The key of our own options in a loss's state; the other keys are those of the host's loss.
_OWN = "passband"


class _WithTerm:
    """The host's loss, run unchanged, with the term added to each of its elements."""

    def __init__(
        self,
        loss: Any,
        weight: Any,
        gate: Any,
        base: str | Callable[..., Any],
        report: bool | str,
        base_kwargs: dict[str, Any],
    ) -> None:
        own = {"loss": loss, "weight": weight, "gate": gate, "report": report, "base_kwargs": base_kwargs}
        self._own: dict[str, Any] = _plain("options", own)
        self._own["base"] = base
        self._base_state: dict[str, Any] | None = None
        self._built: Any = None
        self._term: SpectralRegularizer | None = None
        _ = self.base, self.regularizer  # errors belong here, not into the first step

    @property
    def base(self) -> Any:
        """The host's loss."""
        if self._built is None:
            self._built = _built(self._own["base"], self._own["base_kwargs"])
            if self._base_state is not None:
                vars(self._built).clear()
                vars(self._built).update(self._base_state)
        return self._built

    @property
    def regularizer(self) -> SpectralRegularizer:
        """The term; its `terms` are those of the last call."""
        if self._term is None:
            self._term = SpectralRegularizer(self._own["loss"], self._own["weight"], self._own["gate"])
        return self._term

    def logged(self, prefix: str = "spectral") -> dict[str, float]:
        """The terms of the last call as numbers; see [`logged`][passband.regularization.SpectralRegularizer.logged]."""
        return self.regularizer.logged(prefix)

    def _with_term(self, loss: Any, net: Recorded, clean: Tensor) -> Tensor:
        if not isinstance(loss, Tensor) or loss.ndim == 0:
            raise TypeError(f"{self.base!r} must return a loss that is not reduced, (B, C, H, W), got {loss!r}")
        if len(net.args) < 2:
            raise TypeError(f"{self.base!r} must call the network once, as net(noisy, sigma, ...)")
        noisy, sigma = net.args[:2]
        denoised = net.output[0] if isinstance(net.output, tuple) else net.output
        process = EDM("sample", sigma_data=getattr(self.base, "sigma_data", 0.5))
        term = self.regularizer.per_sample(
            process, noisy, denoised, sigma.reshape(-1), clean=clean, base_loss=loss.mean()
        )
        self._report()
        return loss + term.reshape(-1, *(1,) * (loss.ndim - 1))

    def _report(self) -> None:
        report = self._own["report"]
        if report is False:
            return
        if report is True:
            found = getattr(sys.modules.get("torch_utils.training_stats"), "report", None)
        else:
            found = _named(report)
        if found is not None:
            for name, value in self.regularizer.terms.items():
                found(f"Loss/spectral/{name}", value)

    # Plain options and the attributes of the host's loss: a run can get the term, or lose it, between two of its parts.

    def __getstate__(self) -> dict[str, Any]:
        state = self._base_state if self._built is None else getattr(self._built, "__dict__", None)
        return {**(state or {}), _OWN: self._own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = state.get(_OWN, vars(self).get("_own"))
        if own is None:
            raise ValueError(f"this is no state of a {type(self).__name__}: it holds {sorted(state)}, and no {_OWN!r}")
        self._own, self._built, self._term = own, None, None
        self._base_state = {name: value for name, value in state.items() if name != _OWN}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._own.items())})"


class EDMLoss(_WithTerm):
    r"""The loss of NVLabs' EDM with a spectral term, for its `loss_kwargs`.

    The host's own loss runs unchanged, with the same random numbers, around a network (and an augmentation) whose call
    is kept; the term compares the denoised images with the clean, augmented ones. The host divides the *sum* over a
    sample's elements by the batch size, while the weight here is beside a *mean*; so the term is added to each element,
    and $\text{sum} / (B \cdot C \cdot H \cdot W)$ is the base loss's mean plus the weighted term.

    Its state is plain values. Terms are reported as `Loss/spectral/...` to the host's `training_stats`.

    Args:
        loss: the loss by name, a mapping, or a list of these; see [`as_loss`][passband.regularization.as_loss].
        weight: a number, `"edm"`, `{"edm": 0.5}` or `{"share": 0.1}`.
        gate: the largest noise ratio at which the term counts, or `{"max_ratio": 10, "softness": 0.5}`.
        base: the host's loss: a dotted path (`training.loss.VPLoss` too), a class, or an object.
        report: whether to report to the host's `training_stats`, where it is loaded; or the dotted path of another
            function (name, value), which gets tensors.
        base_kwargs: options of the host's loss, such as `P_mean`.

    Raises:
        ImportError: if the base cannot be imported.
        TypeError: if an option is no plain value, or the base no loss.
        ValueError: if one of the options is unknown or out of range.

    Example:
        >>> import torch
        >>> from passband.integrations.nvlabs import EDMLoss
        >>> def base(net, images, labels=None, augment_pipe=None):  # the host's has noise levels of its own
        ...     sigma = torch.full((len(images), 1, 1, 1), 0.5)
        ...     return (net(images + sigma * torch.randn_like(images), sigma, labels) - images) ** 2
        >>> loss_fn = EDMLoss("amplitude", weight=0.1, base=base)
        >>> loss = loss_fn(net=lambda x, sigma, labels: 0.8 * x, images=torch.randn(2, 3, 8, 8))
        >>> loss.shape, sorted(loss_fn.logged())
        (torch.Size([2, 3, 8, 8]), ['spectral/amplitude', 'spectral/total'])

    Source: Karras et al. 2022 (arXiv:2206.00364); Spectral Regularization (arXiv:2603.02447).
    """

    def __init__(
        self,
        loss: Any = "amplitude_phase",
        weight: Any = 0.01,
        gate: Any = None,
        base: str | Callable[..., Any] = "training.loss.EDMLoss",
        report: bool | str = True,
        **base_kwargs: Any,
    ) -> None:
        super().__init__(loss, weight, gate, base, report, base_kwargs)

    def __call__(
        self,
        net: Callable[..., Any],
        images: Tensor,
        labels: Tensor | None = None,
        augment_pipe: Callable[..., Any] | None = None,
    ) -> Tensor:
        """The host's loss plus the term, not reduced, (B, C, H, W)."""
        recorded = Recorded(net)
        pipe = None if augment_pipe is None else Recorded(augment_pipe)
        loss = self.base(net=recorded, images=images, labels=labels, augment_pipe=pipe)
        return self._with_term(loss, recorded, images if pipe is None else pipe.output[0])


class EDM2Loss(_WithTerm):
    """The loss of NVLabs' EDM2 with a spectral term, for its `loss_kwargs`.

    As [`EDMLoss`][passband.integrations.nvlabs.EDMLoss]; the network is called with `return_logvar=True`, and the term
    stands outside of the host's weighting by that uncertainty. The images are what the host's encoder made of them:
    latents, or pixels with its RGB encoder.

    Args:
        loss: as for `EDMLoss`.
        weight: as for `EDMLoss`.
        gate: as for `EDMLoss`.
        base: the host's loss: a dotted path, a class, or an object.
        report: as for `EDMLoss`.
        base_kwargs: options of the host's loss, such as `P_mean`, which `train_edm2.py` passes.

    Raises:
        ImportError, TypeError, ValueError: as for `EDMLoss`.

    Source: Karras et al. 2024 (arXiv:2312.02696); Spectral Regularization (arXiv:2603.02447).
    """

    def __init__(
        self,
        loss: Any = "amplitude_phase",
        weight: Any = 0.01,
        gate: Any = None,
        base: str | Callable[..., Any] = "training.training_loop.EDM2Loss",
        report: bool | str = True,
        **base_kwargs: Any,
    ) -> None:
        super().__init__(loss, weight, gate, base, report, base_kwargs)

    def __call__(self, net: Callable[..., Any], images: Tensor, labels: Tensor | None = None) -> Tensor:
        """The host's loss plus the term, not reduced, (B, C, H, W)."""
        recorded = Recorded(net)
        loss = self.base(net=recorded, images=images, labels=labels)
        return self._with_term(loss, recorded, images)


def _built(base: object, kwargs: dict[str, Any]) -> Any:
    """The host's loss of a dotted path, a class or an object."""
    found = _named(base) if isinstance(base, str) else base
    if isinstance(found, _WithTerm) or (isinstance(found, type) and issubclass(found, _WithTerm)):
        raise ValueError(f"base must be the host's own loss, such as 'training.loss.EDMLoss', got {base!r} again")
    if isinstance(found, type):
        return found(**kwargs)
    if not callable(found):
        raise TypeError(f"base must be the host's loss, its class, or the dotted path of one, got {base!r}")
    if kwargs:
        raise TypeError(f"options of the base loss go with its class; {base!r} is an object already, got {kwargs!r}")
    return found


def _named(path: str) -> Any:
    """What a dotted path names."""
    module, _, name = path.rpartition(".")
    if not module or not name:
        raise ValueError(f"expected a dotted path such as 'training.loss.EDMLoss', got {path!r}")
    found = import_named(module, path, "run this from the host's folder, or name it in PYTHONPATH")
    if not hasattr(found, name):
        raise ValueError(f"{module} has no {name!r}, which {path!r} asks for")
    return getattr(found, name)


def _plain(name: str, value: Any) -> Any:
    """A copy in dicts, lists, numbers and texts; the host's own dictionary classes would bind its files to it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(f"{name}[{key!r}]", one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(f"{name}[{index}]", one) for index, one in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"{name} must be a plain value, which the host can write as JSON and keep in its files, got {value!r}; "
        "describe a loss by its name, such as {'name': 'wavelet', 'levels': 3}"
    )
