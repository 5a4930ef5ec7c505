"""One name or path to an audio embedding."""

import importlib
from pathlib import Path
from typing import Any

from passband._checks import nearest
from passband.metrics import vggish
from passband.metrics.audio_embeddings import AudioEmbedding, MelStatistics, TorchScriptEmbedding
from passband.metrics.resemblyzer import ResemblyzerEmbedding

_NAMED: dict[str, type[AudioEmbedding]] = {"mel": MelStatistics, "resemblyzer": ResemblyzerEmbedding}
_MODULE, _VGGISH = "module:", "vggish:"


def load_audio_embedding(spec: str) -> AudioEmbedding:
    """An embedding by its name or path.

    | spec | what |
    |---|---|
    | `mel` | [`MelStatistics`][passband.metrics.MelStatistics]: torch alone |
    | `resemblyzer` | [`ResemblyzerEmbedding`][passband.metrics.ResemblyzerEmbedding]: needs the extra `speech` |
    | `PATH` or `PATH@RATE` | [`TorchScriptEmbedding`][passband.metrics.TorchScriptEmbedding] at RATE Hz (16000) |
    | `vggish:PATH` | the same with VGGish's log-mel front end, [`vggish_examples`][passband.metrics.vggish_examples] |
    | `module:package.name` | an embedding of your own: an object, or a class or function that makes one |

    Raises:
        FileNotFoundError: if a path does not exist.
        ImportError: if a module cannot be imported, or an extra is missing.
        TypeError: if what a module gives is no AudioEmbedding.
        ValueError: if spec is none of these.

    Example:
        >>> from passband.metrics import load_audio_embedding
        >>> load_audio_embedding("mel").dim
        96

    """
    if spec in _NAMED:
        return _NAMED[spec]()
    if spec.startswith(_MODULE):
        return _from_module(spec.removeprefix(_MODULE))
    if spec.startswith(_VGGISH):
        return TorchScriptEmbedding(spec.removeprefix(_VGGISH), vggish.RATE, front_end=vggish.vggish_examples)
    path, at, rate = spec.rpartition("@")
    if not at or not rate.isdecimal():
        path, rate = spec, "16000"
    if Path(path).is_file():
        return TorchScriptEmbedding(path, int(rate))
    if Path(path).suffix or len(Path(path).parts) > 1:
        raise FileNotFoundError(f"no TorchScript file at {path}; give a path, or one of {', '.join(_NAMED)}")
    raise ValueError(
        f"unknown audio embedding: got {spec!r}{nearest(spec, _NAMED)}; expected {', '.join(map(repr, _NAMED))}, the "
        "path of a TorchScript file ('PATH', 'PATH@RATE' or 'vggish:PATH'), or 'module:package.name'"
    )


def _from_module(address: str) -> AudioEmbedding:
    module, dot, attribute = address.rpartition(".")
    if not dot:
        raise ValueError(f"expected 'module:package.name' with a dot before the name, got 'module:{address}'")
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except AttributeError as error:
        raise ImportError(f"the module {module!r} has no {attribute!r}") from error
    if isinstance(found, type) or not isinstance(found, AudioEmbedding):
        found = found() if callable(found) else found
    if not isinstance(found, AudioEmbedding):
        raise TypeError(f"{address} must be or make an AudioEmbedding, got {type(found).__name__}; derive it from that")
    return found
