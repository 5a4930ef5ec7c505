"""The spectrum report says what was measured: its sentences, figures, tables, page and JSON."""

import dataclasses
import json
import math
from fnmatch import fnmatch
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from passband.metrics import SampleSpectrum, compare_samples
from passband.metrics.peaks import Peak, PeakReport
from passband.reports import Shown, image_grid, spectrum_report, to_png
from passband.reports.page import Figure, Items, Table, write_file
from passband.reports.spectrum import artefacts, describe, sections
from passband.reports.spectrum.figures_bands import cell_figure, coherence_figure
from passband.reports.spectrum.figures_levels import level_figure
from passband.reports.spectrum.figures_maps import direction_figure, ratio_map_figure
from passband.reports.spectrum.figures_octaves import octave_figure, plane_figure, spectrum_figure
from passband.reports.spectrum.figures_peaks import profile_figure
from passband.reports.spectrum.figures_series import series_figure
from passband.reports.spectrum.levels import level_unit
from passband.reports.spectrum.numbers import comparison_numbers
from passband.reports.spectrum.octave_words import main_plane, plane_name, runs
from passband.reports.spectrum.report import FIGURES
from passband.reports.spectrum.tables import contrast_table, octave_table, peak_table, series_table
from passband.reports.spectrum.words import terms_of, unbroken
from passband.transforms import radial_bins

IMAGES = terms_of("images")


def measured(samples, kind: str, name: str) -> SampleSpectrum:
    spectrum = SampleSpectrum(name, kind=kind, replicates=60, taper="none")
    spectrum.update(samples, [f"{name}{i}" for i in range(len(samples))])
    return spectrum


def compared(fake_gains, *, channels: int = 3, kind: str = "images", dims: int = 2, count: int = 300):
    """White noise against white noise whose power in the octaves, highest first, has gains in dB for each channel."""
    side = 32
    real, fake = torch.randn(2, count, channels, *[side] * dims, generator=torch.Generator().manual_seed(3))
    size = (side,) * dims
    octave = (side / 2 / radial_bins(size).clamp(1, side // 2)).log2().floor().long()
    gains = torch.tensor(fake_gains, dtype=torch.float32).expand(channels, -1)
    gains = torch.nn.functional.pad(gains, (0, 5 - gains.shape[1]))
    spatial = tuple(range(2, 2 + dims))
    fake = torch.fft.irfftn(torch.fft.rfftn(fake, dim=spatial) * 10 ** (gains[:, octave] / 20), s=size, dim=spatial)
    return compare_samples(measured(real, kind, "real"), measured(fake, kind, "fake"))


@pytest.fixture(scope="module")
def smooth():
    return compared([-6.0, -2.0])


@pytest.fixture(scope="module")
def unlike():
    """The fake set has more in the lowest, less in the highest octave; no colour differs from the others."""
    return compared([-6.0, 0, 0, 6.0], channels=1)


@pytest.fixture(scope="module")
def same():
    return compared([0.0])


def changed(comparison, name: str, **fields):
    contrast = dataclasses.replace(comparison.contrasts[name], **fields)
    return dataclasses.replace(comparison, contrasts=comparison.contrasts | {name: contrast})


def called_at(contrast, *places, value: float = 1.0):
    """The contrast with nothing called but these places, which differ by `value`."""
    different, difference = torch.zeros_like(contrast.different), torch.zeros_like(contrast.difference)
    for place in places:
        different[place], difference[place] = True, value
    return {"different": different, "difference": difference, "low": difference - 0.1, "high": difference + 0.1}


CHECKERBOARD = Peak((0.5, 0.5), Fraction(1, 2), 14.2, 0.5, "spectrum", "2 x 2 checkerboard", 0.1)
GRID = Peak((0.0, 0.125), Fraction(1, 8), 5.0, 0.6, "periodicity", "8 x 8 block grid", 0.3, also=((0.0, 0.25),))


def with_peaks(comparison, *peaks, both=()):
    report = dataclasses.replace(comparison.peaks, peaks=peaks, both=both)
    return dataclasses.replace(comparison, peaks=report)


def quiet(comparison):
    """Nothing is called."""
    for name, contrast in comparison.contrasts.items():
        comparison = changed(comparison, name, **called_at(contrast))
    return with_peaks(comparison)


# Sentences


def test_the_octave_that_differs_most_comes_first(smooth) -> None:
    first = describe(smooth)[0]
    assert first.startswith(
        "The fake images are too smooth: in the octave 1/4–1/2 cycle per pixel (waves of 2–4 pixels) 7"
    )
    assert "% of the power is missing (−6." in first or "% of the power is missing (−5.9 dB)" in first
    assert ", at 1/8–1/4 it is −" in first


def test_runs_are_neighbouring_octaves_of_one_sign(unlike) -> None:
    found = runs(unlike, 0)
    assert [run.octaves for run in found] in (
        [((0.25, 0.5),), ((0.03125, 0.0625),)],
        [((0.03125, 0.0625),), ((0.25, 0.5),)],
    )
    first = describe(unlike)[0]
    assert first.startswith("The fake images have the wrong amount of power: in the octave ")
    assert "of the power is missing" in first
    assert "times the power" in first


def test_more_power_at_the_top_is_rough_and_three_octaves_are_summed_up(smooth) -> None:
    octaves = smooth.contrasts["octaves"]
    plane = main_plane(smooth)
    fields = called_at(octaves, (plane, 0), (plane, 1), (plane, 2), value=3.0)
    first = describe(changed(smooth, "octaves", **fields))[0]
    assert first == (
        "The fake images are too rough: in the octave 1/4–1/2 cycle per pixel (waves of 2–4 pixels) there is 2.0 times "
        "the power (+3.0 dB), at 1/8–1/4 it is +3.0 dB, and about as much elsewhere in 1/16–1/2."
    )
    fields["difference"][plane, 2] = 1.0
    assert describe(changed(smooth, "octaves", **fields))[0].endswith("it is +3.0 dB, and less elsewhere in 1/16–1/2.")


def test_nothing_called_is_said_so(same) -> None:
    first, second, _ = describe(quiet(same))
    assert first == (
        "The fake images have no more or less power than the real ones in any octave, beyond what chance alone "
        "explains."
    )
    assert second == (
        "No checkerboard, block grid or other regular pattern of theirs stands out, and the directions, the sub-bands "
        "and the phases across scales show no difference beyond chance."
    )


def test_a_colour_alone_is_named(same) -> None:
    octaves = same.contrasts["octaves"]
    chroma = octaves.labels[0].index("Cb")
    found = changed(quiet(same), "octaves", **called_at(octaves, (chroma, 1), value=-3.0))
    assert plane_name(found) == "luma"
    assert "in luma, within chance, but not in Cb: in the octave 1/8–1/4 cycle per pixel" in describe(found)[0]


def test_a_colour_that_is_further_off_is_named_besides(smooth) -> None:
    octaves = smooth.contrasts["octaves"]
    fields = called_at(octaves, (main_plane(smooth), 0), value=-1.0)
    fields["difference"][octaves.labels[0].index("Cr"), 0], fields["different"][-1, 0] = -9.0, True
    assert "Cr is further off (−9.0 dB at 1/4–1/2)" in describe(changed(quiet(smooth), "octaves", **fields))[1]


def test_all_channels_together_speak_for_latents_and_one_is_named_besides() -> None:
    latents = compared([[0.0], [0.0], [-9.0], [0.0]], channels=4, kind="latents", count=100)
    assert main_plane(latents) == 4
    assert plane_name(latents) == "all channels together"
    pooled = 10 * math.log10((3 + 10**-0.9) / 4)
    assert float(latents.contrasts["octaves"].difference[4, 0]) == pytest.approx(pooled, abs=0.1)
    assert "channel 3 is further off (−" in describe(latents)[1]
    octaves = latents.contrasts["octaves"]
    one = changed(latents, "octaves", **called_at(octaves, (1, 0), value=1.0))
    assert "in all channels together, within chance, but not in channel 2: in the octave 1/4–1/2" in describe(one)[0]


def test_a_colour_that_is_less_off_than_the_whole_is_not_named(smooth) -> None:
    octaves = smooth.contrasts["octaves"]
    fields = called_at(octaves, (main_plane(smooth), 0), (-1, 0), value=-5.0)
    fields["difference"][-1, 0] = -2.0
    assert "further off" not in describe(changed(quiet(smooth), "octaves", **fields))[1]


def test_a_contrast_that_is_wrong_at_all_scales_is_no_smoothness(same) -> None:
    octaves, plane = same.contrasts["octaves"], main_plane(same)
    places = [(plane, i) for i in range(len(same.octaves))]
    found = changed(quiet(same), "octaves", **called_at(octaves, *places, value=-0.9))
    assert describe(found)[0] == (
        "The fake images have too little power in all octaves alike: 19 % of the power is missing (−0.9 dB at most)."
    )


def test_of_too_few_nothing_is_claimed() -> None:
    generator = torch.Generator().manual_seed(0)
    real, one, black = (
        torch.randn(40, 1, 16, 16, generator=generator),
        torch.randn(1, 1, 16, 16),
        torch.zeros(9, 1, 16, 16),
    )
    sets = [measured(x, "images", name) for x, name in ((real, "real"), (one, "fake"), (black, "black"))]
    found = compare_samples(sets[0], sets[1])
    first, second, third = describe(found)
    assert first == "Whether the fake images have more or less power than the real ones cannot be told from so few."
    assert "no difference beyond chance" not in second
    assert "40 real and 1 fake images cannot say how much of this is chance" in third
    shown = json.dumps(list(octave_table(found, 0).rows), default=lambda cell: [cell.text, cell.value])
    assert "Infinity" not in shown
    assert "The real images are constant" in describe(compare_samples(sets[2], sets[0]))[0]
    assert "unknown" in json.dumps([item.value for item in sections.headline(compare_samples(sets[2], sets[0])).items])


def test_patterns_are_named_with_article_place_and_height(same) -> None:
    second = describe(with_peaks(quiet(same), CHECKERBOARD, GRID, dataclasses.replace(GRID, name="third")))[1]
    assert second == (
        "They carry a 2 × 2 checkerboard, 14 dB above its surroundings at 1/2 cycle per pixel both ways; and an 8 × 8 "
        "block grid, 5 dB above its surroundings at 1/8 cycle per pixel horizontally (and one more pattern)."
    )
    assert "stands out (both sets carry an 8 × 8 block grid)" in describe(with_peaks(quiet(same), both=(GRID,)))[1]


def test_patterns_of_colour_are_said_to_be_in_their_planes(same) -> None:
    peaks = tuple(dataclasses.replace(CHECKERBOARD, plane=plane) for plane in ("Cr", "luma"))
    found = with_peaks(quiet(same), *peaks, dataclasses.replace(GRID, plane="Cb"))
    assert describe(found)[1] == (
        "They carry a 2 × 2 checkerboard in luma and Cr, 14 dB above its surroundings at 1/2 cycle per pixel both ways"
        "; and an 8 × 8 block grid in Cb, 5 dB above its surroundings at 1/8 cycle per pixel horizontally."
    )
    both = with_peaks(quiet(same), both=peaks[:1])
    assert "stands out (both sets carry a 2 × 2 checkerboard in Cr)" in describe(both)[1]
    assert [row[2] for row in peak_table(found.peaks.peaks, [], IMAGES).rows] == ["fake, Cr", "fake, luma", "fake, Cb"]


def with_level(comparison, name: str, **planes: float):
    """The comparison with nothing called but these planes of a family, which differ by so much."""
    level = quiet(comparison).contrasts[name]
    difference, different = torch.zeros_like(level.difference), torch.zeros_like(level.different)
    for plane, value in planes.items():
        place = level.labels[0].index(plane)
        difference[place], different[place] = value, True
    return changed(quiet(comparison), name, difference=difference, different=different)


@pytest.mark.parametrize(
    ("name", "planes", "words"),
    [
        ("level", {"luma": -0.08, "red": -0.2}, "they are darker (luma −0.08 of [−1, 1])."),
        ("level", {"luma": 0.05, "Cb": -0.03, "Cr": 0.04},
         "they are brighter (luma +0.05 of [−1, 1]), redder (Cr +0.04) and yellower (Cb −0.03)."),
        ("level", {"green": 0.03}, "their green is off by +0.03 of [−1, 1]."),
        ("level spread", {"luma": -3.14, "red": 9.0}, "their brightness varies 3.1 dB less from image to image."),
        ("level spread", {"Cr": 4.0}, "their mean Cr varies 4.0 dB more from image to image."),
        ("level spread", {"luma": -80.0},
         "their brightness hardly varies from image to image, unlike that of the real ones."),
    ],
)  # fmt: skip
def test_brightness_and_colour_are_named(same, name: str, planes: dict[str, float], words: str) -> None:
    assert describe(with_level(same, name, **planes))[0].endswith(f"beyond what chance alone explains, but {words}")


def test_brightness_stands_beside_what_else_is_wrong_with_the_power(smooth) -> None:
    level = smooth.contrasts["level"]
    darker = {"difference": level.difference - 0.1, "different": torch.ones_like(level.different)}
    assert "; besides, they are darker (luma −0.1" in describe(changed(smooth, "level", **darker))[0]


def test_levels_of_channels_and_offsets_of_signals_are_named() -> None:
    latents = compared([0.0], channels=4, kind="latents", count=60)
    assert describe(with_level(latents, "level", **{"2": 0.3}))[0].endswith(
        "their level is off in channel 2 of 4 (+0.30)."
    )
    two = describe(with_level(latents, "level", **{"2": 0.3, "4": -0.5}))[0]
    assert two.endswith("their level is off in 2 of 4 channels, most in channel 4 (−0.50).")
    spread = describe(with_level(latents, "level spread", **{"3": 2.0}))[0]
    assert spread.endswith("their level in channel 3 varies 2.0 dB more from latent to latent.")
    signals = compared([0.0], channels=1, kind="signals", dims=1, count=60)
    assert describe(with_level(signals, "level", **{"1": -0.3}))[0].endswith("their offset is too low by 0.30.")


def test_one_channel_of_several_is_not_the_brightness() -> None:
    """Images with a channel of opacity, or two of anything, have no luma."""
    images = compared([0.0], channels=4)
    assert describe(with_level(images, "level", **{"1": -0.3, "2": 0.2}))[0].endswith(
        "their brightness is off in 2 of 4 channels, most in channel 1 (−0.30)."
    )
    spread = describe(with_level(images, "level spread", **{"3": 2.0}))[0]
    assert spread.endswith("their brightness in channel 3 varies 2.0 dB more from image to image.")


def test_images_beyond_the_range_are_not_said_to_be_in_it(same) -> None:
    bright = dataclasses.replace(with_level(same, "level", luma=-28.0).contrasts["level"], value=torch.full((6,), 99.0))
    found = dataclasses.replace(same, contrasts=same.contrasts | {"level": bright})
    assert describe(found)[0].endswith("but they are darker (luma −28.00).")
    assert level_unit(found) == ", in units of the data"
    assert level_unit(same) == ", in units of [−1, 1]"


def test_of_constant_images_it_is_said_which_are_darker() -> None:
    images = 0.05 * torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(6))
    found = compare_samples(
        measured(torch.zeros(40, 1, 8, 8), "images", "real"), measured(images - 0.5, "images", "fake")
    )
    first = describe(found)[0]
    assert first.startswith("The real images are constant, without power at any frequency: check that they were read ")
    assert " as they should be. As for the fake images, they are darker (mean −0.50 of [−1, 1])" in first


def test_statistics_beyond_the_spectrum_are_named(same) -> None:
    found = quiet(same)
    for name, value in (("wavelet kurtosis", -20.0), ("coherence", -0.1)):
        found = changed(found, name, **called_at(found.contrasts[name], (0, 0), value=value))
    directions = found.contrasts["directions"]
    fields = called_at(directions, (0, 3), value=2.0)
    for sector in range(12):  # an octave that differs more, but alike in all directions, is not where it is uneven
        fields = {key: value.clone() for key, value in fields.items()}
        fields["difference"][1, sector], fields["different"][1, sector] = 5.0 + 0.01 * sector, True
        fields["low"][1, sector], fields["high"][1, sector] = 4.5, 5.5
    found = changed(found, "directions", **fields)
    second = describe(found)[1]
    assert "their sub-bands hold too few strong details (kurtosis 3.0, real 3.0)" in second
    assert "phases are aligned less across scales" in second
    assert "directions are uneven (most at 45°)" in second


def test_directions_that_all_differ_alike_are_not_uneven(same) -> None:
    directions = same.contrasts["directions"]
    fields = called_at(directions, *((0, sector) for sector in range(12)), value=2.0)
    assert "uneven" not in describe(changed(quiet(same), "directions", **fields))[1]
    # A blur takes a little more in some directions than in others, and pairs tell that precisely.
    fields["difference"][0, 3], fields["low"][0, 3], fields["high"][0, 3] = 2.3, 2.25, 2.35
    assert "uneven" not in describe(changed(quiet(same), "directions", **fields))[1]


def test_how_sure_it_is(same) -> None:
    octaves = same.contrasts["octaves"]
    width = torch.full_like(octaves.difference, 0.4)
    fields = {"low": -width, "high": width, "floor": 0.5 * width}
    known = changed(same, "octaves", **fields)
    assert describe(known)[2] == (
        "From 300 real and 300 fake images, an octave's difference is known to ±0.4 dB (95 %, all quantities at once); "
        "two halves of the real set differ by up to 0.2 dB themselves."
    )
    few = dataclasses.replace(known, groups=4.0)
    assert "(out of about 4 independent files, few enough to take this with care)" in describe(few)[2]
    paired = dataclasses.replace(known, paired=True)
    assert describe(paired)[2].endswith("both sets show the same content, so that its chance cancels.")
    unknown = changed(same, "octaves", low=-math.inf * (width > 0), high=math.inf * (width > 0))
    assert "cannot say how much of this is chance" in describe(unknown)[2]


# Figures


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_octaves_are_drawn_where_they_are(unlike) -> None:
    axes = octave_figure(unlike, 0).axes[0]
    octaves = unlike.contrasts["octaves"]
    shown = [line for line in axes.lines if len(line.get_xdata()) == 1 and line.get_marker() == "o"]
    for place, (low, high) in enumerate(unlike.octaves):
        (marker,) = (line for line in shown if line.get_xdata()[0] == pytest.approx(math.sqrt(low * high)))
        assert marker.get_ydata()[0] == float(octaves.difference[0, place])
        filled = marker.get_markerfacecolor() == marker.get_color()
        assert filled == bool(octaves.different[0, place])
    assert texts(axes)[0].startswith("−6") or texts(axes)[0].startswith("−5.9")
    assert axes.get_xlim()[1] == 0.5


def test_spectra_are_drawn_in_full_with_their_laws(smooth) -> None:
    axes = spectrum_figure(smooth, main_plane(smooth)).axes[0]
    lines, radial = {line.get_label(): line for line in axes.lines}, smooth.contrasts["radial"]
    for name, power in (("real", radial.reference), ("fake", radial.value)):
        assert lines[name].get_ydata()[1:].tolist() == power[3, 1:].tolist()
    assert sum(label.startswith("fake: frequency") for label in lines) == 1


def test_cells_hold_their_numbers_and_frames(smooth) -> None:
    octaves = smooth.contrasts["octaves"]
    axes = plane_figure(smooth, [0, 3]).axes[0]
    wanted = [f"{value:+.1f}".replace("-", "−") for value in octaves.difference[[0, 3]].flip(1).flatten().tolist()]
    assert [text.replace("−0.0", "+0.0") for text in texts(axes)] == [text.replace("−0.0", "+0.0") for text in wanted]
    assert len(axes.patches) == int(octaves.different[[0, 3]].sum())
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["red", "luma"]


def test_of_very_many_channels_those_that_differ_most_are_drawn(same) -> None:
    octaves = same.contrasts["octaves"]
    difference = torch.arange(40.0, dtype=torch.float64)[:, None].expand(40, 5)
    many = dataclasses.replace(octaves, difference=difference, labels=(tuple(map(str, range(40))), octaves.labels[1]))
    assert sections._planes_drawn(many) == (list(range(16, 40)), True)
    assert sections._planes_drawn(octaves) == ([0, 1, 2, 3, 4, 5], False)


def test_directions_lie_at_their_angles(same) -> None:
    directions = same.contrasts["directions"]
    found = dataclasses.replace(directions, **called_at(directions, (0, 6), value=2.5))
    axes = direction_figure(found, same.octaves, IMAGES).axes[0]
    (number,) = (text for text in axes.texts if "2.5" in text.get_text())
    x, y = number.get_position()
    assert (x, y > 1) == (pytest.approx(0, abs=1e-9), True)  # 90 degrees
    # Sector 0 is drawn in two halves.
    assert len(axes.patches) == 13 * len(directions.difference) + 1


def test_the_map_is_closed_and_a_checkerboard_is_circled_at_all_corners() -> None:
    ratio = torch.zeros(8, 8)
    ratio[0, 0] = 9.0  # both frequencies -1/2, which is 1/2 as well
    axes = ratio_map_figure(ratio, {1: CHECKERBOARD}, IMAGES).axes[0]
    shown = np.asarray(axes.images[0].get_array())
    assert shown.shape == (9, 9)
    assert [shown[i, j] for i in (0, -1) for j in (0, -1)] == [9.0] * 4
    assert {(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines} == {
        (0.5, 0.5), (0.5, -0.5), (-0.5, 0.5), (-0.5, -0.5),
    }  # fmt: skip
    assert texts(axes) == ["1"]
    low, high = axes.images[0].get_extent()[:2]
    assert (low, high) == (-0.5625, 0.5625)  # cells are centred on their frequencies


def test_vertical_frequencies_are_turned_as_pictures_are() -> None:
    ratio = torch.zeros(8, 8)
    ratio[6, 5] = 5.0  # a quarter downwards, an eighth to the right
    peak = dataclasses.replace(GRID, frequency=(0.25, 0.125))
    axes = ratio_map_figure(ratio, {1: peak}, IMAGES).axes[0]
    assert {(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines} == {(0.125, -0.25), (-0.125, 0.25)}
    assert axes.images[0].origin == "upper"


def test_profiles_are_drawn_with_the_numbers_of_the_patterns() -> None:
    frequency = torch.tensor([0.125, 0.25, 0.5])
    pair = (torch.zeros(3), torch.tensor([5.0, 1.0, 0.0]))
    found = with_peaks_of_profiles(frequency, {"vertical": pair, "horizontal": pair})
    named = artefacts._named(dict(enumerate(found.peaks, 1)))
    assert named == [("from left to right", 0.125, "2"), ("from left to right", 0.25, "2")]
    profiles = {"from top to bottom": pair, "from left to right": pair}
    above, below = profile_figure(frequency, profiles, IMAGES, named=named).axes
    assert (texts(above), texts(below)) == ([], ["2", "2"])
    assert below.texts[0].xy == (0.125, 5.0)


def with_peaks_of_profiles(frequency, profiles) -> PeakReport:
    return PeakReport((CHECKERBOARD, GRID), (), {"1": torch.zeros(8, 8)}, frequency, {"1": profiles})


def test_bands_and_coherence_are_drawn(same) -> None:
    energy, coherence = same.contrasts["wavelet energy"], same.contrasts["coherence"]
    axes = cell_figure(dataclasses.replace(energy, **called_at(energy, (0, 2), value=2.0)), IMAGES).axes[0]
    assert texts(axes)[2] == "+2.0"
    assert len(axes.patches) == 1
    panels = coherence_figure(coherence).axes
    assert [axes.get_title(loc="left") for axes in panels] == list(coherence.labels[1])
    lines = {line.get_label(): line for line in panels[1].lines}
    assert lines["real"].get_ydata().tolist() == coherence.reference[:, 1].tolist()
    assert lines["fake"].get_ydata().tolist() == coherence.value[:, 1].tolist()


def test_means_are_drawn_with_intervals_and_floors(same) -> None:
    found = with_level(same, "level", luma=-0.08)
    level, spread = found.contrasts["level"], found.contrasts["level spread"]
    mean, variation = level_figure([level, spread], [0, 3], ", in units of [−1, 1]").axes
    assert [tick.get_text() for tick in mean.get_yticklabels()] == ["red", "luma"]
    markers = [line for line in mean.lines if line.get_marker() == "o"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in markers] == [(0.0, 0), (-0.08, 1)]
    assert markers[1].get_markerfacecolor() == markers[1].get_color() != markers[0].get_markerfacecolor()
    assert "units of [−1, 1]" in mean.get_xlabel()
    assert "dB" in variation.get_xlabel()


def test_means_that_are_all_0_are_drawn() -> None:
    nothing = torch.zeros(30, 4, 8, 8)
    found = compare_samples(measured(nothing, "latents", "real"), measured(nothing, "latents", "fake"))
    (axes,) = level_figure([found.contrasts["level"]], range(4), "").axes
    assert axes.get_xlim() == (-1, 1)


def test_chroma_is_drawn_where_something_is_called_in_it(same, tmp_path: Path, fast) -> None:
    line, pattern = (dataclasses.replace(peak, plane=plane) for peak, plane in ((CHECKERBOARD, "Cb"), (GRID, "Cr")))
    artefacts.artefact_section(with_peaks(quiet(same), line, pattern), tmp_path)
    drawn = {path.stem for path in tmp_path.glob("*.svg")}
    assert drawn == {"map", "periodicity", "map-cb", "periodicity-cr"}


def test_training_is_drawn_over_its_steps(smooth, same) -> None:
    above, below = series_figure(["1000", "4000"], [smooth, same], 3).axes
    assert above.get_xscale() == "log"
    top = next(line for line in below.lines if line.get_label() == "1/4–1/2")
    assert top.get_xdata().tolist() == [1000.0, 4000.0]
    assert top.get_ydata().tolist() == [float(c.contrasts["octaves"].difference[3, 0]) for c in (smooth, same)]
    names = series_figure(["early", "late"], [smooth, same], 3).axes[1]
    assert [tick.get_text() for tick in names.get_xticklabels()] == ["early", "late"]


# Tables


def test_tables_hold_the_numbers_and_mark_what_is_called(unlike) -> None:
    table = octave_table(unlike, 0)
    octaves = unlike.contrasts["octaves"]
    for place, row in enumerate(table.rows):
        assert isinstance(row[2], Shown)
        assert (row[2].value, row[2].marked) == (
            float(octaves.difference[0, place]),
            bool(octaves.different[0, place]),
        )
    assert [row[-1] for row in table.rows] == ["too little", "no", "no", "too much", "no"]
    assert [row[0].text for row in table.rows][:2] == ["1/4–1/2", "1/8–1/4"]


def test_of_very_many_quantities_those_that_are_called_are_shown(same) -> None:
    octaves = same.contrasts["octaves"]
    many = {
        key: getattr(octaves, key)[:1, :1].expand(40, 5).clone()
        for key in ("reference", "value", "error", "low", "high", "halves", "floor")
    }
    different = torch.zeros(40, 5, dtype=torch.bool)
    different[39, 4] = True
    labels = (tuple(map(str, range(40))), octaves.labels[1])
    difference = torch.linspace(1, 2, 200, dtype=torch.float64).flip(0).reshape(40, 5)
    contrast = dataclasses.replace(octaves, **many, different=different, difference=difference, labels=labels)
    table = contrast_table(contrast)
    assert len(table.rows) == 120
    assert [row[0].text for row in table.rows if row[-1] != "no"] == ["39"]
    assert "120 largest of 200" in table.caption


def test_patterns_of_both_sets_are_in_the_table() -> None:
    rows = peak_table([CHECKERBOARD], [GRID], IMAGES).rows
    assert [row[:3] for row in rows] == [["1", "a 2 × 2 checkerboard", "fake"], ["–", "an 8 × 8 block grid", "both"]]
    assert [cell.text for cell in rows[1][3:5]] == ["0", "1/8"]


def test_the_table_names_patterns_and_what_leaves_them_is_listed_once(same, tmp_path, monkeypatch) -> None:
    drawn = Figure("<svg/>", "caption", "alt")
    monkeypatch.setattr(artefacts, "write_figure", lambda *_, **__: drawn)
    upsampled = dataclasses.replace(CHECKERBOARD, name="2 x 2 grid (upsampling by 2, or JPEG)", plane="Cb")
    found = with_peaks(same, upsampled, dataclasses.replace(upsampled, plane="Cr"), both=(GRID,))
    (section,) = artefacts.artefact_section(found, tmp_path)
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    assert [row[1] for row in table.rows] == ["a 2 × 2 grid", "a 2 × 2 grid", "an 8 × 8 block grid"]
    assert [block.texts for block in section.blocks if isinstance(block, Items)] == [
        ["a 2 × 2 grid: upsampling by 2, or JPEG"]
    ]


def test_the_table_over_time_sorts_by_steps(smooth, same) -> None:
    rows = series_table([("step-1000", smooth), ("step-20000", same)], 3).rows
    assert [row[0].value for row in rows] == [1000.0, 20000.0]
    assert rows[0][3].marked


# The page


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn once, as SVG; other kinds and layouts have tests of their own."""
    picture = to_png(image_grid(torch.zeros(1, 1, 4, 4)), 20)
    monkeypatch.setattr("passband.reports.figures.to_png", lambda figure, *options, **more: picture)
    monkeypatch.setattr("passband.reports.figures.to_pdf", lambda figure: b"%PDF")
    monkeypatch.setattr("passband.reports.figures.make_narrow", lambda figure: False)


def refuse(constant: str):
    raise AssertionError(constant)


def test_the_report_of_images_is_complete(smooth, same, tmp_path: Path, fast) -> None:
    found = with_peaks(smooth, CHECKERBOARD, GRID)
    page = spectrum_report(
        found,
        tmp_path / "out",
        real_images=torch.zeros(2, 3, 8, 8),
        fake_images=torch.ones(2, 3, 8, 8),
        settings={"real from": "<photos>"},
        notes=["Left out: 1."],
        series=[("1000", same), ("2000", found)],
        command="passband compare a b",
    )
    assert page == tmp_path / "out" / "index.html"
    source = page.read_text(encoding="utf-8")
    shown = ("too smooth", "&lt;photos&gt;", "Left out: 1.", "passband compare a b", "a 2 × 2 checkerboard", "chroma")
    for part in (*shown, "Over the training", "Phases across scales", "Directions"):
        assert part in source
    for part in describe(found):
        assert unbroken(part) in source.replace("&#x27;", "'")
    names = {path.name for path in (tmp_path / "out" / "figures").glob("*.svg")}
    assert names == {
        f"{name}.svg"
        for name in ("octaves", "spectra", "planes", "levels", "directions", "map", "periodicity", "wavelet-energy",
                     "wavelet-kurtosis", "coherence", "over-time")
    }  # fmt: skip
    assert all(any(fnmatch(Path(name).stem, known) for known in FIGURES) for name in names)
    numbers = json.loads((tmp_path / "out" / "results.json").read_text(), parse_constant=refuse)
    octaves = found.contrasts["octaves"]
    assert numbers["contrasts"]["octaves"]["difference"] == octaves.difference.tolist()
    assert numbers["contrasts"]["octaves"]["different"] == octaves.different.tolist()
    assert numbers["summary"] == list(describe(found))
    assert [peak["name"] for peak in numbers["peaks"]] == ["2 x 2 checkerboard", "8 x 8 block grid"]
    assert [entry["step"] for entry in numbers["series"]] == ["1000", "2000"]
    assert numbers["lsd_db"]["value"] == found.lsd.value
    assert numbers["count"] == {"real": 300, "fake": 300}


def test_signals_have_no_planes_directions_or_pictures(tmp_path: Path, fast) -> None:
    signals = compared([3.0], channels=1, kind="signals", dims=1, count=60)
    for name in ("planes.svg", "map-cb.png", "directions.pdf", "real.png", "front-plane.svg", "my.svg"):
        write_file(tmp_path / "figures" / name, b"of an earlier page, or of somebody else")
    source = spectrum_report(signals, tmp_path).read_text(encoding="utf-8")
    assert "cycles per sample" in source
    assert "Directions" not in source
    assert "luma" not in source
    assert "pixel" not in source.split("<body>")[1].split("How it is measured")[0].replace("pixelated", "")
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert names == {
        "octaves", "spectra", "lines", "periodicity", "wavelet-energy", "wavelet-kurtosis", "coherence", "my"
    }  # fmt: skip


def test_numbers_that_are_not_finite_do_not_stop_the_page(same) -> None:
    octaves = same.contrasts["octaves"]
    nothing = torch.full_like(octaves.difference, math.nan)
    empty = changed(same, "octaves", difference=nothing, low=-nothing.abs(), high=nothing, floor=nothing)
    assert "–" in [row[2].text for row in octave_table(empty, 3).rows]
    octave_figure(empty, 3)
    plane_figure(empty, [0, 1])
    assert sections.headline(empty).items[1].value == "+0.0 dB"
    assert comparison_numbers(empty)["contrasts"]["octaves"]["unit"] == "dB"
