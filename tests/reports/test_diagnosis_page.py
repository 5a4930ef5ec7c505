"""The page of a diagnosed denoiser: what it says, what it writes, and that it points at what is wrong."""

import json
import math
import re
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from passband.metrics import (
    DenoiserMeasure,
    DenoiserSpectrum,
    PixelBands,
    PowerLawMeasure,
    WienerFilter,
    compare_denoisers,
)
from passband.reports import describe_diagnosis, diagnosis_report, monitor_picture, pixels_of
from passband.reports.diagnosis.gradients import gradient_figure
from passband.reports.diagnosis.maps import calibration_map, change_map, excess_map, map_figure
from passband.reports.diagnosis.sections import measured_section
from passband.reports.figures import to_svg
from passband.reports.page import Table, Text
from passband.reports.spectrum.words import terms_of
from passband.transforms import dct, idct, radial_grid

RATIOS = (0.25, 1.0, 4.0)
SIZE = (16, 16)
BAND = 6  # of the bands of 16 x 16 fields: 1/5.7 to 1/4


@dataclass(frozen=True)
class Suggestion:
    """As `passband diagnose` makes one."""

    recipe: str = "regularizer:\n  losses:\n  - {name: wavelet}\n  weight: 0.01\n"
    sentences: dict[str, str] = field(
        default_factory=lambda: {"found": "F.", "loss": "Pulls <there>.", "weight": "A tenth.", "next": "Try `both`."}
    )


def measured(damp: float = 1.0, level: int = 1, *, gradients: bool = False, files: int = 96) -> DenoiserSpectrum:
    """The ideal Wiener filter of Gaussian fields, with one band at one level multiplied."""
    power = (radial_grid(SIZE, "dct").clamp_min(1) / 4) ** -2.0
    wiener, bands = WienerFilter(power[None], torch.ones(1, 1).double()), PixelBands(SIZE)
    count, generator = 96, torch.Generator().manual_seed(0)
    noise, white = torch.randn(2, count, 1, *SIZE, generator=generator)
    clean = idct(white * power.sqrt().float())
    measure = DenoiserMeasure(RATIOS, wiener=wiener)
    estimates = []
    for i, ratio in enumerate(RATIOS):
        held = wiener.estimate(dct(clean + ratio * noise), ratio)
        estimates.append(idct(held * torch.where(bands.index == BAND, damp if i == level else 1.0, 1.0).float()))
        if gradients:
            measure.update_gradient("base", i, estimates[-1] - clean)
            measure.update_gradient("amplitude_phase", i, (estimates[-1] - clean).sign())
    measure.update(clean, noise, estimates, [str(i % files) for i in range(count)])
    return measure.compute()


@pytest.fixture(scope="module")
def right() -> DenoiserSpectrum:
    return measured(gradients=True)


@pytest.fixture(scope="module")
def damped() -> DenoiserSpectrum:
    return measured(0.5, gradients=True)


@pytest.fixture(scope="module")
def page(damped: DenoiserSpectrum, right: DenoiserSpectrum, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the damped filter beside the right one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("passband.reports.figures.to_pdf", lambda _figure: b"%PDF")  # drawn in a test of its own
        return diagnosis_report(
            {"damped": damped, "right": right},
            tmp_path_factory.mktemp("page"),
            suggestion=Suggestion(),
            comparison=compare_denoisers(damped, right),
            law="too few samples <5",
            facts={"damped": {"process": "EDM"}},
            settings={"clean samples from": "here"},
            notes=("Mind <this>.",),
            command="passband diagnose x --against y",
        )


def test_it_points_at_the_band_and_the_level(damped: DenoiserSpectrum):
    error, power, certainty = describe_diagnosis([("m", damped)], None, terms_of("images"))
    assert damped.wrong.nonzero().tolist() == [[1, BAND]]
    place = r"at noise ratio 1, 1/5\.7–1/4 cycles per pixel"
    assert re.fullmatch(
        r"The model m is worse than a Wiener filter in 1 of 30 cells of the map: by up to \d\.\d dB where there is "
        rf"something to see \(one cell, {place}\)\.",
        error,
    )
    found = re.fullmatch(rf"Its estimates are too smooth {place} \((\d+) % of their power is missing\)\.", power)
    assert found is not None
    assert 70 <= int(found[1]) <= 80  # half the amplitude, which reads −3 dB: a quarter of the power
    assert certainty.startswith("Measured on 96 images; a cell is called")
    assert re.search(r"for all cells at once, typically ± \d\.\d dB\.$", certainty)


def test_tiles_of_few_photographs_are_said_to_tell_less():
    certainty = describe_diagnosis([("m", measured(files=8))], None, terms_of("images"))[2]
    found = re.match(r"Measured on 96 images, which tell as much as (\d+) independent ones;", certainty)
    assert found is not None
    assert 6 <= int(found[1]) <= 10


def test_nothing_wrong_is_said_so(right: DenoiserSpectrum):
    error, power, _ = describe_diagnosis([("m", right)], None, terms_of("latents"))
    assert right.same
    assert error.startswith("The model m is nowhere worse than a Wiener filter")
    assert power == "Its estimates have the power that they should have: they are neither too smooth nor too rough."


def test_what_a_second_model_changed_is_said(damped: DenoiserSpectrum, right: DenoiserSpectrum):
    models = [("a", damped), ("b", right)]
    change = describe_diagnosis(models, compare_denoisers(damped, right), terms_of("images"))[1]
    assert re.fullmatch(
        r"Against a, b errs less in one cell, at noise ratio 1, 1/5\.7–1/4 cycles per pixel \(−\d\.\d dB\)\.",
        change,
    )
    same = describe_diagnosis([("a", right), ("b", right)], compare_denoisers(right, right), terms_of("images"))[1]
    assert same == "b errs neither less nor more than a, on the same noisy images, by more than chance."


def test_too_rough_and_drowned_are_told_apart():
    result = measured(8.0, level=2)
    error, power, _ = describe_diagnosis([("m", result)], None, terms_of("signals"))
    assert "where noise hides the data, and the best guess is next to nothing (one cell, at noise ratio 4" in error
    assert "something to see" not in error
    assert "too rough at noise ratio 4, 1/5.7–1/4 cycles per sample" in power


def test_a_band_without_power_is_said_to_be_one(damped: DenoiserSpectrum):
    cell = torch.zeros_like(damped.under)
    cell[1, 0] = True
    power = damped.power.clone()
    said = describe_diagnosis([("m", replace(damped, under=cell))], None, terms_of("images"))[0]
    assert "next to no power" not in said
    power[0] = 1e-4 * power.min()
    said = describe_diagnosis([("m", replace(damped, under=cell, power=power))], None, terms_of("images"))[0]
    assert "in the mean, where the images have next to no power" in said


def test_the_page_has_its_parts(page: Path):
    text = page.read_text()
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", text) == [
        "The result", "Where the model under-reaches", "What right does otherwise", "Is the estimate too smooth?",
        "Where the losses pull", "What to try", "What was measured", "How it is measured",
    ]  # fmt: skip
    assert "Mind &lt;this&gt;." in text
    assert "Pulls &lt;there&gt;." in text
    assert "Try both." in text
    assert "- {name: wavelet}" in text
    assert "too few samples &lt;5" in text
    assert "passband diagnose x --against y" in text
    alts = re.findall(r'<img [^>]*alt="([^"]*)"', text)
    assert len(alts) == 6
    assert "One cell is called:" in alts[0]
    assert "dB at noise ratio 1, 1/5.7–1/4." in alts[0]
    assert "No cell is called." in alts[1]
    files = {file.name for file in (page.parent / "figures").iterdir()}
    names = ("error", "error-2", "change", "power", "power-2", "gradients")
    assert files == {f"{name}.{kind}" for name in names for kind in ("svg", "pdf", "png")}


def test_the_numbers_are_all_there(page: Path, damped: DenoiserSpectrum):
    document = json.loads((page.parent / "results.json").read_text())
    model = document["models"]["damped"]
    assert model["noise_ratios"] == list(RATIOS)
    assert torch.tensor(model["error_over_power"]).shape == damped.relative.shape
    assert model["too_smooth"][1][BAND] is True
    assert sum(map(sum, model["too_smooth"])) == 1
    assert model["excess_db"]["different"] == damped.excess.different.tolist()
    assert set(model["gradients"]) == {"base", "amplitude_phase"}
    assert document["change_db"]["different"][1][BAND] is True
    assert document["suggestion"]["recipe"].startswith("regularizer:")
    assert document["power_law"] == "too few samples <5"
    assert len(document["summary"]) == 3


def test_one_model_without_anything_else(right: DenoiserSpectrum, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for module in ("sections", "gradients"):  # what is drawn is another test's
        monkeypatch.setattr(f"passband.reports.diagnosis.{module}.write_figure", undrawn)
    for name in ("change.svg", "error-2.pdf", "error.svg", "mine.svg"):
        (tmp_path / "figures").mkdir(exist_ok=True)
        (tmp_path / "figures" / name).touch()
    text = diagnosis_report({"m": right}, tmp_path, kind="latents").read_text()
    # What is left of an earlier page with two models would be taken for this one's.
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"error.svg", "mine.svg"}
    assert "What to try" not in text
    assert "otherwise" not in text
    assert "cycles per position" in text
    with pytest.raises(ValueError, match=r"a page shows one model or two, got \[\]"):
        diagnosis_report({}, tmp_path)


def undrawn(figure: Any, _folder: Path, name: str, **_: Any) -> Text:
    return Text(f"{name}: {figure.axes[0].get_xlabel()}")


def cells(figure: Any) -> list[list[Any]]:
    """The numbers of a map, row by row from below, as texts."""
    axes = figure.axes[0]
    texts = {(round(t.get_position()[1]), round(t.get_position()[0])): t for t in axes.texts}
    rows, columns = max(texts)
    return [[texts[i, j] for j in range(columns + 1)] for i in range(rows + 1)]


def test_a_map_has_every_number_and_marks_what_is_called(damped: DenoiserSpectrum):
    figure = map_figure(calibration_map(damped))
    texts = cells(figure)
    assert (len(texts), len(texts[0])) == tuple(damped.relative.shape)
    shown = float(texts[1][BAND].get_text().replace("−", "-"))
    assert shown == pytest.approx(float(damped.calibration.difference[1, BAND]), abs=0.051)
    bold = [(i, j) for i, row in enumerate(texts) for j, text in enumerate(row) if text.get_fontweight() == "bold"]
    assert bold == [(1, BAND)]
    assert len(figure.axes[0].patches) == 1  # its frame
    assert "<svg" in to_svg(figure)


def test_a_map_of_one_level_has_room_for_its_words(damped: DenoiserSpectrum):
    whole = calibration_map(damped)
    figure = map_figure(whole._replace(values=whole.values[:1], called=whole.called[:1], ratios=[1.0], wiener=None))
    to_svg(figure)  # lays it out
    label = figure.axes[1].yaxis.label.get_window_extent()
    assert 0 <= label.y0 < label.y1 <= figure.bbox.height


def test_the_front_is_where_noise_and_data_are_equal(right: DenoiserSpectrum):
    (line,) = map_figure(excess_map(right)).axes[0].lines
    x = torch.tensor(line.get_xdata()).reshape(len(RATIOS), 2)
    assert torch.equal(x[:, 0], x[:, 1])
    for row, place in zip(right.wiener, x[:, 0].tolist(), strict=True):
        assert bool((row[: int(place + 0.5)] <= 0.5).all())
        assert bool((row[int(place + 0.5) :] > 0.5).all())


def test_two_maps_share_their_colours(damped: DenoiserSpectrum, right: DenoiserSpectrum):
    maps = [excess_map(damped), excess_map(right)]
    ends = [map_figure(one, scale_of=maps).axes[0].images[0].get_clim() for one in maps]
    assert ends[0] == ends[1]
    assert change_map(compare_denoisers(damped, right), damped).values.shape == damped.relative.shape


def test_gradients_are_those_of_the_levels_that_are_wrong(damped: DenoiserSpectrum):
    axes = gradient_figure(damped).axes[0]
    shares: list[Tensor] = [gradient.share[1] for gradient in damped.gradients.values()]
    for line, share in zip(axes.lines, shares, strict=True):
        assert line.get_ydata() == pytest.approx((100 * share).tolist())
    assert len(axes.patches) == 1  # the shaded band


def test_the_picture_for_trackers(damped: DenoiserSpectrum):
    pixels = pixels_of(monitor_picture(damped, 500))
    assert pixels.shape[2] == 3
    assert pixels.shape[1] > 700
    assert pixels.std() > 20


def test_the_ends_of_narrow_columns_are_not_written_over_each_other(right: DenoiserSpectrum):
    """Octaves below 1/16 are single columns, which on a telephone are narrower than two labels."""
    axes = map_figure(excess_map(right)).axes[0]
    places = dict(zip((label.get_text() for label in axes.get_xticklabels()), axes.get_xticks(), strict=True))
    assert {"1/2", "1/4", "1/8", "1/16"} <= set(places)
    ordered = sorted(places.values())
    assert min(after - before for before, after in pairwise(ordered)) == 2


def test_a_law_of_rising_power_has_no_place_where_it_meets_the_noise(right: DenoiserSpectrum):
    measure = PowerLawMeasure()
    measure.update(torch.randn(16, 1, 34, 34, generator=torch.Generator().manual_seed(0)).diff(dim=2).diff(dim=3))
    law = measure.compute()
    assert math.isnan(law.k1)
    (table, *_) = measured_section([("m", right)], law, {}, {}, terms_of("images")).blocks
    assert isinstance(table, Table)
    (found,) = (row[1] for row in table.rows if row[0] == "power law of the data")
    assert re.fullmatch(r"exponent −\d\.\d\d ± \d\.\d\d", found)
