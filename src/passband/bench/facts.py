"""On which machine, with which versions, and from which commit the numbers are."""

import hashlib
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from passband import __version__
from passband._backend import ENVIRONMENT

RIVALS = ("auraloss", "focal-frequency-loss", "ptwt", "pytorch-wavelets", "scipy", "torch-dct", "wavelet-loss")
SAME = (
    *("cpu", "gpu", "device", "threads", "python", "torch", "passband", "commit", "backend", "seed"),
    *("seconds", "repeats"),
)
"""What may not change within one file, besides the packages."""


def collect_facts(
    device: torch.device, seed: int, seconds: float | None = None, repeats: int | None = None
) -> dict[str, Any]:
    """Machine, threads, versions, commit and date; `load` is the machine's in the minute before, 0 for an idle one.

    Args:
        device: where it computes.
        seed: of the inputs.
        seconds: of timing per item, if these decide.
        repeats: turns per item instead.

    """
    facts: dict[str, Any] = {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "passband": __version__,
        "commit": commit(),
        "backend": os.environ.get(ENVIRONMENT) or "auto",
        "seed": seed,
        "seconds": seconds if repeats is None else None,
        "repeats": repeats,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "packages": {name: found for name in RIVALS if (found := _version(name))},
    }
    return {name: value for name, value in facts.items() if value is not None}


def changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What keeps numbers of two runs apart, in words."""
    packages = [facts.get("packages", {}) for facts in (before, now)]
    pairs = [(name, before.get(name), now.get(name)) for name in SAME]
    pairs += [(name, *(versions.get(name) for versions in packages)) for name in sorted({*packages[0], *packages[1]})]
    return [f"{name} {old}, now {new}" for name, old, new in pairs if old != new]


def processor() -> str:
    """The processor's model."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of the checkout that this package runs from; None elsewhere.

    Where the package has changed since, `+` and a hash of the changes follow.
    """
    package = Path(__file__).resolve().parents[1]
    git = shutil.which("git")
    if git is None or _git(git, package, "ls-files", "--error-unmatch", str(package / "__init__.py")) is None:
        return None
    head = _git(git, package, "rev-parse", "--short=12", "HEAD")
    changes = _git(git, package, "diff", "--no-ext-diff", "HEAD", "--", str(package))
    return head if not head or not changes else f"{head}+{hashlib.sha256(changes.encode()).hexdigest()[:8]}"


def _git(git: str, folder: Path, *arguments: str) -> str | None:
    done = subprocess.run([git, "-C", str(folder), *arguments], capture_output=True, check=False)  # noqa: S603
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
