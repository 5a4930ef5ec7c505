"""The page of an evaluated network of audio: what it calls its measures, and figures legible for every reader."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from passband.reports import LongTermSets
from passband.reports.audio_evaluation import audio_evaluation_report

RATE = 8000
RESULTS = {
    "kind": "vocoder",
    "metrics": [
        {"metric": "hf_balance", "title": "High band (dB)", "better": "zero", "value": -3.0, "above_hz": 2e3},
        {"metric": "mr_stft", "title": "Multi-resolution STFT", "better": "lower", "value": 1.5, "spread": 0.1},
    ],
    "samples": {
        "run": "/runs/voices", "step": 2000, "weights": "ema", "solver": "ddim", "steps": 6, "nfe": 6,
        "sample_rate": RATE,
    },
    "clips": [{"name": "a", "seconds": 0.5, "mr_stft": 1.25}],
    "real": "voices", "subset": "eval", "notes": [], "processes": 1, "machine": "a processor", "seconds": 9.0,
    "versions": {"passband": "0"},
}  # fmt: skip


@pytest.mark.usefixtures("no_pdf")
def test_the_page_and_its_figures(legible: Callable[[str], int], tmp_path: Path) -> None:
    sets, generator = LongTermSets(RATE), torch.Generator().manual_seed(0)
    clips = [0.1 * torch.randn(RATE // 2, generator=generator) for _ in range(4)]
    for number, clip in enumerate(clips):
        sets.update(number, real=clip, fake=clip / 2)
    shown = {"a": (clips[0], clips[0] / 2, {"mr_stft": 1.25})}
    page = audio_evaluation_report(RESULTS, sets.compute(), shown, tmp_path, command="passband evaluate voices")
    source = page.read_text(encoding="utf-8")
    assert legible(source) == 6  # two spectrograms, their colours, and three of the spectra
    assert "Multi-resolution STFT 1.25" in source  # below the player
    assert '<th scope="col" class="number">Multi-resolution STFT</th>' in source
    assert "mr_stft" not in source
    assert json.loads((tmp_path / "results.json").read_text())["clips"][0]["mr_stft"] == 1.25
