"""The notebooks are what their tutorials give, and run in a kernel of their own."""

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import nbclient
import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager

DOCS = Path(__file__).resolve().parents[2] / "docs"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks", DOCS / "notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


notebooks = load()


@pytest.mark.parametrize("tutorial", notebooks.PAGES)
def test_the_notebook_is_what_its_tutorial_gives(tutorial: str) -> None:
    written = (DOCS / "tutorials" / f"{tutorial}.ipynb").read_text(encoding="utf-8")
    assert written == notebooks.as_text(tutorial), "run python docs/notebooks.py"
    notebook = nbformat.reads(written, as_version=4)
    nbformat.validate(notebook)
    assert all(cell.outputs == [] for cell in notebook.cells if cell.cell_type == "code")


def test_code_and_text_alternate_as_on_the_page() -> None:
    made = notebooks.notebook("# Title\n\nText.\n\n```python\na = 1\n\n\nb = 2\n```\n\n```console\nls\n```\nEnd.\n")
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in made["cells"]] == [
        ("markdown", "# Title\n\nText."),
        ("code", "a = 1\n\n\nb = 2"),
        ("markdown", "```console\nls\n```\nEnd."),
    ]
    nbformat.validate(nbformat.from_dict(made))


def test_a_page_with_a_hidden_setup_is_no_notebook() -> None:
    with pytest.raises(ValueError, match="take the hidden set-up out"):
        notebooks.notebook("# Title\n\n<!-- setup\na = 1\n-->\n")


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AsyncKernelManager]:
    """The kernel of this interpreter, whatever kernels the user has installed."""
    for name, value in {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "IPYTHONDIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    specs = KernelSpecManager(kernel_dirs=[], ensure_native_kernel=True)
    # Sockets in a folder take no ports; their paths must be short.
    with tempfile.TemporaryDirectory(prefix="kernel-") as folder:
        yield AsyncKernelManager(
            kernel_name="python3", kernel_spec_manager=specs, transport="ipc", connection_file=f"{folder}/kernel.json"
        )


@pytest.mark.parametrize("tutorial", notebooks.PAGES)
def test_the_notebook_runs(tutorial: str, kernel: AsyncKernelManager, tmp_path: Path) -> None:
    notebook = nbformat.read(DOCS / "tutorials" / f"{tutorial}.ipynb", as_version=4)
    client = nbclient.NotebookClient(notebook, km=kernel, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(cleanup_kc=True)  # a kernel that is given is left running otherwise
    assert (tmp_path / "spectrum.png").read_bytes()[1:4] == b"PNG"
    printed = "".join(out["text"] for cell in notebook.cells for out in cell.get("outputs", []) if "text" in out)
    assert "spectr" in printed
    assert "nan" not in printed
