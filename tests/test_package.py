"""The wheel is complete: it installs into a fresh environment and works from anywhere but the source tree."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*command, cwd):
    result = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """The bin folder of an environment with the wheel, whose other packages are this one's: nothing is downloaded."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    bin_folder = folder / ("Scripts" if sys.platform == "win32" else "bin")
    install = ("install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", bin_folder / "python", *install, wheel, cwd=folder)
    site = run(bin_folder / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    # Paths named in a .pth file are searched, but their own .pth files are not: the editable install stays out.
    paths = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    Path(site.strip(), "borrowed.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
    return bin_folder


def test_wheel_holds_every_source_file_and_nothing_else(wheel):
    sources = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "passband").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == sources
    assert "passband/py.typed" in packed


def test_wheel_carries_the_licence(wheel):
    assert [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/LICENSE")] != []


def test_installed_wheel_imports(environment, tmp_path):
    script = (
        "import importlib.metadata, pathlib, passband; "
        "print(passband.__version__, importlib.metadata.version('passband'), pathlib.Path(passband.__file__).parent); "
        "print(*(getattr(passband, name) for name in passband.__all__))"
    )
    first = run(environment / "python", "-c", script, cwd=tmp_path).splitlines()[0]
    version, recorded, folder = first.split(maxsplit=2)
    assert version == recorded
    assert Path(folder).is_relative_to(environment.parent)


def test_installed_command_runs(environment, tmp_path):
    help_text = run(environment / "passband", "--help", cwd=tmp_path)
    for command in ("demo", "train", "sample", "compare"):
        assert command in help_text
