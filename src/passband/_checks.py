"""One place for the errors of bad input: what was got, what was expected, what to do."""

import difflib
import importlib
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from types import ModuleType

from torch import Tensor


class MissingExtraError(ImportError):
    """An optional dependency is not installed, or broken; the message holds the install command."""


def import_extra(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say which extra of passband brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name.split(".")[0]):
            raise
        raise MissingExtraError(
            f"this needs the package {error.name!r}, which is not installed; "
            f"install it with: pip install 'passband[{extra}]'"
        ) from error
    except (ImportError, OSError) as error:  # a library that it needs is missing, or of another version
        raise MissingExtraError(
            f"the package {module.partition('.')[0]!r} is installed and cannot be imported ({error}); "
            f"reinstall it with: pip install --force-reinstall 'passband[{extra}]'"
        ) from error


def nearest(value: str, choices: Iterable[str]) -> str:
    """`` (did you mean 'haar'?)``, or nothing when no choice is close."""
    close = difflib.get_close_matches(value, list(choices), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raise ValueError, listing the choices, unless value is one of them."""
    known = list(choices)
    if value not in known:
        names = [choice for choice in known if isinstance(choice, str)]
        hint = nearest(value, names) if isinstance(value, str) else ""
        raise ValueError(f"unknown {name}: got {value!r}{hint}; expected one of {', '.join(map(repr, known))}")


def check_number(name: str, value: object) -> None:
    """Raise TypeError unless value is a real number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}")


def is_integer(value: object) -> bool:
    """Whether value is an integer, NumPy's included."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_integer(name: str, value: object) -> None:
    """Raise TypeError unless value is an integer."""
    if not is_integer(value):
        raise TypeError(f"{name} must be an int, got {value!r} of type {type(value).__name__}")


def check_pair(name: str, value: object) -> None:
    """Raise TypeError unless value is a pair of real numbers."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise TypeError(f"{name} must be a pair of numbers, got {value!r}")
    for number in value:
        check_number(f"each value of {name}", number)


def check_floating(name: str, x: Tensor) -> None:
    """Raise TypeError unless x is a real floating-point tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}; {_tensor_in(x)}")
    if not x.is_floating_point():
        raise TypeError(
            f"{name} must be a real floating-point tensor, got {x.dtype}; convert it with {name}.float() "
            "(images: scale them to [-1, 1] first)"
        )


def _tensor_in(x: object) -> str:
    """How to come from x to a tensor, of what diffusers' networks and encoders return too."""
    sample = getattr(x, "sample", None)
    if sample is None:
        return "convert it with torch.as_tensor"
    return "pass its .mean or .sample()" if callable(sample) else "pass its .sample"


def check_batch(name: str, x: Tensor, dims: Iterable[int] = (1, 2, 3)) -> None:
    """Raise unless x is floating, of shape (batch, channels, *spatial), with a non-empty spatial part.

    Args:
        name: the argument's name, for the message.
        x: the tensor.
        dims: the numbers of spatial dimensions that are allowed.

    """
    check_floating(name, x)
    allowed = tuple(dims)
    if x.ndim - 2 not in allowed:
        wanted = " or ".join(str(d) for d in allowed)
        raise ValueError(
            f"{name} must have shape (batch, channels, *spatial) with {wanted} spatial dimension(s), "
            f"got shape {tuple(x.shape)}; add the missing axes with unsqueeze"
        )
    if 0 in x.shape[1:]:
        raise ValueError(f"{name} has an empty dimension: got shape {tuple(x.shape)}")


def check_same_shape(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """Raise ValueError unless both tensors have one shape (no broadcasting)."""
    if x.shape != other.shape:
        raise ValueError(
            f"{name} and {other_name} must have the same shape, got {tuple(x.shape)} and {tuple(other.shape)}"
        )
