"""The example scripts with and without the term: three added lines, and both train, save and draw."""

import difflib
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from passband.data import save_image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PLAIN, SPECTRAL = "train_unconditional.py", "train_unconditional_spectral.py"
SMALL = (
    "--resolution 16 --layers_per_block 1 --block_out_channels 8 8 --train_batch_size 4 --num_epochs 4 --log_epochs 1 "
    "--eval_batch_size 1 --ddpm_num_inference_steps 2"
)


@pytest.fixture
def train(monkeypatch, capsys):
    """Run a script as its command does, from arguments to the losses that it printed."""

    def run(script, images, out, *options):
        arguments = [script, "--train_data_dir", images, "--output_dir", out, *SMALL.split(), *options]
        monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
        AcceleratorState._reset_state(reset_partial_state=True)
        try:
            runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        finally:
            AcceleratorState._reset_state(reset_partial_state=True)
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        return [float(line[3]) for line in lines if line[2:3] == ["loss"]]

    return run


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    generator = torch.Generator().manual_seed(0)
    for number in range(4):
        save_image(torch.rand(3, 20, 24, generator=generator), folder / f"{number}.png")
    return folder


def test_the_difference_is_three_added_lines():
    plain, spectral = ((EXAMPLES / name).read_text().splitlines() for name in (PLAIN, SPECTRAL))
    changes = [line for line in difflib.ndiff(plain, spectral) if not line.startswith("  ")]
    assert [line.split()[0] for line in changes] == ["+", "+", "+"]
    assert [("passband" in line, "spectral" in line) for line in changes] == [
        (True, False),
        (False, True),
        (False, True),
    ]


@pytest.mark.parametrize(
    "options",
    [
        ("--prediction_type", "epsilon", "--gradient_accumulation_steps", "2"),
        ("--prediction_type", "sample", "--mixed_precision", "bf16"),
    ],
    ids=["epsilon", "sample"],
)
def test_both_run_and_differ_by_the_term(options, train, images, tmp_path):
    losses = {}
    for script in (PLAIN, SPECTRAL):
        out = tmp_path / script
        losses[script] = train(script, images, out, *options)
        assert len(losses[script]) == 4
        index = json.loads((out / "model_index.json").read_text())
        assert index["_class_name"] == "DDPMPipeline"
        assert {"unet", "scheduler", "sample-0.png"} <= {path.name for path in out.iterdir()}
        assert json.loads((out / "scheduler/scheduler_config.json").read_text())["prediction_type"] == options[1]
    # The same seed, and hardly a step: the losses differ by the term.
    gaps = [spectral - plain for plain, spectral in zip(losses[PLAIN], losses[SPECTRAL], strict=True)]
    assert max(gaps) > 1e-3
    assert min(gaps) > -1e-3


def test_photographs(train, shared, tmp_path):
    assert all(0 < loss < 10 for loss in train(SPECTRAL, shared / "data/photos", tmp_path))
