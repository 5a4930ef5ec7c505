"""Where a network takes its image and its time, and what stands around it."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from passband._checks import is_integer, nearest

Network = Callable[..., Any]

#: diffusers' transformers take an image under this name, or tokens.
TOKENS = "hidden_states"
IMAGES = ("sample", TOKENS, "x", "x_t", "xt", "noisy", "z", "z_t", "image", "images", "audio", "noisy_sample")
TIMES = (
    "timestep", "timesteps", "t", "time", "times", "sigma", "sigmas", "noise_labels", "noise_label", "c_noise",
    "noise_level", "noise_levels", "time_step", "diffusion_step", "diffusion_steps", "tau",
)  # fmt: skip


class Registered(NamedTuple):
    """What is known of a class of networks."""

    image: str | int | None
    time: str | int | None
    inner: Callable[[Any], nn.Module] | None


_REGISTERED: dict[type, Registered] = {}


def register_model(
    cls: type,
    *,
    image: str | int | None = None,
    time: str | int | None = None,
    inner: Callable[[Any], nn.Module] | None = None,
) -> None:
    """Tell how a class of models takes image and time, or which network inside it does.

    Needed only where the names of the parameters do not tell; it also holds for sub-classes.

    Args:
        cls: the class.
        image: name or position of the parameter that takes the noisy image.
        time: name or position of the parameter that takes the time.
        inner: function from a model of the class to the network inside it that takes the noisy image, for one that does
            more with its input than hand it on (as a preconditioned denoiser does).

    Raises:
        TypeError: if cls is no class, or inner no function.

    Example:
        >>> import torch
        >>> from passband.forcing import register_model
        >>> class Residual(torch.nn.Module):
        ...     def __init__(self, network):
        ...         super().__init__()
        ...         self.network = network
        ...     def forward(self, x, t):
        ...         return x + self.network(x, t)  # the x of the sum is not forced
        >>> register_model(Residual, inner=lambda model: model.network)

    """
    if not isinstance(cls, type):
        raise TypeError(f"cls must be a class of models, got {cls!r}; pass type(model)")
    if inner is not None and not callable(inner):
        raise TypeError(f"inner must be a function from the model to the network inside it, got {inner!r}")
    _REGISTERED[cls] = Registered(image, time, inner)


def registered(model: object) -> Registered:
    """What is registered of the model's class, or of the nearest one above it."""
    for cls in type(model).__mro__:
        if cls in _REGISTERED:
            return _REGISTERED[cls]
    return Registered(None, None, None)


def layers(model: object) -> list[object]:
    """The model and what lies inside it, wrapper by wrapper, down to the network that takes the noisy image."""
    found = [model]
    while (inside := _inside(found[-1])) is not None:
        found.append(inside)
    return found


def innermost(model: object) -> object:
    """The network that takes the noisy image, out of all wrappers that are known."""
    return layers(model)[-1]


def _inside(model: object) -> object | None:
    if not isinstance(model, nn.Module):
        return None
    children = dict(model.named_children())
    if type(model).__name__ == "OptimizedModule":  # torch.compile's; its class is not looked up, which loads Dynamo
        return children["_orig_mod"]
    if _is_launcher(model):
        return children["module"]
    inner = registered(model).inner
    return None if inner is None else inner(model)


_LAUNCHERS = ("DistributedDataParallel", "DataParallel", "FullyShardedDataParallel", "AveragedModel")


def _is_launcher(model: nn.Module) -> bool:
    ours = (cls for cls in type(model).__mro__ if cls.__module__.startswith("torch."))
    return any(cls.__name__ in _LAUNCHERS for cls in ours)


class Argument(NamedTuple):
    """One argument of a call: by its name, by its position, or either."""

    name: str | None
    position: int | None

    def read(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Its value in a call, or None."""
        if self.name is not None and self.name in kwargs:
            return kwargs[self.name]
        if self.position is not None and self.position < len(args):
            return args[self.position]
        return None

    def replace(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: object
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call with another value for it."""
        if self.name is not None and self.name in kwargs:
            return args, {**kwargs, self.name: value}
        assert self.position is not None
        return (*args[: self.position], value, *args[self.position + 1 :]), dict(kwargs)

    def __str__(self) -> str:
        return repr(self.name) if self.name is not None else f"number {self.position}"


class Arguments(NamedTuple):
    """Which arguments of a network are the image and the time."""

    image: Argument
    time: Argument


def find_arguments(network: Network, image: str | int | None, time: str | int | None) -> Arguments:
    """The network's image and time: as told, as registered, or by the names of its parameters.

    Raises:
        ValueError: if one is not found, or both are the same.

    """
    known = registered(network)
    parameters = _parameters(network)
    named = [p.name for p in parameters if p.kind not in _STARS]
    image = image if image is not None else known.image
    time = time if time is not None else known.time
    if time is None:
        time = _first(named, TIMES)
    if image is None:
        image = _first(named, IMAGES)
    if image is None and named and named[0] not in TIMES:
        image = named[0]
    if image is None or time is None:
        missing = " and ".join(what for what, found in (("image", image), ("time", time)) if found is None)
        raise ValueError(
            f"cannot tell which argument of {_name(network)} is its {missing}: its parameters are "
            f"({', '.join(str(p) for p in parameters)}); pass image=, time= with their names (or positions)"
        )
    found = Arguments(_argument(network, parameters, image), _argument(network, parameters, time))
    if found.image == found.time:
        raise ValueError(f"image and time are the same argument of {_name(network)}, {found.image}; pass image=, time=")
    return found


_STARS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _parameters(network: Network) -> list[inspect.Parameter]:
    """The parameters of a call; of the class's own forward where a launcher has put another one in its place."""
    if not isinstance(network, nn.Module):
        return _signature(network)
    found = _signature(network.forward)
    if all(p.kind in _STARS for p in found):
        return _signature(type(network).forward)[1:]
    return found


def _signature(function: Network) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # functions written in C have none
        return []


def _first(names: Sequence[str], known: Sequence[str]) -> str | None:
    return next((name for name in names if name in known), None)


def _argument(network: Network, parameters: Sequence[inspect.Parameter], which: str | int) -> Argument:
    if not isinstance(which, str):
        if not is_integer(which) or which < 0:
            raise TypeError(f"image and time are names or positions of parameters, got {which!r}")
        return _at(parameters, int(which))
    for position, parameter in enumerate(parameters):
        if parameter.name == which and parameter.kind not in _STARS:
            by_position = parameter.kind is not inspect.Parameter.KEYWORD_ONLY
            return Argument(which, position if by_position else None)
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        names = [p.name for p in parameters]
        raise ValueError(
            f"{_name(network)} has no parameter {which!r}{nearest(which, names)}; its parameters are "
            f"({', '.join(str(p) for p in parameters)})"
        )
    return Argument(which, None)


def _at(parameters: Sequence[inspect.Parameter], position: int) -> Argument:
    if position < len(parameters) and parameters[position].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
        return Argument(parameters[position].name, position)
    return Argument(None, position)


def _name(network: Network) -> str:
    return type(network).__name__ if isinstance(network, nn.Module) else repr(network)
