"""What an evaluation's page says of the spectra: sentences, sections with figures, numbers."""

import json
from pathlib import Path

import pytest
import torch

from passband.metrics import SpectrumDistance
from passband.reports import Page, comparison_numbers, describe, render_page
from passband.reports.compare import finite, spectrum_sections
from passband.transforms import radial_bins


def measured(low: int, gain: float, floor: float = 0.0):
    real = torch.randn(40, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    changed = torch.fft.rfft2(real) * torch.where(radial_bins((32, 32)) >= low, gain, 1.0)
    distance = SpectrumDistance(floor)
    distance.update(real=real, fake=torch.fft.irfft2(changed, s=(32, 32)))
    return distance.compute(), real


@pytest.mark.parametrize(
    ("low", "gain", "expected"),
    [
        (8, 0.5, "The fake images have 6.0 dB too little power from 8 cycles per image upwards. "),
        (0, 2.0, "The fake images have 6.0 dB too much power at all radii. "),
        (99, 1.0, "The spectrum of the fake images agrees with that of the real ones in every octave. "),
    ],
)
def test_description_names_the_deviation(low: int, gain: float, expected: str) -> None:
    assert describe(measured(low, gain)[0]).startswith(expected)


def test_description_takes_chance_for_chance() -> None:
    result, _ = measured(8, 0.9)
    assert "0.9 dB too little" in describe(result)
    noisy = torch.full((16,), 0.6, dtype=torch.float64)
    assert describe(result, noisy) == (
        "The spectrum of the fake images agrees with that of the real ones in every octave. "
        "The log-spectral distance is 0.69 dB; two halves of the real images are 0.60 dB apart."
    )


def test_sections_hold_figures_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Figures of other layouts and kinds have tests of their own.
    monkeypatch.setattr("passband.reports.figures.make_narrow", lambda figure: False)
    monkeypatch.setattr("passband.reports.figures.to_pdf", lambda figure: b"%PDF")
    result, real = measured(8, 0.5)
    sections = spectrum_sections(
        result, real[:4], real[4:6], tmp_path, reference=0.1 * result.ratio, settings={"crop": "<tile>"}
    )
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    drawn = {f"{name}.{kind}" for name in ("psd", "ratio") for kind in ("svg", "pdf", "png")}
    assert names == {*drawn, "real.png", "fake.png"}
    source = render_page(Page("Spectra", "Fine.", sections))
    for part in ("&lt;tile&gt;", "red", "8–16", "−6.02"):
        assert part in source


def test_numbers_are_those_of_the_result() -> None:
    result, _ = measured(8, 0.5)
    numbers = comparison_numbers(result, 0.1 * result.lsd)
    assert numbers["lsd_db"] == result.lsd
    assert numbers["reference_lsd_db"] == pytest.approx(0.1 * result.lsd)
    assert numbers["octaves"][-1] == {
        "low": 8,
        "high": 16,
        "lsd_db": result.octaves[-1].lsd,
        "bias_db": result.octaves[-1].bias,
    }
    assert len(numbers["psd"]["real"]) == len(numbers["radius"]) == 17
    assert numbers["count"] == {"real": 40, "fake": 40}


def test_numbers_that_are_not_finite_are_null_in_json() -> None:
    real = torch.randn(1, 1, 8, 8)
    distance = SpectrumDistance()
    distance.update(real=real, fake=real)
    numbers = json.loads(json.dumps(finite(comparison_numbers(distance.compute())), allow_nan=False))
    assert numbers["psd_standard_error"]["real"] == [None] * 5
