"""The page of an inspected autoencoder: what its verdict says of known ones, its numbers, and its figures."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from passband.matching import anti_aliased
from passband.metrics import Estimate, LatentMeasures, LatentResult, pca_picture
from passband.reports import Inspected, inspection_numbers, inspection_report
from passband.reports.inspection_figures import band_map_figure, band_names, low_pass_figure, measured_corners
from passband.reports.inspection_sections import decibels
from passband.reports.inspection_verdict import difference, findings, headline, pm, verdict, warnings
from passband.transforms import dct, idct, radial_grid


def images(count: int = 24, size: tuple[int, int] = (32, 32)) -> torch.Tensor:
    noise = torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))
    x = idct(noise * radial_grid(size, "dct").clamp_min(0.5).float() ** -1.2)
    return x / x.abs().amax()


def halved(x: torch.Tensor) -> torch.Tensor:
    return anti_aliased(x, [n // 2 for n in x.shape[2:]])


def doubled(z: torch.Tensor) -> torch.Tensor:
    coefficients = z.new_zeros(*z.shape[:2], *(2 * n for n in z.shape[2:]))
    coefficients[..., : z.shape[2], : z.shape[3]] = dct(z)
    return 2 * idct(coefficients)


def whitened(x: torch.Tensor) -> torch.Tensor:
    """Every frequency equally strong: a latent without a spectrum."""
    z = dct(halved(x))
    return idct(z / z.abs().clamp_min(1e-6)).flip(3)


def inspected(name: str, encode, decode, x: torch.Tensor, *, probe: bool = True) -> Inspected:
    measures = LatentMeasures(encode, decode)
    measures.update(x, probe=probe)
    result = measures.compute()
    z = encode(x[:3])
    return Inspected(name, result, x[:3], decode(z), pca_picture(z, result.channels), {"parameters": "0"})


@pytest.fixture(scope="module")
def fine() -> Inspected:
    return inspected("fine", halved, doubled, images())


@pytest.fixture(scope="module")
def white() -> Inspected:
    return inspected("white", whitened, doubled, images())


def ratings(result: LatentResult) -> list[str]:
    return [finding.rating for finding in findings(result)]


def test_resampling_is_not_spoken_against(fine: Inspected) -> None:
    slope, _, bands, low_pass, _ = findings(fine.result)
    assert (slope.rating, bands.rating, low_pass.rating) == ("good", "good", "good")
    assert "poor" not in ratings(fine.result)
    assert "against it" in headline("fine", fine.result)
    assert "falls as the image's does" in verdict("fine", fine.result)


def test_white_latents_are_called_white(white: Inspected) -> None:
    assert ratings(white.result)[:2] == ["poor", "poor"]
    words = verdict("white", white.result)
    assert words.startswith("white: ")
    assert "nearly white" in words or "does not fall" in words
    share = white.result.means["esm.1"].mean / white.result.means["esm.1.white"].mean
    assert f"{share:.2f} of white noise's" in findings(white.result)[1].value


def test_thresholds_decide(fine: Inspected) -> None:
    def with_means(**changed: float) -> LatentResult:
        means = {k.replace("__", "."): Estimate(v, 0.01, 24) for k, v in changed.items()}
        return replace(fine.result, means=fine.result.means | means)

    for share, rating in ((0.29, "good"), (0.31, "fair"), (0.76, "poor")):
        assert ratings(with_means(esm__1=share, esm__1__white=1.0))[1] == rating
    for missed, rating in ((0.19, "good"), (0.3, "fair"), (0.41, "poor")):
        result = replace(fine.result, means=fine.result.means | {"equivariance.0.5.0.missed": Estimate(missed, 0, 9)})
        assert ratings(result)[4] == rating
    for octave, rating in ((0.95, "good"), (0.55, "poor")):
        bands = replace(fine.result.bands, octave=octave, blind=0.5, relative=0.0, blind_relative=0.3)
        assert ratings(replace(fine.result, bands=bands))[2] == rating
    steep = replace(fine.result.latent, beta=fine.result.small_image.beta + 0.3)
    assert ratings(replace(fine.result, latent=steep))[0] == "fair"


@pytest.fixture
def drawn_once(no_pdf: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn as wide SVGs alone."""
    monkeypatch.setattr("passband.reports.figures.to_png", lambda figure, **_: b"\x89PNG")
    monkeypatch.setattr("passband.reports.figures.make_narrow", lambda figure: False)


@pytest.mark.usefixtures("drawn_once")
def test_an_unprobed_decoder_is_not_rated(tmp_path: Path) -> None:
    found = inspected("quick", halved, doubled, images(4), probe=False)
    assert ratings(found.result)[2:] == ["unknown"] * 3
    assert "against it" in headline("quick", found.result)
    page = inspection_report([found], tmp_path).read_text()
    assert "Where each latent frequency lands" not in page
    with pytest.raises(ValueError, match="no autoencoder was probed"):
        band_map_figure({"quick": found.result})


def test_warnings_name_what_makes_the_numbers_weak(fine: Inspected) -> None:
    assert any("Only 24 images" in note for note in warnings("fine", fine.result))
    poor = replace(fine.result, means=fine.result.means | {"psnr": Estimate(15.0, 0.1, 24)}, count=100)
    assert any("reconstruction is poor (15.0 dB)" in note for note in warnings("a", poor))
    one = inspected("one", halved, doubled, images(1, (12, 12)))
    notes = " ".join(warnings("one", one.result))
    assert "Only 1 image was measured" in notes
    assert "6 × 6 positions" in notes
    assert ratings(one.result)


def test_differences_are_those_beyond_twice_the_error(fine: Inspected, white: Inspected) -> None:
    results = [fine.result, white.result]
    words = difference(["fine", "white"], results)
    assert words.startswith("Against fine, white is")
    assert "worse in" in words
    assert "ESM divergence" in words
    backwards = difference(["white", "fine"], results[::-1])
    assert "better in" in backwards
    assert "No measure separates" in difference(["a", "b"], [fine.result, fine.result])


@pytest.mark.usefixtures("no_pdf")
def test_the_page_of_two_holds_the_numbers(
    fine: Inspected, white: Inspected, legible: Callable[[str], int], tmp_path: Path
) -> None:
    page = inspection_report([fine, white], tmp_path, settings={"images from": "here"}, notes=["Mind <this>."])
    text = page.read_text()
    assert legible(text) == 4
    assert "Which latent space is easier to learn?" in text
    assert "Mind &lt;this&gt;." in text
    assert "What this page cannot tell" in text
    document = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    numbers = document["autoencoders"]["white"]
    assert numbers["means"]["esm.1"]["mean"] == pytest.approx(white.result.means["esm.1"].mean)
    assert numbers["spectrum"]["latent"]["exponent"] == pytest.approx(white.result.latent.beta)
    assert len(numbers["bands"]["matrix"]) == len(white.result.bands.matrix)
    assert document["verdict"][0] == verdict("fine", fine.result)
    assert f"{fine.result.means['psnr'].mean:.1f}" in text
    for name in ("spectrum", "bands", "low-pass"):
        assert (tmp_path / "figures" / f"{name}.svg").read_text().startswith("<?xml")
    assert (tmp_path / "figures" / "pictures.png").read_bytes().startswith(b"\x89PNG")


def test_a_page_shows_one_or_two(fine: Inspected, tmp_path: Path) -> None:
    for wrong in ([], [fine, fine]):
        with pytest.raises(ValueError, match="one autoencoder or two with different names"):
            inspection_report(wrong, tmp_path)


@pytest.mark.usefixtures("drawn_once")
def test_numbers_without_a_value_are_dashes_and_null(tmp_path: Path) -> None:
    found = inspected("exact", lambda x: x, lambda z: z, images(1))
    page = inspection_report([found], tmp_path).read_text()
    assert "exact" in page
    assert "nan" not in page.lower().replace("nanos", "")
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["autoencoders"]["exact"]["means"]["psnr"]["mean"] is None
    assert inspection_numbers(found)["count"] == 1
    assert "It reconstructs exactly." in document["verdict"][0]


def test_texts_of_numbers() -> None:
    assert pm(-0.001, 0.004) == "0.00 ± 0.00"
    assert pm(-1.234, float("nan")) == "−1.23"
    assert pm(float("nan"), 1.0) == "–"
    assert decibels(0.04) == "20.0"
    assert decibels(0.0) == "exact"
    assert band_names((1, 2, 4, 11)) == ["0.5", "1–1.5", "2–5"]


def test_corners_are_in_order(fine: Inspected) -> None:
    assert measured_corners(fine.result, "low_pass") == ["4", "8", "10", "12", "14"]
    assert measured_corners(fine.result, "cut") == ["0.25", "0.5", "0.75"]
    left, right = low_pass_figure({"fine": fine.result}).axes
    assert len(left.lines) == 2
    assert right.get_ylim()[1] >= 1
