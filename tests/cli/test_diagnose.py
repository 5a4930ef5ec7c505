"""`diagnose` as a user meets it: its page and numbers, another model beside it, and its errors."""

import io
import json
import os
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from passband.cli import diagnose as command
from passband.metrics import DenoiserMeasure, measure_wiener
from passband.reports.page import Text

QUICK = ["--count", "8", "--levels", "0.3,3", "--gradients", "4", "--device", "cpu"]


def test_the_page_and_its_numbers(passband, trained, photos, tmp_path, monkeypatch):
    for module in ("sections", "gradients"):  # what is drawn is tested with the page
        monkeypatch.setattr(f"passband.reports.diagnosis.{module}.write_figure", lambda *_, **__: Text("drawn"))
    result = passband("diagnose", trained, photos, "--crop", "tile", "--out", tmp_path, *QUICK)
    assert result.status == 0, result.err
    assert "run: error over the Wiener filter's, dB" in result.out
    assert "Where is run wrong?" in (tmp_path / "index.html").read_text()
    numbers = json.loads((tmp_path / "results.json").read_text())
    (found,) = numbers["models"].values()
    assert [round(ratio, 6) for ratio in found["noise_ratios"]] == [0.3, 3.0]
    # A network after two steps is worse than a filter, and the command says what to try, or why nothing.
    assert any(any(row) for row in found["under_reaches"])
    said = " ".join(result.out.split())
    advice = [sentence for part, sentence in numbers["suggestion"]["sentences"].items() if part != "found"]
    assert all(" ".join(sentence.split()) in said for sentence in (*numbers["summary"], *advice))


def test_two_models_side_by_side(passband, trained, photos, tmp_path, monkeypatch):
    pages = []
    monkeypatch.setattr(command, "write_diagnosis", lambda found, out, **_: pages.append(found) or out)
    result = passband("diagnose", trained, photos, "--against", trained, "--crop", "tile", "--out", tmp_path, *QUICK)
    assert result.status == 0, result.err
    (found,) = pages
    assert [found.model.name, found.against.name] == ["run", "run (2)"]
    assert not found.comparison.different.any()  # the same model twice
    assert "run (2): the same" in result.out


def test_a_narrow_terminal_shows_whole_numbers():
    clean, noise = torch.randn(2, 16, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    measure = DenoiserMeasure([0.5, 1.0], wiener=measure_wiener(clean))
    measure.update(clean, noise, [clean + 0.5 * noise, clean + noise], [str(i) for i in range(16)])
    found = measure.compute()
    heads = [column.header.strip() for column in command._table(found, "wide", 200).columns]
    assert heads[0] == "noise"
    assert [heads[1], *heads[-2:]] == ["mean", "1/2", "corner"]
    narrow = command._table(found, "narrow", 40)
    kept = [column.header.strip() for column in narrow.columns]
    assert kept == [heads[0], *heads[-len(kept) + 1 :]]
    assert f"the {len(heads) - len(kept)} bands of lowest frequency" in str(narrow.caption)
    shown = Console(width=40, file=io.StringIO())
    shown.print(narrow)
    assert "…" not in shown.file.getvalue()
    captions = {str(command._table(found, "", width).caption) for width in range(40, 201)}
    assert {"The page also has the band of lowest frequency.", "None"} <= captions
    level = replace(found, excess=replace(found.excess, difference=torch.full_like(found.relative, -0.04)))
    assert command._cell(level, 0, 3).strip(" *+") == "0.0"


def test_one_loss_and_few_photographs(passband, trained, photos, tmp_path, monkeypatch):
    pages = []
    monkeypatch.setattr(command, "write_diagnosis", lambda found, out, **_: pages.append(found) or out)
    result = passband(
        "diagnose", trained, photos, "--crop", "tile", "--loss", "focal_frequency", "--out", tmp_path, *QUICK
    )
    assert result.status == 0, result.err
    (found,) = pages
    assert list(found.model.spectrum.gradients) == ["base", "focal_frequency", "trained with"]
    assert found.against is None
    assert found.model.spectrum.count == 8
    assert "taken as independent" in result.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--levels", "a,b"], "--levels takes noise ratios separated by commas"),
        (["--loss", "amplitud"], "did you mean 'amplitude'?"),
        (["--crop", "round"], "--crop is one of center, tile"),
        (["--labels", "json"], "about DATA, and none was given"),
        (["--levels", "-1"], "above 0"),
        (["--checkpoint", "7"], "has no checkpoint of step 7"),
        ([], "needs at least 8 samples"),  # of six images few are held out
    ],
)
def test_faults_are_one_clear_line(passband, trained, tmp_path, options, message):
    result = passband("diagnose", trained, "--out", tmp_path / "page", *options)
    assert result.status != 0
    assert message in result.err.replace("\n", " ")
    assert "Traceback" not in result.err
    assert not (tmp_path / "page").exists()


def test_a_place_that_cannot_be_written_is_told_at_once(passband, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "diagnose", None)  # not reached
    file = tmp_path / "file"
    file.touch()
    result = passband("diagnose", trained, "--out", file / "page")
    assert result.status != 0
    assert "--out must be a folder, got the file" in result.err
    monkeypatch.setattr(os, "access", lambda _, mode, **__: not mode & os.W_OK)
    result = passband("diagnose", trained, "--out", tmp_path / "new" / "page")
    assert result.status != 0
    assert "nothing can be written into" in result.err


def test_weights_are_those_of_both_runs(passband, trained, photos, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(command, "open_subject", lambda path, **given: asked.append(given["weights"]))
    monkeypatch.setattr(command, "_samples", lambda *_: 1 / 0)
    imported = tmp_path / "imported"
    for against in (trained, imported):
        with pytest.raises(ZeroDivisionError):
            passband("diagnose", trained, photos, "--against", against, "--weights", "last")
    assert asked == ["last", "last", "last", "ema"]


def test_no_folder(passband, tmp_path):
    result = passband("diagnose", tmp_path / "nowhere")
    assert result.status != 0
    assert "expected that of a run" in result.err


def test_ctrl_c_writes_nothing(passband, trained, photos, tmp_path, monkeypatch):
    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "diagnose", interrupted)
    result = passband("diagnose", trained, photos, "--crop", "tile", "--out", tmp_path / "page", *QUICK)
    assert result.status == 130
    assert "nothing was written" in result.err
    assert not (tmp_path / "page").exists()
