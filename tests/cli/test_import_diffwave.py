"""`passband import diffwave` and `passband export diffwave`: folders of checkpoints, and checkpoints of folders."""

import json
from pathlib import Path

import pytest
import torch

from passband import VP
from passband.integrations.diffwave import export_diffwave
from passband.models import DiffWave, load_model
from passband.process import linear_alphas_cumprod

SIZES = {"n_mels": 6, "residual_layers": 3, "residual_channels": 4, "dilation_cycle_length": 2}
PROCESS = VP(alphas_cumprod=linear_alphas_cumprod(50, 1e-4, 0.05))

RECIPE = """
name: tiny
data:
  {name: audio, path: speech, sample_rate: 8000, frames: 4, eval_share: 0,
   mel: {n_fft: 64, hop_length: 16, n_mels: 6, scale: slaney}}
process: {name: vp, prediction: epsilon, schedule: linear, steps: 50, beta_start: 1.0e-4, beta_end: 0.05}
model: {name: diffwave, n_mels: 6, residual_layers: 2, residual_channels: 4, upsample_factors: [4, 4]}
training: {steps: 2, batch_size: 2, ema: 0.5, log_every: 1, sample_every: null}
sampling: {count: 1, steps: 2, noise_schedule: [0.001, 0.1, 0.6]}
"""


def checkpoint(path="weights.pt", **options):
    torch.manual_seed(0)
    settings = {"process": PROCESS, "mel": {"sample_rate": 16000, "n_mels": 6}, "step": 1234} | options
    return export_diffwave(DiffWave(**(SIZES | settings.pop("sizes", {}))), path, **settings).path


def test_there_and_back(passband):
    path = checkpoint()
    result = passband("import", "diffwave", path)
    assert result.status == 0
    parameters = sum(parameter.numel() for parameter in load_model("runs/weights").parameters())
    for text in (
        "Imported 'runs/weights'",
        f"3 layers of 4 channels, dilations up to 2, {parameters:,} parameters",
        "16,000 Hz",
        "6 mel bands, windows of 1024, one per 256 samples",
        "50 steps, betas from 0.0001 to 0.05",
        "trained         1,234 steps",
        "set aside       optimizer, scaler",
        "passband sample runs/weights --input AUDIO --schedule fast",
        "model.name=diffwave model.pretrained=runs/weights process.name=vp process.prediction=epsilon",
        "data.sample_rate=16000 data.mel.n_fft=1024",
    ):
        assert text in result.err, text
    result = passband("export", "diffwave", "runs/weights", "back.pt")
    assert result.status == 0
    for text in (
        "Exported 'back.pt'",
        "50 steps in training, 6 for sampling",
        "trained         1,234 steps",
        "params.py",
    ):
        assert text in result.err, text
    assert "otherwise" not in result.err
    assert Path("back.pt").read_bytes() == path.read_bytes()


def test_options_and_refusals(passband):
    path = checkpoint(sizes={"unconditional": True}, inference_schedule=[0.01, 0.5], mel={"sample_rate": 8000})
    result = passband("import", "diffwave", path, "--out", "out")
    assert result.status == 0
    assert "none: it draws waveforms of its own" in result.err
    assert "passband sample out --schedule 0.01,0.5" in result.err
    result = passband("import", "diffwave", path, "--out", "other", "--sha256", "0" * 64)
    assert (result.status, "has the SHA-256" in result.err, Path("other").exists()) == (2, True, False)
    Path("bad.pt").write_bytes(b"PK bad")
    result = passband("import", "diffwave", "bad.pt", "--out", "other")
    assert (result.status, "damaged or cut short" in result.err) == (2, True)
    result = passband("export", "diffwave", "out", path)
    assert (result.status, "is there already: choose another name" in result.err) == (2, True)
    assert passband("export", "diffwave", "out", path, "--replace").status == 0
    result = passband("export", "diffwave", "out", "x.pt", "--weights", "ema2")
    assert (result.status, "has one set of weights: leave --weights" in result.err) == (2, True)
    result = passband("export", "diffwave", "nothing", "x.pt")
    assert (result.status, Path("x.pt").exists()) == (2, False)


def test_a_run(passband):
    """Its average or its last weights, with its own schedule; what the published code does otherwise is said."""
    soundfile = pytest.importorskip("soundfile", reason="the extra audio is not installed")
    Path("speech").mkdir()
    soundfile.write("speech/a.wav", torch.randn(2000, generator=torch.Generator().manual_seed(0)).numpy() / 9, 8000)
    Path("tiny.yaml").write_text(RECIPE)
    assert passband("train", "tiny.yaml", "--out", "run").status == 0
    result = passband("export", "diffwave", "run", "ema.pt")
    assert result.status == 0
    for text in (
        "50 steps in training, 3 for sampling",
        "trained         2 steps",
        "scale = 'htk', ours 'slaney'",
        "by 4 x 4",
    ):
        assert text in result.err, text
    assert passband("export", "diffwave", "run", "last.pt", "--weights", "last", "--checkpoint", 2).status == 0
    for name, folder in (("ema", "ema"), ("last", "diffwave")):
        assert passband("import", "diffwave", f"{name}.pt").status == 0
        kept = load_model(next(Path("run/checkpoints").glob("*2")) / folder)
        found = load_model(f"runs/{name}")
        assert found.config == kept.config
        assert all(torch.equal(value, kept.state_dict()[key]) for key, value in found.state_dict().items())
        mel = json.loads(Path(f"runs/{name}/mel.json").read_text())
        assert (mel["scale"], mel["n_fft"], mel["hop_length"], mel["sample_rate"]) == ("slaney", 64, 16, 8000)
    result = passband("export", "diffwave", "run", "x.pt", "--weights", "em")
    assert (result.status, "did you mean 'ema'" in result.err) == (2, True)
