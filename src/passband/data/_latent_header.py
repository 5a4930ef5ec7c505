"""latents.json: what a folder of latents says of itself."""

import json
from pathlib import Path
from typing import Any

LATENTS_FILE = "latents.json"
SETTINGS_FILE = "encode.json"
AUTOENCODER_FOLDER = "autoencoder"
FORMAT = "passband latents 1"

_KEYS = {
    "format", "encoding", "shape", "image_shape", "count", "num_classes", "class_names", "flips", "shift", "scale",
    "statistics", "autoencoder", "data", "images", "teachers", "shards",
}  # fmt: skip


def read_header(path: Path) -> dict[str, Any]:
    """What latents.json in a folder says.

    Raises:
        FileNotFoundError: if there is none, or the latents are not finished.
        ValueError: if it cannot be read.

    """
    file = path / LATENTS_FILE
    if not file.is_file():
        if (path / SETTINGS_FILE).is_file():
            raise FileNotFoundError(
                f"the latents in {str(path)!r} are not finished: run the same `passband encode` command again"
            )
        raise FileNotFoundError(
            f"there are no latents at {str(path)!r}: expected a folder that `passband encode` wrote, with its "
            f"{LATENTS_FILE}"
        )
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
        if header["format"] != FORMAT:
            raise ValueError(f"its format is {header['format']!r}, expected {FORMAT!r}")
        missing = _KEYS - header.keys()
        if missing:
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{str(file)!r} cannot be used ({error}): delete it and run the same `passband encode` command again, "
            "which keeps the shards"
        ) from error
    assert isinstance(header, dict)
    return header
