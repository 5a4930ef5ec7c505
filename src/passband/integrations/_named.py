"""Modules of one's own, by the name of the function that makes them."""

import importlib

from torch import nn

PREFIX = "module:"


def make_module(spec: str) -> nn.Module:
    """What the function of `module:package.name` returns, called without arguments.

    Raises:
        ImportError: if the package cannot be imported.
        TypeError: if the function does not return an nn.Module.
        ValueError: if the text is not of this form, or the package has no such name.

    """
    package, _, name = spec.removeprefix(PREFIX).rpartition(".")
    if not spec.startswith(PREFIX) or not package or not name:
        raise ValueError(f"expected {PREFIX}package.name, with a function that makes the network, got {spec!r}")
    try:
        found = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{package}.".startswith(f"{error.name}."):
            raise
        raise ImportError(
            f"cannot import {package!r} of {spec!r} ({error}); install it, or name its folder in PYTHONPATH"
        ) from error
    make = getattr(found, name, None)
    if not callable(make):
        raise ValueError(f"{package} has no function {name!r}, which {spec!r} asks for")
    module = make()
    if not isinstance(module, nn.Module):
        raise TypeError(f"{package}.{name}() must return an nn.Module, got {type(module).__name__}")
    return module
