"""The section on fronts: its numbers, what it says, and what it says of data without a power law."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from passband import EDM, VP, Flow
from passband.forcing import ConstantFront, front_from_config
from passband.metrics import PowerLawResult, measure_power_law, passed_power
from passband.reports import (
    FrontReport,
    Page,
    Table,
    Text,
    front_numbers,
    front_plane_figure,
    front_sections,
    passed_power_figure,
    recipe_line,
    render_page,
    to_svg,
)
from passband.reports.front import describe_fronts, describe_law, front_columns, front_rows, percent
from passband.reports.front_figures import own_times
from passband.transforms import idct, radial_grid


def law(size: tuple[int, ...] = (16, 16), beta: float = 2.5, k1: float = 3.0, scale: float = 1.0) -> PowerLawResult:
    gain = (radial_grid(size, "dct").clamp_min(0.1) / k1) ** (-beta / 2)
    noise = torch.randn(200, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return measure_power_law(scale * idct(noise * gain))


@pytest.fixture(scope="module")
def measured() -> PowerLawResult:
    return law()


def test_the_recipe_line_is_a_front(measured: PowerLawResult) -> None:
    forcing = yaml.safe_load(recipe_line(FrontReport(measured)))["forcing"]
    assert forcing == {
        "front": {
            "name": "contour",
            "beta": pytest.approx(measured.beta, rel=5e-3),
            "k1": pytest.approx(measured.k1, rel=5e-3),
            "size": 16,
        }
    }
    cutoff = front_from_config(forcing["front"])(torch.tensor([0.0], dtype=torch.float64))
    assert float(cutoff) == pytest.approx(measured.k1 / measured.k_max, rel=5e-3)
    other = FrontReport(law((12, 16)), kappa=60, window=12, exact=True)
    forcing = yaml.safe_load(recipe_line(other))["forcing"]
    assert forcing["front"]["size"] == [12, 16]
    assert {key: forcing[key] for key in ("kappa", "window", "exact")} == {"kappa": 60, "window": 12, "exact": True}


def test_the_table_holds_what_passes(measured: PowerLawResult) -> None:
    report = FrontReport(measured, process=EDM(), fronts={"half": ConstantFront(0.5)})
    rows = front_rows(report)
    assert [row[2] for row in rows[:3]] == ["linear", "contour", "half"]
    assert front_columns(report)[:3] == ["Flow time τ", "Noise level σ", "Front"]
    half = passed_power(ConstantFront(0.5), torch.tensor([0.9]), measured)
    expected = [percent(float(share)) for share in (half.signal, half.noise, half.lost)]
    row = rows[-1]
    assert row[:4] == ["0.9", "0.111", "half", f"{0.5 * 15 * 2**0.5 / 32:.3f}"]
    assert row[4:] == expected


def test_own_times() -> None:
    assert own_times(Flow(data_at=1), [0.2]) == pytest.approx([4.0])  # the noise ratio
    assert own_times(Flow(data_at=1), [0.2], ratio=False) == pytest.approx([0.2])
    assert own_times(Flow(data_at=0, time_scale=1000), [0.2]) == pytest.approx([800])
    process = VP()
    assert float(process.flow_time(own_times(process, [0.3])[0])) == pytest.approx(0.3)


@pytest.mark.usefixtures("no_pdf")
def test_sections_and_numbers(measured: PowerLawResult, legible: Callable[[str], int], tmp_path: Path) -> None:
    report = FrontReport(measured, law(beta=1.5), process=VP())
    (section,) = front_sections(report, tmp_path)
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {f"front-{name}.{kind}" for name in ("plane", "power") for kind in ("svg", "pdf", "png")}
    assert legible(render_page(Page("t", "s", [section]))) == 2
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    assert len(table.rows) == 10
    numbers = json.loads(json.dumps(front_numbers(report)))
    assert numbers["real"]["beta"] == measured.beta
    assert numbers["fake"]["beta"] == pytest.approx(1.5, abs=0.1)
    assert numbers["tau"] == [0.1, 0.25, 0.5, 0.75, 0.9]
    assert VP().flow_time(torch.tensor(numbers["time"])).tolist() == pytest.approx(numbers["tau"], abs=1e-4)
    linear = passed_power(lambda tau: 0.05 + 0.95 * tau, torch.tensor(numbers["tau"]).double(), measured)
    assert numbers["fronts"]["linear"]["signal"] == pytest.approx(linear.signal.tolist(), rel=1e-6)
    assert set(numbers["fronts"]) == {"linear", "contour"}
    assert numbers["recipe"] == recipe_line(report)


def test_description(measured: PowerLawResult) -> None:
    report = FrontReport(measured)
    text = describe_law(report)
    assert f"frequency^−{measured.beta:.2f}" in text
    assert f"index {measured.k1:.2f} ±" in text
    assert "cycles per pixel." in text
    removed = 1 - passed_power(lambda tau: 0.05 + 0.95 * tau, torch.tensor([0.5]), measured).signal
    assert (
        f"the linear front removes {percent(float(removed))}\N{NO-BREAK SPACE}% of the data's power"
        in describe_fronts(report)
    )
    assert "a larger κ follows the contour closer" not in describe_fronts(FrontReport(measured, kappa=1000))
    assert "beyond the corner" in describe_law(FrontReport(law(scale=1e3)))
    assert "outside the range of the fit" in describe_law(FrontReport(law(scale=1e-2)))


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0"), (5e-5, "<0.01"), (0.00123, "0.12"), (0.0456, "4.6"), (0.1234, "12.3"), (float("nan"), "–")],
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.usefixtures("no_pdf")
def test_data_without_a_contour(tmp_path: Path) -> None:
    report = FrontReport(law(beta=-1.0))
    assert recipe_line(report) == ""
    assert "it hardly falls" in describe_law(report)
    assert {row[2] for row in front_rows(report)} == {"linear"}
    assert len(front_sections(report, tmp_path)) == 1
    assert front_numbers(report)["recipe"] is None


def test_data_without_a_power_law_say_why(tmp_path: Path) -> None:
    report = FrontReport("the images are constant")
    (section,) = front_sections(report, tmp_path)
    assert section.blocks == [Text("Left out: the images are constant.", "note")]
    assert front_rows(report) == []
    assert describe_fronts(report) == ""
    assert "the images are constant" in describe_law(report)
    assert front_numbers(report)["real"] == {"left_out": "the images are constant"}
    assert list(tmp_path.iterdir()) == []


def test_figures_are_the_same_bytes_and_show_the_contour(measured: PowerLawResult) -> None:
    cutoffs = {"linear": torch.linspace(0, 1, 11, dtype=torch.float64)}
    first, second = (to_svg(front_plane_figure(measured, cutoffs, Flow(data_at=1), title="T")) for _ in range(2))
    assert first == second
    figure = front_plane_figure(measured, cutoffs, Flow(data_at=1))
    lines = {str(line.get_label()): line for line in figure.axes[0].get_lines()}
    law_line = next(line for name, line in lines.items() if "fitted law" in name)
    frequency, tau = torch.tensor(law_line.get_xdata()), torch.tensor(law_line.get_ydata())
    on_law = (frequency * 32 / measured.k1) ** -measured.beta * (tau / (1 - tau)) ** 2
    torch.testing.assert_close(on_law, torch.ones_like(on_law))
    front = lines["linear front"]
    assert front.get_xdata()[-1] == pytest.approx(15 * 2**0.5 / 32)


@pytest.mark.parametrize(("beta", "k1"), [(0.011, 6e-59), (0.011, 6e59)])
def test_a_flat_spectrum_is_drawn(measured: PowerLawResult, beta: float, k1: float) -> None:
    flat = replace(measured, beta=beta, k1=k1)
    assert "<svg" in to_svg(front_plane_figure(flat, {}, Flow(1)))


def test_no_front_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one front"):
        passed_power_figure(torch.linspace(0, 1, 3), {})
