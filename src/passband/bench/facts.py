"""On which machine, with which versions, and from which commit the numbers are."""

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

RIVALS = ("auraloss", "focal-frequency-loss", "ptwt", "pytorch-wavelets", "scipy", "torch-dct", "wavelet-loss")
SAME = ("cpu", "gpu", "device", "threads", "torch", "passband", "commit", "backend", "seed")
"""What may not change within one file."""


def collect_facts(device: torch.device, seed: int) -> dict[str, Any]:
    """Machine, threads, versions, commit and date; `load` is the machine's in the minute before, 0 for an idle one."""
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
        "backend": os.environ.get("PASSBAND_BACKEND", "auto"),
        "seed": seed,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "packages": {name: found for name in RIVALS if (found := _version(name))},
    }
    return {name: value for name, value in facts.items() if value is not None}


def changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What keeps numbers of two runs apart, in words."""
    return [f"{name} {before.get(name)}, now {now.get(name)}" for name in SAME if before.get(name) != now.get(name)]


def processor() -> str:
    """The processor's model."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of the checkout that this package runs from, with `+` where files have changed; None elsewhere."""
    here = Path(__file__).resolve().parent
    git = shutil.which("git")
    if git is None or _git(git, here, "ls-files", "--error-unmatch", str(here.parent / "__init__.py")) is None:
        return None
    head = _git(git, here, "rev-parse", "--short=12", "HEAD")
    changes = _git(git, here, "status", "--porcelain", "--untracked-files=no")
    return None if head is None else head + ("+" if changes else "")


def _git(git: str, folder: Path, *arguments: str) -> str | None:
    done = subprocess.run([git, "-C", str(folder), *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
