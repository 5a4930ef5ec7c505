"""Spectrograms and curves show the levels and frequencies that are in the sound."""

import base64
import io
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from passband.reports import band_difference_figure, long_term_figure, spectrogram, spectrogram_figure, to_png, to_svg
from passband.reports._themes import adaptive
from passband.reports.figures import _figure
from passband.reports.spectrograms import Spectrogram, clip_picture, draw_spectrogram, shared_range, with_few_colours

RATE = 8000


def tone(hertz: float, seconds: float = 0.5, rate: int = RATE) -> torch.Tensor:
    return torch.sin(2 * math.pi * hertz * torch.arange(int(seconds * rate)) / rate)


def test_a_full_scale_sine_is_0_db_at_its_frequency() -> None:
    shown = spectrogram(0.1 * tone(1000), RATE, n_fft=256)
    middle = shown.level[:, shown.level.shape[1] // 2]
    assert middle.argmax() == 32  # 1000 / (8000 / 256)
    assert middle.max() == pytest.approx(-20, abs=0.01)
    assert shown.seconds == 0.5
    assert shown.level.min() >= -100


def test_long_clips_are_averaged_to_what_a_picture_shows() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(300_000, generator=generator)
    long = spectrogram(noise, RATE, n_fft=256)
    assert long.level.shape[1] <= 600
    # Averages are of power: the mean power per sample of white noise of variance v is v in all frames.
    window = torch.hann_window(256, dtype=torch.float64)
    expected = 10 * math.log10(0.01 * 4 * float(window.square().sum()) / float(window.sum()) ** 2)
    assert 10 * np.log10((10 ** (long.level[5:-5] / 10)).mean()) == pytest.approx(expected, abs=0.1)


def test_clips_share_one_scale_of_time_frequency_and_colour() -> None:
    figure = spectrogram_figure({"original": tone(1000, 0.5), "short and quiet": 0.01 * tone(1000, 0.25)}, RATE)
    first, second, _ = figure.axes
    limits = [axes.images[0].get_clim() for axes in (first, second)]
    assert limits[0] == limits[1] == pytest.approx((-80, 0), abs=0.1)
    assert first.get_xlim() == second.get_xlim() == (0, 0.5)
    assert first.get_ylim() == second.get_ylim() == (0, 4000)
    assert [axes.get_title(loc="left") for axes in (first, second)] == ["original", "short and quiet"]


@pytest.mark.parametrize("axis", ["linear", "mel"])
def test_the_brightest_row_is_at_the_tone(axis: str) -> None:
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    shown = spectrogram(tone(1000), RATE, n_fft=512)
    image = draw_spectrogram(axes, shown, shared_range([shown]), axis=axis)
    picture = image.get_array()
    row = picture.mean(1).argmax() / (picture.shape[0] - 1) * axes.get_ylim()[1]
    ticks = dict(zip([text.get_text() for text in axes.get_yticklabels()], axes.get_yticks(), strict=True))
    assert row == pytest.approx(ticks["1"], rel=0.02)


def test_above_the_nyquist_frequency_there_is_nothing() -> None:
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    shown = spectrogram(tone(500), RATE)
    image = draw_spectrogram(axes, shown, (-80, 0), f_max=8000)
    assert axes.get_ylim() == (0, 8000)
    assert image.get_extent() == [0, 0.5, 0, 4000]
    row = image.get_array().mean(1).argmax() / (image.get_array().shape[0] - 1)
    assert row == pytest.approx(500 / 4000, abs=0.01)


def test_pictures_are_small_and_follow_the_page() -> None:
    noise = 0.1 * torch.randn(5 * 16000, generator=torch.Generator().manual_seed(0))
    svg = clip_picture(spectrogram(noise, 16000), (-80, 0))
    assert len(svg) < 160_000
    (inside,) = re.findall('"data:image/png;base64,(.*?)"', svg, re.DOTALL)
    picture = Image.open(io.BytesIO(base64.b64decode(inside)))
    assert picture.mode == "P"
    assert len(picture.getcolors()) > 20  # noise of 30 dB and more
    assert "prefers-color-scheme: dark" in adaptive(svg)


def test_fewer_colours_are_nearly_the_same() -> None:
    ramp = np.linspace(0, 1, 250)[None].repeat(8, 0)
    figure, axes = _figure()
    axes.imshow(ramp, cmap="magma", aspect="auto")
    before = to_svg(figure)
    pictures = []
    for svg in (before, with_few_colours(before)):
        (inside,) = re.findall('"data:image/png;base64,(.*?)"', svg, re.DOTALL)
        pictures.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(inside))).convert("RGB"), dtype=float))
    assert len(np.unique(pictures[0].reshape(-1, 3), axis=0)) > 200
    assert len(np.unique(pictures[1].reshape(-1, 3), axis=0)) <= 96
    assert np.abs(pictures[0] - pictures[1]).max() <= 8


def test_long_term_figure_draws_decibels_and_two_standard_errors() -> None:
    figure = long_term_figure([0, 100, 1000, 4000], {"real": [9, 1, 0.1, 0.01], "fake": [9, 1, 0.1, 0.0]},
                              errors={"real": [0, 0.25, 0.01, 0.001]})  # fmt: skip
    axes = figure.axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["real"].get_xdata().tolist() == [100, 1000, 4000]
    assert lines["real"].get_ydata().tolist() == pytest.approx([0, -10, -20])
    assert np.isfinite(lines["fake"].get_ydata()).all()
    edges = axes.collections[0].get_paths()[0].vertices
    at_100 = sorted(set(np.round(edges[edges[:, 0] == 100][:, 1], 6)))
    assert at_100 == pytest.approx([10 * math.log10(0.5), 10 * math.log10(1.5)], abs=1e-4)
    assert "<svg" in to_svg(figure)


def test_band_figure_has_one_step_per_band() -> None:
    bands = [(500.0, 1000.0), (1000.0, 2000.0), (2000.0, 4000.0)]
    figure = band_difference_figure(bands, {"fake": [0.5, -1.0, -12.0]}, reference=[0.3, -0.4, 13.0])
    steps = next(patch for patch in figure.axes[0].patches if patch.get_label() == "fake").get_data()
    assert steps.values.tolist() == [0.5, -1.0, -12.0]
    assert steps.edges.tolist() == [500, 1000, 2000, 4000]
    assert figure.axes[0].get_ylim()[0] < -13  # what chance makes is all seen
    assert to_png(figure)[1:4] == b"PNG"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spectrogram(torch.zeros(2, 100), RATE), r"one clip of shape \(samples,\), got \(2, 100\)"),
        (lambda: spectrogram(torch.zeros(0), RATE), "one clip"),
        (lambda: spectrogram(torch.tensor([0.0, math.nan]), RATE), "not finite"),
        (lambda: spectrogram_figure({}, RATE), "at least one"),
        (lambda: spectrogram_figure({"a": torch.zeros(100)}, RATE, axis="log"), "unknown axis: got 'log'"),
        (lambda: long_term_figure([0, 1], {"real": [1.0]}), "2 values"),
        (lambda: band_difference_figure([(1, 2)], {}), "at least one series"),
    ],
)
def test_bad_input_is_a_clear_error(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_silence_has_a_spectrogram() -> None:
    shown = spectrogram(torch.zeros(1000), RATE)
    assert isinstance(shown, Spectrogram)
    assert (shown.level == -100).all()
