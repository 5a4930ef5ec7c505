"""constraints.txt pins everything that the extras bring, and only that."""

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9.!]+)")
UNWANTED = {"torchvision", "torchaudio"}


def pins():
    matches = (PIN.fullmatch(line) for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines())
    return {canonicalize_name(m["name"]): m["version"] for m in matches if m}


def needed(requirement="passband[dev]"):
    """Names of all distributions that a requirement brings here, itself included."""
    found, waiting = set(), [Requirement(requirement)]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        for extra in ("", *sorted(wanted.extras)):
            if (name, extra) in found:
                continue
            found.add((name, extra))
            required = map(Requirement, distribution(name).requires or [])
            waiting += [r for r in required if r.marker is None or r.marker.evaluate({"extra": extra})]
    return {name for name, _ in found} - {"passband"}


def test_every_line_is_a_plain_pin():
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not PIN.fullmatch(line)] == []
    assert len(pins()) == len(lines)


def test_all_that_the_extras_bring_is_pinned():
    assert needed() - set(pins()) == set()


def test_installed_versions_are_the_pinned_ones():
    found = {name: distribution(name).version.partition("+")[0] for name in needed()}
    assert found == {name: pins()[name] for name in found}


def test_no_extra_brings_torchvision_or_torchaudio():
    assert (needed() | set(pins())) & UNWANTED == set()


def installed(name):
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def test_torchvision_and_torchaudio_are_not_installed():
    assert [name for name in sorted(UNWANTED) if installed(name)] == []
