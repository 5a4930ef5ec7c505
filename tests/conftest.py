"""What every test has: run-time shape checks, few threads, repeatable hypothesis runs, the shared data."""

import importlib.util
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import jaxtyping
import pytest
import torch

if not torch.cuda.is_available():
    # Triton's kernels run in its interpreter, which has to be chosen before the first import of Triton.
    os.environ.setdefault("TRITON_INTERPRET", "1")

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


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of tiny diffusers pipelines: "ddpm", "dit", "sd", "sdxl", "sd3", "flux"; not to be changed."""
    spec = importlib.util.spec_from_file_location("tiny_pipelines", ROOT / "tests" / "tiny_pipelines.py")
    assert spec is not None
    assert spec.loader is not None
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    saved: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in saved:
            saved[kind] = builder.build(kind, tmp_path_factory.mktemp("pipelines") / kind)
        return saved[kind]

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
