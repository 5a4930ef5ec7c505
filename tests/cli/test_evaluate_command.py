"""`passband evaluate` as its users meet it: a table, a page, and a command that continues."""

import json
from pathlib import Path

import pytest

from passband.training.evaluate import Evaluator

FOLDER = Path("evaluation") / "step-00000002"
QUICK = ("--metrics", "lsd", "--steps", 2, "--count", 6)


def test_it_prints_a_table_and_writes_a_page(passband, run: Path):
    result = passband("evaluate", run, *QUICK, "--batch-size", 4)
    assert result.status == 0, result.err
    (entry,) = json.loads((run / FOLDER / "results.json").read_text())["metrics"]
    assert "Log-spectral distance (dB) ↓" in result.out
    assert f"{entry['value']:.4g}" in result.out
    assert f"Page: {run / FOLDER / 'index.html'}" in result.out
    assert "drawing samples" in result.err
    assert "measuring real images" in result.err
    page = (run / FOLDER / "index.html").read_text(encoding="utf-8")
    assert "Evaluation of run at step 2" in page
    assert f"passband evaluate {run}" in page
    assert len(list((run / FOLDER / "samples").glob("*.png"))) == 6


def test_it_goes_on_where_it_was_interrupted(passband, run: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr("passband.training.evaluate.measure", _interrupted)
        result = passband("evaluate", run, *QUICK)
        assert result.status == 130
        assert "interrupted; the same command continues" in result.err
    assert passband("evaluate", run, *QUICK).status == 0
    again = passband("evaluate", run, *QUICK)
    assert again.status == 0
    assert "drawing samples" not in again.err
    assert "Log-spectral distance" in again.out


def _interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_options_reach_the_settings(passband, run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = {}

    def remember(self, *arguments: object, **options: object) -> None:
        seen.update(settings=self.settings, stats=self.real_stats, arguments=arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Evaluator, "evaluate", remember)
    options = ["--features", "a.pt", "--features", "b.pt", "--metrics", "lsd, kid", "--seed", 3, "--solver", "heun"]
    more = ["--real", photos, "--limit", 5, "--weights", "last", "--checkpoint", 2, "--real-stats", "s", "--out", "o"]
    passband("evaluate", run, *options, *more)
    settings = seen["settings"]
    assert settings.features == ("a.pt", "b.pt")
    assert settings.metrics == ("kid", "lsd")
    assert (settings.count, settings.seed, settings.solver, settings.limit) == (50_000, 3, "heun", 5)
    assert (settings.weights, settings.real) == ("last", photos)
    assert (seen["arguments"], seen["step"], seen["stats"]) == ((run, Path("o")), 2, Path("s"))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metrics", "fid"], "unknown metric in --metrics: got 'fid'"),
        (["--solver", "hein", "--metrics", "lsd"], "unknown solver: got 'hein' (did you mean 'heun'?)"),
        (["--features", "efficientnet-lite1"], "unknown features: got 'efficientnet-lite1'"),
        (["--features", "nowhere/inception.pt"], "no TorchScript file at nowhere/inception.pt"),
        (["--real", "nowhere", "--metrics", "lsd"], "nowhere"),
        (["--checkpoint", 5, "--metrics", "lsd"], "has no checkpoint of step 5"),
        (["--device", "toaster"], "cannot compute on --device toaster"),
    ],
)
def test_wrong_options_draw_nothing(passband, run: Path, options: list[object], message: str):
    result = passband("evaluate", run, "--count", 2, *options)
    assert result.status == 2
    assert message in result.err
    assert not (run / "evaluation").exists()
