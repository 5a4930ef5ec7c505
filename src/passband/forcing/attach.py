"""Putting Spectral Forcing on a network by a forward pre-hook, and taking it off again."""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from passband.forcing.networks import TOKENS, Arguments, Network, find_arguments, innermost, layers, registered
from passband.process import Process

if TYPE_CHECKING:
    from passband.forcing.forcing import SpectralForcing

CONFIG_KEY = "spectral_forcing"


class Attachment:
    """A forcing on a model: calls the forced model, and can be taken off.

    Made by [`SpectralForcing.attach`][passband.forcing.SpectralForcing.attach].

    Attributes:
        model: the forced model: the one that was given, or a function around a plain callable.
        forcing: the forcing.
        arguments: which arguments of the network are its image and its time.

    """

    def __init__(self, model: Network, hook: "ForcingHook") -> None:
        self.model = model
        self.forcing = hook.forcing
        self.arguments = hook.arguments

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Call the forced model."""
        return self.model(*args, **kwargs)

    def detach(self) -> None:
        """Take the forcing off; the model is as it was before.

        Raises:
            ValueError: if it is off already.

        """
        self.model = detach(self.model)

    def __repr__(self) -> str:
        image, time = self.arguments
        return f"Attachment({type(self.model).__name__}, image={image}, time={time}, {self.forcing})"


class ForcingHook:
    """The forward pre-hook: replaces the image of a call by the forced one."""

    def __init__(
        self, forcing: "SpectralForcing", arguments: Arguments, recorded: dict[str, Any] | None, *, told: bool
    ) -> None:
        self.forcing = forcing
        self.arguments = arguments
        self.told = told  # which argument is the image, rather than guessing by its name
        self.recorded = recorded  # what the model's configuration named before
        # Kept here, because it travels with copies of the model and reserves its key where they are unpickled.
        self.handle: RemovableHandle | None = None

    def __call__(
        self, module: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the call, with the image forced at its time."""
        image, time = (argument.read(args, kwargs) for argument in self.arguments)
        if not isinstance(image, Tensor) or time is None:
            raise self._error(module, image, time)
        if image.ndim == 3 and self.arguments.image.name == TOKENS and not self.told:
            raise ValueError(
                f"{type(module).__name__} takes its {TOKENS} as a sequence, {tuple(image.shape)}: packed tokens have "
                "no spatial axes to low-pass. Force the latent before it is packed, SpectralForcing(process)(latent, "
                "t), and attach nothing; or, if these are signals (batch, channels, positions), attach with "
                f"image={TOKENS!r}"
            )
        forcing = self.forcing
        forced = forcing(image, forcing.process.own_time(time))
        return self.arguments.image.replace(args, kwargs, forced)

    def _error(self, module: object, image: object, time: object) -> Exception:
        name = type(module).__name__
        if not isinstance(image, Tensor):
            return TypeError(
                f"the forcing on {name} expects the noisy image as the argument {self.arguments.image}, got "
                f"{type(image).__name__}; if it is another argument, attach with image="
            )
        return TypeError(
            f"the forcing on {name} needs the time, as the argument {self.arguments.time}, got {time!r}; if it is "
            "another argument, attach with time="
        )


class ForcedFunction:
    """A plain callable with a forcing in front of it."""

    def __init__(self, function: Network, hook: ForcingHook) -> None:
        self.function = function
        self.hook: ForcingHook | None = hook

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Call the function, forced while the forcing is on."""
        if self.hook is not None:
            args, kwargs = self.hook(self.function, args, kwargs)
        return self.function(*args, **kwargs)


def attach(
    forcing: "SpectralForcing", model: Network, *, image: str | int | None = None, time: str | int | None = None
) -> Attachment:
    """Put a forcing on a model; see [`SpectralForcing.attach`][passband.forcing.SpectralForcing.attach]."""
    if isinstance(model, type) or not callable(model):
        raise TypeError(f"model must be a network or a function of (image, time), got {model!r}")
    if attached(model) is not None:
        raise ValueError(
            f"{type(model).__name__} has a forcing already, and forcing twice is another operator; "
            "take it off first: passband.forcing.detach(model)"
        )
    for layer in layers(model):
        own = getattr(layer, "process", None)
        if isinstance(own, Process):
            _check_times(forcing.process, own, f"{type(layer).__name__}'s")
    network = innermost(model)
    assert callable(network)
    told = image is not None or registered(network).image is not None
    hook = ForcingHook(forcing, find_arguments(network, image, time), recorded(network), told=told)
    if not isinstance(network, nn.Module):
        return Attachment(ForcedFunction(network, hook), hook)
    # In front of other hooks, so that the image is the one of the call.
    hook.handle = network.register_forward_pre_hook(hook, prepend=True, with_kwargs=True)
    _record(network, forcing.config)
    _forget_compiled()
    return Attachment(model, hook)


def attached(model: object) -> "SpectralForcing | None":
    """The forcing that is on a model, looking through wrappers (launchers, torch.compile, preconditioned denoisers).

    Args:
        model: a network, inside wrappers or not, or what `Attachment.model` holds.

    Returns:
        The forcing, or None.

    Example:
        >>> import torch
        >>> from passband import Flow, SpectralForcing
        >>> from passband.forcing import attached
        >>> network = torch.nn.Identity()
        >>> attached(network) is None
        True
        >>> forcing = SpectralForcing(Flow(data_at=1))
        >>> attached(forcing.attach(lambda x, t: x).model) is forcing
        True

    """
    found = _find(model)
    return None if found is None else found[1].forcing


def detach(model: Network) -> Network:
    """Take the forcing off a model, which is then as it was before.

    Args:
        model: a network, inside wrappers or not, or what `Attachment.model` holds.

    Returns:
        The model; of a plain callable, the callable itself.

    Raises:
        ValueError: if no forcing is on it.

    """
    found = _find(model)
    if found is None:
        raise ValueError(f"no forcing is on {type(model).__name__}")
    network, hook = found
    if isinstance(network, ForcedFunction):
        network.hook = None
        return network.function
    assert hook.handle is not None
    hook.handle.remove()
    _record(network, hook.recorded)
    _forget_compiled()
    return model


def recorded(model: object) -> dict[str, Any] | None:
    """The forcing that a model's saved configuration names: the one it was trained with.

    Args:
        model: a network, inside wrappers or not.

    Returns:
        The configuration for [`SpectralForcing.from_config`][passband.forcing.SpectralForcing.from_config], or None.

    """
    network = innermost(_plain(model))
    kept = getattr(network, "recorded_forcing", None)
    if kept is None:
        config = getattr(network, "config", None)
        kept = config.get(CONFIG_KEY) if isinstance(config, Mapping) else None
    return None if kept is None else dict(kept)


def check_forced(model: object, process: Process) -> None:
    """Raise where a model would be sampled in another way than it was trained.

    Args:
        model: a network, inside wrappers or not, or a function.
        process: the process that it is sampled with.

    Raises:
        ValueError: if its saved configuration names a forcing and none is attached, or if the attached one was made for
            another process, whose times it would misread.

    """
    forcing = attached(model)
    if forcing is not None:
        _check_times(forcing.process, process, "the given")
    elif recorded(model) is not None:
        raise ValueError(
            f"the {type(model).__name__} was trained with Spectral Forcing, as its configuration says, and none is "
            "attached to it, so that it would see noise it never saw: attach it first, with passband."
            "SpectralForcing.from_config(passband.forcing.recorded(model), process).attach(model)"
        )


def _check_times(ours: Process, theirs: Process, whose: str) -> None:
    """Raise unless the forcing's process reads the times that the network is given as they are meant."""
    times = theirs.time_at(torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64))
    meant = theirs.flow_time(times)
    try:
        read = ours.flow_time(ours.own_time(theirs.model_time(times)))
    except ValueError:  # out of range
        read = torch.full_like(meant, torch.nan)
    if not torch.allclose(read, meant, rtol=0, atol=1e-2):
        raise ValueError(
            f"the forcing was made for {ours}, which would misread the times that {whose} process, {theirs}, gives the "
            "network; make it for that process: SpectralForcing(process, ...)"
        )


def _plain(model: object) -> object:
    return model.model if isinstance(model, Attachment) else model


def _find(model: object) -> tuple[Any, ForcingHook] | None:
    """The network that is forced, and its hook."""
    network = innermost(_plain(model))
    if isinstance(network, ForcedFunction):
        return None if network.hook is None else (network, network.hook)
    if not isinstance(network, nn.Module):
        return None
    hook = next((hook for hook in _hooks(network).values() if isinstance(hook, ForcingHook)), None)
    return None if hook is None else (network, hook)


def _hooks(network: nn.Module) -> Mapping[int, Callable[..., Any]]:
    return network._forward_pre_hooks  # noqa: SLF001  (there is no public way to list them)


def _record(network: nn.Module, config: dict[str, Any] | None) -> None:
    """Name the forcing in the configuration of a diffusers model, or no longer."""
    register: Any = getattr(network, "register_to_config", None)
    if register is None:
        return
    if config is not None:
        register(**{CONFIG_KEY: config})
    else:
        kept: Any = network.config
        network._internal_dict = type(kept)({key: value for key, value in kept.items() if key != CONFIG_KEY})  # noqa: SLF001


def _forget_compiled() -> None:
    """Compiled code is not guarded against new hooks: what may hold this network without them is compiled anew."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
