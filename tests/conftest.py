"""What every test has: run-time shape checks, few threads, repeatable hypothesis runs, the shared data."""

import inspect
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jaxtyping
import pytest
import torch

# Before the first import of passband. As for mypy, an int is a float.
jaxtyping.install_import_hook("passband", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

ROOT = Path(__file__).resolve().parents[1]

hypothesis.settings.register_profile("passband", derandomize=True, deadline=None, max_examples=25, print_blob=True)
hypothesis.settings.load_profile("passband")

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # workers share the cores


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photographs, speech and reference arrays beside the repository."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the shared data folder is not beside the repository")
    return folder


def _expects_an_error(item: pytest.Item) -> bool:
    function = getattr(item, "function", None)
    if function is None:  # a doctest
        return False
    handle = getattr(function, "hypothesis", None)
    return "pytest.raises" in inspect.getsource(handle.inner_test if handle else function)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _expects_an_error(item):
            item.add_marker("bad_input")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Tests of bad input meet the library's own errors, as its users do, not the run-time shape checks."""
    jaxtyping.config.update("jaxtyping_disable", item.get_closest_marker("bad_input") is not None)
    try:
        return (yield)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
