"""Spectrograms that share one scale of time, frequency and colour."""

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from passband._checks import check_choice, check_floating, import_extra
from passband.reports.figures import WIDTH, _style, to_svg
from passband.transforms import hz_to_mel, mel_to_hz

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DYNAMIC_RANGE = 80.0  # dB from the brightest to black
COLOUR_MAP = "magma"
CELL_WIDTH = 3.5  # inches of a picture that stands in a column of a page
_COLUMNS = 600  # frames that a picture shows at most: more would not be seen
_ROWS = 256
_FLOOR = 1e-10  # power of full scale: -100 dB
_DPI = 150  # of the pixels within a clip's picture
_EMBEDDED = re.compile(r"(data:image/png;base64,)\s*([\w+/=\s]+)")


class Spectrogram(NamedTuple):
    """Level of a clip over time and frequency.

    Attributes:
        level: dB of full scale (a sine of amplitude 1 has 0), (frequencies, frames); not below -100.
        sample_rate: Hz; row i is the frequency i / (rows - 1) x sample_rate / 2.
        seconds: the clip's length.

    """

    level: NDArray[np.float64]
    sample_rate: int
    seconds: float

    @property
    def loudest(self) -> float:
        """The highest level, dB of full scale."""
        return float(self.level.max())


def spectrogram(audio: Float[Tensor, " samples"], sample_rate: int, *, n_fft: int | None = None) -> Spectrogram:
    """The level of a clip over time and frequency, for a picture: neighbouring frames are averaged beyond 600.

    Args:
        audio: one clip, full scale 1.
        sample_rate: Hz.
        n_fft: length of the Hann window, samples; None: the power of two nearest to 45 ms. Its hop is a quarter.

    Returns:
        The levels in dB of full scale.

    Raises:
        TypeError: if audio is not floating.
        ValueError: if audio is not one clip of at least one sample, or holds values that are not finite.

    Example:
        >>> import torch
        >>> from passband.reports import spectrogram
        >>> sine = torch.sin(torch.arange(8000) * 2 * torch.pi * 1000 / 8000)
        >>> shown = spectrogram(sine, 8000, n_fft=256)
        >>> int(shown.level.mean(1).argmax()), abs(round(shown.loudest, 1))  # bin 32 of 256 at 8 kHz: 1 kHz
        (32, 0.0)

    """
    check_floating("audio", audio)
    if audio.ndim != 1 or not len(audio):
        raise ValueError(
            f"a spectrogram takes one clip of shape (samples,), got {tuple(audio.shape)}; take one of a batch, or "
            "the mean of the channels"
        )
    if not audio.isfinite().all():
        raise ValueError("audio holds values that are not finite, which have no spectrogram")
    size = 2 ** round(math.log2(0.045 * sample_rate)) if n_fft is None else n_fft
    samples = torch.nn.functional.pad(audio.detach().float().cpu(), (size // 2, size // 2 + size))
    window = torch.hann_window(size)
    frames = samples.unfold(0, size, size // 4)[: len(audio) // (size // 4) + 1]
    per_column = math.ceil(len(frames) / _COLUMNS)
    power = torch.stack([_power(block, window) for block in torch.split(frames, per_column)], 1).double().numpy()
    return Spectrogram(10 * np.log10(np.maximum(power, _FLOOR)), sample_rate, len(audio) / sample_rate)


def _power(frames: Tensor, window: Tensor) -> Tensor:
    """Mean power of frames per frequency; that of a sine of amplitude 1 at its frequency is 1."""
    power: Tensor = (torch.fft.rfft(frames * window).abs() * (2 / window.sum())).square().mean(0)
    return power


def spectrogram_figure(
    clips: Mapping[str, Float[Tensor, " samples"]],
    sample_rate: int,
    *,
    axis: str = "linear",
    value_range: tuple[float, float] | None = None,
    n_fft: int | None = None,
    title: str = "",
) -> "Figure":
    """Spectrograms of several clips side by side, in one scale of time, frequency and colour.

    What is missing in one of them is thus seen: a muffled voice is dark at the top.

    Args:
        clips: what is heard to the clip, full scale 1; the names stand above the pictures.
        sample_rate: of all clips, Hz.
        axis: `"linear"` shows the highs at their full width, `"mel"` as they are heard.
        value_range: (black, brightest) in dB of full scale; None: 80 dB down from the loudest point of all clips.
        n_fft: length of the Hann window, samples; None: the power of two nearest to 45 ms.
        title: shown above.

    Returns:
        The figure.

    Raises:
        TypeError: if a clip is not floating.
        ValueError: if there is no clip, or a clip is empty or not finite.

    Example:
        >>> import torch
        >>> from passband.reports import spectrogram_figure, to_png
        >>> noise = torch.randn(8000, generator=torch.Generator().manual_seed(0)) / 4
        >>> to_png(spectrogram_figure({"original": noise, "quiet": noise / 10}, 16000))[1:4]
        b'PNG'

    """
    if not clips:
        raise ValueError("clips is empty; pass at least one, {name: audio}")
    shown = {name: spectrogram(audio, sample_rate, n_fft=n_fft) for name, audio in clips.items()}
    low, high = shared_range(list(shown.values())) if value_range is None else value_range
    longest = max(clip.seconds for clip in shown.values())
    with _style():
        width = max(WIDTH, 3.1 * len(shown) + 0.8)
        figure: Figure = import_extra("matplotlib.figure", "train").Figure(figsize=(width, 3.2))
        panels = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
        for number, (name, clip) in enumerate(shown.items()):
            image = draw_spectrogram(panels[number], clip, (low, high), axis=axis, seconds=longest)
            panels[number].set_title(name)
            if number:
                panels[number].set_ylabel("")
        bar = figure.colorbar(image, ax=list(panels), pad=0.02, aspect=30)
        bar.set_label("level (dB of full scale)")
        bar.outline.set_visible(False)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
    return figure


def clip_picture(
    clip: Spectrogram,
    value_range: tuple[float, float],
    *,
    axis: str = "linear",
    seconds: float | None = None,
    f_max: float | None = None,
) -> str:
    """A small picture of one spectrogram for a column of a page, as SVG whose pixels have few colours."""
    with _style():
        figure: Figure = import_extra("matplotlib.figure", "train").Figure(figsize=(CELL_WIDTH, 2.4), dpi=_DPI)
        draw_spectrogram(figure.add_subplot(), clip, value_range, axis=axis, seconds=seconds, f_max=f_max)
    return with_few_colours(to_svg(figure))


def draw_spectrogram(
    axes: "Axes",
    clip: Spectrogram,
    value_range: tuple[float, float],
    *,
    axis: str = "linear",
    seconds: float | None = None,
    f_max: float | None = None,
) -> Any:
    """Draw a spectrogram into axes; grey beyond its end and above its Nyquist frequency, where there is nothing.

    Returns:
        The image, for a colour bar.

    """
    check_choice("axis", axis, ("linear", "mel"))
    nyquist = clip.sample_rate / 2
    top = nyquist if f_max is None else f_max
    rows = np.arange(clip.level.shape[0]) / (clip.level.shape[0] - 1) * nyquist
    scaled = _to_mel if axis == "mel" else _same
    shown, end = (float(scaled(np.array([hertz]))[0]) for hertz in (min(nyquist, top), float(top)))
    places = np.linspace(0, shown, _ROWS)
    wanted = _from_mel(places) if axis == "mel" else places
    picture = np.stack([np.interp(wanted, rows, column) for column in clip.level.T], 1)
    image = axes.imshow(
        picture,
        origin="lower",
        aspect="auto",
        cmap=COLOUR_MAP,
        vmin=value_range[0],
        vmax=value_range[1],
        extent=(0, clip.seconds, 0, shown),
        interpolation="antialiased",
    )
    axes.set_facecolor("#dddddd")
    axes.grid(visible=False)
    axes.set_xlim(0, clip.seconds if seconds is None else seconds)
    axes.set_ylim(0, end)
    ticks = _frequency_ticks(top, axis)
    axes.set_yticks(scaled(np.array(ticks, dtype=np.float64)), [kilohertz_tick(tick) for tick in ticks])
    axes.set_xlabel("time (s)")
    axes.set_ylabel("frequency (kHz)")
    return image


def shared_range(clips: Sequence[Spectrogram], dynamic_range: float = DYNAMIC_RANGE) -> tuple[float, float]:
    """(black, brightest) in dB of full scale, for clips that are to be compared."""
    high = max(clip.loudest for clip in clips)
    return high - dynamic_range, high


def colour_scale() -> "Figure":
    """The colours of the pictures of a page, as a strip: dB below the loudest point."""
    with _style():
        figure: Figure = import_extra("matplotlib.figure", "train").Figure(figsize=(WIDTH, 0.75))
        axes = figure.add_subplot()
        axes.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap=COLOUR_MAP, extent=(-DYNAMIC_RANGE, 0, 0, 1))
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.set_xlabel("level below the loudest point of the row (dB)")
    return figure


def with_few_colours(svg: str, colours: int = 96) -> str:
    """An SVG whose pictures have few colours: a third of the bytes, and hardly a difference to be seen."""
    image = import_extra("PIL.Image", "train")

    def smaller(match: re.Match[str]) -> str:
        picture = image.open(io.BytesIO(base64.b64decode(match[2]))).convert("RGB")
        stream = io.BytesIO()
        picture.quantize(colours, dither=image.Dither.NONE).save(stream, "PNG", optimize=True)
        return match[1] + base64.b64encode(stream.getvalue()).decode()

    return _EMBEDDED.sub(smaller, svg)


def _frequency_ticks(top: float, axis: str) -> list[float]:
    if axis == "mel":
        return [0.0, *(tick for tick in (500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0) if tick <= top)]
    step = next((step for step in (500.0, 1000.0, 2000.0, 4000.0) if top / step <= 6), 8000.0)
    return [step * number for number in range(int(top / step + 1e-9) + 1)]


def _same(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return hertz


def _to_mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(hz_to_mel(torch.as_tensor(hertz)), dtype=np.float64)


def _from_mel(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(mel_to_hz(torch.as_tensor(mel)), dtype=np.float64)


def kilohertz_tick(hertz: float) -> str:
    """A frequency in kHz for an axis."""
    return f"{hertz / 1000:.3g}"
