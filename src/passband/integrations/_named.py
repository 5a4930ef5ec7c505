"""Modules of one's own, by the name of the function that makes them."""

import importlib
from types import ModuleType

from torch import nn

PREFIX = "module:"


def import_named(module: str, asked: str, remedy: str) -> ModuleType:
    """The module of a name that somebody wrote; one that is not found is an error that says what to do.

    Args:
        module: its dotted name.
        asked: what was written, for the error.
        remedy: what to do, for the error.

    Raises:
        ImportError: if there is none; an import that fails inside of it is left as it is.

    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ImportError(f"cannot import {module!r} of {asked!r} ({error}); {remedy}") from error


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
    make = getattr(import_named(package, spec, "install it, or name its folder in PYTHONPATH"), name, None)
    if not callable(make):
        raise ValueError(f"{package} has no function {name!r}, which {spec!r} asks for")
    module = make()
    if not isinstance(module, nn.Module):
        raise TypeError(f"{package}.{name}() must return an nn.Module, got {type(module).__name__}")
    return module
