"""`passband import edm`: a folder from a pickle, and one message for what is no such pickle."""

import json
import pickle
from pathlib import Path

import pytest

from passband.models import load_model


@pytest.fixture
def source(shared: Path) -> Path:
    return shared / "parity" / "edm_ncsnpp_ve_dev.pkl"


def test_a_network_and_what_is_said_of_it(passband, source):
    result = passband("import", "edm", source)
    assert result.status == 0
    folder = Path("runs/edm_ncsnpp_ve_dev")
    model = load_model(folder)
    assert (model.config["img_resolution"], model.config["label_dim"]) == (16, 10)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert json.loads((folder / "import.json").read_text())["parameters"] == parameters
    for text in (
        f"Imported '{folder}'",
        f"fourier embedding, residual encoder, {parameters:,} parameters",
        "16 x 16, 3 channels",
        "EDM's, from EDMPrecond",
        "'ema'",
        "set aside       nothing",
        f"passband sample {folder}",
        f"train RECIPE model.name=edm_unet model.pretrained={folder} process.name=edm data.resolution=16",
        "data.channels=3 model.class_conditional=true data.labels=json",
    ):
        assert text in result.err, text


def test_options(passband, source, tmp_path):
    out = tmp_path / "a [b]" / "out"
    result = passband("import", "edm", source.as_uri(), "--out", out, "--key", "ema", "--sha256", "0" * 64)
    assert result.status == 2
    assert "has the SHA-256 930a6a30" in result.err
    assert not out.exists()
    result = passband("import", "edm", source.as_uri(), "--out", out)
    assert result.status == 0
    assert str(out) in result.err
    assert passband("import", "edm", source, "--out", out).status == 0
    (out / "notes.txt").write_text("mine")
    result = passband("import", "edm", source, "--out", out)
    assert (result.status, "holds something else ('notes.txt'): choose another --out" in result.err) == (2, True)
    Path("file").write_text("mine")
    result = passband("import", "edm", source, "--out", "file")
    assert (result.status, "'file' is a file: --out names the folder" in result.err) == (2, True)
    result = passband("import", "edm", source, "--key", "emma")
    assert (result.status, "no entry 'emma' (did you mean 'ema'?); it has 'ema'" in result.err) == (2, True)


def test_a_hostile_file(passband, tmp_path):
    class Evil:
        def __reduce__(self):
            return eval, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"ema": Evil()}))
    result = passband("import", "edm", path)
    assert result.status == 2
    assert result.err.startswith(f"error: {str(path)!r} is refused, and nothing in it was run: it names the global")
    assert "'builtins.eval'" in result.err
    assert not (tmp_path / "ran").exists()
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.pkl", "there is no file at 'missing.pkl'"),
        (".", "cannot name a folder"),
        ("ftp://host/x.pkl", "begins with http"),
    ],
)
def test_faults_of_input(passband, name, message):
    result = passband("import", "edm", name)
    assert result.status == 2
    assert message in result.err
    assert not Path("runs").exists()


def test_help(passband):
    assert "edm" in passband("import", "--help").out
    result = passband("import", "edm", "--help")
    assert all(option in result.out for option in ("--out", "--key", "--sha256"))
