"""`passband grid` as its users meet it: tables, a page, and a command that continues."""

import json
from pathlib import Path

import pytest

from passband.cli import grid
from passband.training import TrainingInterrupted

RECIPE = """
name: tiny
data: {name: checkerboard, resolution: 16, cells: [2, 4]}
process: {name: vp}
model: {block_out_channels: [8, 8], layers_per_block: 1, mid_attention: false, norm_num_groups: 4}
training: {batch_size: 2, sample_every: null, trackers: []}
sampling: {steps: 2}
"""

GRID = """
name: trial
recipe: recipe.yaml
arms: {none: [], amplitude: ["regularizer={losses: [{name: amplitude}]}"]}
baseline: none
seeds: [0]
steps: [1]
evaluate: {count: 2, metrics: [lsd]}
paper: {source: "Table 3", values: {model: {none: {1: {lsd: 1.25}}}}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "grid.yaml").write_text(GRID)
    return tmp_path / "grid.yaml"


def test_the_combinations_are_listed(passband, file: Path):
    assert passband("grid", file, "--dry-run", "seeds=[0, 7]").out.splitlines() == [
        "model none 0", "model amplitude 0", "model none 7", "model amplitude 7"
    ]  # fmt: skip
    assert list(Path().iterdir()) == []


def test_shares_together_are_the_grid(passband, file: Path):
    first = passband("grid", file, "--share", "1/2")
    assert first.status == 0, first.err
    assert "1 of 2 runs, each evaluated at step 1, in runs/trial" in first.err
    assert "1 of 2 evaluations are not there yet." in first.out
    second = passband("grid", file, "--share", "2/2")
    assert "not there yet" not in second.out
    shown = passband("grid", file, "--table")
    assert shown.out == second.out
    results = json.loads(Path("runs/trial/results.json").read_text())
    none, amplitude = results["tables"]
    assert f"{none['mean']:.4g}" in shown.out
    assert f"{amplitude['difference']:+.4g}".replace("-", "−") in shown.out
    assert "After 1 training step: Log-spectral distance (dB)" in shown.out
    assert "1.25" in shown.out
    assert "Column paper: Table 3." in shown.out
    assert "Page: runs/trial/index.html" in shown.out
    assert Path("runs/trial/table.md").is_file()
    assert Path("runs/trial/grid.yaml").is_file()


@pytest.mark.parametrize("stop", [TrainingInterrupted("stopped at step 3"), KeyboardInterrupt()])
def test_an_interrupt_says_how_to_go_on(passband, file: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException):
    def stopped(*_: object, **__: object) -> None:
        raise stop

    monkeypatch.setattr(grid, "run_grid", stopped)
    result = passband("grid", file)
    assert result.status == 130
    assert "interrupted; the same command continues" in result.err


def test_nothing_to_show_replaces_no_page(passband, file: Path):
    Path("runs/trial").mkdir(parents=True)
    Path("runs/trial/index.html").write_text("the results of other settings")
    result = passband("grid", file, "--table", "evaluate.count=3")
    assert result.status == 1
    assert "2 of 2 evaluations of these settings are not in 'runs/trial'" in result.err
    assert Path("runs/trial/index.html").read_text() == "the results of other settings"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--share", "2"], "--share takes I/N, such as 2/4 on the second of four machines; got '2'"),
        (["--share", "3/2"], "--share takes I/N with I from 1 to N, got '3/2'"),
        (["seeds=[]"], "seeds"),
        (["data.path=x"], "unknown key 'path'"),
        (["evaluate.real=nowhere"], "no such folder or zip of images: 'nowhere'"),
        (["evaluate={count: 2, features: [nonsense]}"], "unknown features: got 'nonsense'"),
        (["--out", __file__], "--out must be a folder"),
    ],
)
def test_wrong_options_run_nothing(passband, file: Path, options: list[str], message: str):
    result = passband("grid", file, *options)
    assert result.status == 2
    assert message in result.err
    assert not list(Path().rglob("recipe.yaml"))
