"""Measured sets that lie in files: one file, or a folder with the parts that several machines measured."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from passband.metrics.sample_spectrum import MEASURED_SUFFIX
from passband.training.measured_set import MeasuredSet


def part_name(share: tuple[int, int]) -> str:
    """The file of one of several shares.

    Example:
        >>> from passband.training.measured_files import part_name
        >>> part_name((2, 4))
        'part-2-of-4.spectrum.safetensors'

    """
    return f"part-{share[0]}-of-{share[1]}{MEASURED_SUFFIX}"


def holds_measured(path: Path) -> bool:
    """Whether a path is a measured set, or a folder of some."""
    if path.is_dir():
        return any(path.glob(f"*{MEASURED_SUFFIX}"))
    return path.name.endswith(MEASURED_SUFFIX)


def measured_rate(path: Path) -> int | None:
    """The sample rate of audio that was measured, Hz; None of everything else, and of what cannot be read."""
    files = sorted(path.glob(f"*{MEASURED_SUFFIX}")) if path.is_dir() else [path]
    try:
        with safe_open(files[0], "np") as file:
            facts = json.loads((file.metadata() or {}).get("passband", "null"))
    except (OSError, SafetensorError, ValueError):
        return None  # opening it says why
    rate = facts.get("sample_rate") if isinstance(facts, dict) else None
    return rate if isinstance(rate, int) else None


def load_measured(path: Path, name: str) -> MeasuredSet:
    """The measured set in a file, or in the parts in a folder.

    Args:
        path: the file or folder.
        name: what the samples are called in errors.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if a file is damaged, a share is missing or comes twice, or they are of several sets.

    """
    files = sorted(path.glob(f"*{MEASURED_SUFFIX}")) if path.is_dir() else [path]
    found = [MeasuredSet.load(file, name) for file in files]
    _check_parts(path, files, [facts for _, facts in found])
    whole = found[0][0]
    for measured, _ in found[1:]:
        whole.merge(measured)
    return whole


def _common(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What all shares of a set have in common; paths and times may differ between machines."""
    return {key: value for key, value in facts.items() if key not in ("share", "path", "files", "file")}


def _check_parts(path: Path, files: Sequence[Path], facts: Sequence[dict[str, Any]]) -> None:
    if not any(facts):
        return  # written by SampleSpectrum.save, which says nothing of them
    shares = [tuple(each.get("share", (1, 1))) for each in facts]
    count = shares[0][1]
    alike = all(_common(each) == _common(facts[0]) for each in facts) and all(n == count for _, n in shares)
    if not alike or (count == 1 and len(files) > 1):
        raise ValueError(
            f"{str(path)!r} holds measured sets of different samples or settings "
            f"({', '.join(file.name for file in files)}): give one file, or a folder that holds the parts of one set "
            "that --share wrote"
        )
    indices = [index for index, _ in shares]
    missing = sorted(set(range(1, count + 1)) - set(indices))
    if missing:
        raise ValueError(
            f"{str(path)!r} lacks share {', '.join(map(str, missing))} of {count}: measure with --share "
            f"{missing[0]}/{count}, and put its file there"
        )
    if len(indices) > count:
        raise ValueError(f"{str(path)!r} holds a share twice: {', '.join(file.name for file in files)}; remove one")
