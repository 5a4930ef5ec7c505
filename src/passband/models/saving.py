"""A network in a folder: config.json and model.safetensors. Nothing is pickled."""

import contextlib
import inspect
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from passband import __version__
from passband._checks import import_extra, nearest
from passband.forcing import attached

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
_FORCING = "_spectral_forcing"

Folder = str | os.PathLike[str]
Network = TypeVar("Network", bound="Saveable")


class Saveable(nn.Module):
    """A network that can be saved and built anew: its `config` holds the arguments of its constructor."""

    #: The constructor's arguments, as JSON keeps them.
    config: dict[str, Any]
    #: The Spectral Forcing that a loaded network was saved with, for
    #: [`SpectralForcing.from_config`][passband.forcing.SpectralForcing.from_config]; loading does not attach it.
    recorded_forcing: dict[str, Any] | None = None

    def save_pretrained(self, folder: Folder) -> None:
        """Save the network; see [`save_model`][passband.models.save_model].

        Args:
            folder: where to; made if it is not there.

        """
        save_model(self, folder)

    @classmethod
    def from_pretrained(cls: type[Network], folder: Folder) -> Network:
        """Load a network of this class; see [`load_model`][passband.models.load_model].

        Args:
            folder: a folder that `save_pretrained` wrote.

        Returns:
            The network on the CPU, in evaluation mode.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if a file is damaged, the files do not fit, or the network is of another class.

        """
        model = load_model(folder)
        if not isinstance(model, cls):
            raise ValueError(f"the network at {str(folder)!r} is {type(model).__name__}, expected {cls.__name__}")
        return model


_MODELS: dict[str, type[Saveable]] = {}

Model = TypeVar("Model", bound=type[Saveable])


def registered(model: Model) -> Model:
    """Let [`load_model`][passband.models.load_model] build this class by its name (a class decorator).

    Args:
        model: the class, whose `config` is its constructor's arguments.

    Returns:
        The same class.

    Raises:
        ValueError: if another class has the name.

    """
    other = _MODELS.setdefault(model.__name__, model)
    if (other.__module__, other.__qualname__) != (model.__module__, model.__qualname__):
        raise ValueError(f"a model called {model.__name__!r} is registered already, by {other.__module__}")
    _MODELS[model.__name__] = model
    return model


def save_model(model: Saveable, folder: Folder, extra: Mapping[str, object] | None = None) -> None:
    """Write config.json and model.safetensors into a folder, each whole or not at all.

    The weights are written before the configuration, so that a first save that is cut off leaves no network rather
    than half of one. The Spectral Forcing that is attached, or that the network was loaded with, is recorded in
    config.json.

    Args:
        model: a network of a registered class, in any dtype, on any device.
        folder: where to; made if it is not there. A network that is there is replaced.
        extra: further facts for config.json, kept there under `_extra`; they play no part in loading.

    Raises:
        MissingExtraError: if safetensors is not installed.
        TypeError: if the class of the model is not registered, or extra holds what JSON does not.

    Example:
        >>> import tempfile
        >>> from passband.models import EDMUNet, load_model, save_model
        >>> network = EDMUNet(16, 1, model_channels=16, channel_mult=(1, 2), num_blocks=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(network, folder)
        ...     load_model(folder).config == network.config
        True

    """
    safetensors = import_extra("safetensors.torch", "train")
    name = type(model).__name__
    if _MODELS.get(name) is not type(model):
        raise TypeError(f"cannot save a {name}: expected a network of {_known()}, not one in a wrapper or a subclass")
    config = {"_class_name": name, "_passband_version": __version__, **model.config}
    forcing = attached(model)
    described = model.recorded_forcing if forcing is None else forcing.config
    if described is not None:
        config[_FORCING] = described
    text = json.dumps(config if extra is None else {**config, "_extra": dict(extra)}, indent=2) + "\n"
    # Contiguous, because safetensors keeps no strides (channels-last weights).
    tensors = {key: value.detach().to("cpu").contiguous() for key, value in model.state_dict().items()}
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    _replace(root / WEIGHTS_FILE, lambda path: safetensors.save_file(tensors, path, metadata={"format": "pt"}))
    _replace(root / CONFIG_FILE, lambda path: path.write_text(text, encoding="utf-8"))


def load_model(folder: Folder) -> Saveable:
    """Build the network that a folder holds, from JSON and safetensors alone: nothing is unpickled.

    Args:
        folder: what [`save_model`][passband.models.save_model] wrote.

    Returns:
        The network, in float32 on the CPU and in evaluation mode; its `recorded_forcing` is the Spectral Forcing that
        config.json names, or None. PyTorch's random state is left as it was.

    Raises:
        MissingExtraError: if safetensors is not installed.
        FileNotFoundError: if a file is missing.
        ValueError: if a file is damaged, the class is unknown, or the configuration and the weights do not fit.

    """
    safetensors = import_extra("safetensors", "train")
    load_file = import_extra("safetensors.torch", "train").load_file
    root = Path(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (root / name).is_file():
            raise FileNotFoundError(
                f"there is no saved network at {str(folder)!r}: {name} is missing; expected a folder with "
                f"{CONFIG_FILE} and {WEIGHTS_FILE}, as save_model writes"
            )
    model = _build(root)
    try:
        weights = load_file(root / WEIGHTS_FILE)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{str(root / WEIGHTS_FILE)!r} is damaged ({error}); save the network again") from error
    _check_fit(model.state_dict(), weights, root)
    model.load_state_dict(weights)
    return model.eval()


def _known() -> str:
    return "one of " + ", ".join(map(repr, _MODELS))


def _build(root: Path) -> Saveable:
    """The network of config.json, its weights yet to be filled in."""
    where = str(root / CONFIG_FILE)
    try:
        config = json.loads((root / CONFIG_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{where!r} is damaged ({error}); save the network again") from error
    name = config.get("_class_name") if isinstance(config, dict) else None
    if not isinstance(name, str) or name not in _MODELS:
        hint = nearest(name, _MODELS) if isinstance(name, str) else ""
        raise ValueError(f"{where!r} names the class {name!r}{hint}; expected {_known()}")
    arguments = {key: value for key, value in config.items() if not key.startswith("_")}
    unknown = sorted(set(arguments) - set(inspect.signature(_MODELS[name]).parameters))
    if unknown:
        raise ValueError(f"{where!r} holds {', '.join(map(repr, unknown))}, which {name} does not know")
    try:
        with torch.random.fork_rng(devices=[]):
            model = _MODELS[name](**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where!r} does not describe {name}: {error}") from error
    forcing = config.get(_FORCING)
    if not isinstance(forcing, dict | None):
        raise ValueError(
            f"{where!r} is damaged ({_FORCING} is {forcing!r}, expected an object); save the network again"
        )
    model.recorded_forcing = forcing
    return model


def _check_fit(wanted: Mapping[str, Tensor], got: Mapping[str, Tensor], root: Path) -> None:
    problems = [f"{key} is missing" for key in wanted if key not in got]
    problems += [f"{key} is not in the network" for key in got if key not in wanted]
    problems += [
        f"{key} has shape {tuple(got[key].shape)}, expected {tuple(wanted[key].shape)}"
        for key in wanted
        if key in got and got[key].shape != wanted[key].shape
    ]
    if problems:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise ValueError(f"{WEIGHTS_FILE} does not fit {CONFIG_FILE} in {str(root)!r}: {shown}")


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place, see it on the disk, and move it there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # safetensors makes private files; a network is for others to read
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
