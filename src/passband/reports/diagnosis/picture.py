"""The small picture of a monitored spectrum, for trackers."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passband._checks import import_extra
from passband.metrics.denoiser_result import DenoiserSpectrum
from passband.reports.diagnosis.maps import calibration_map, excess_map, maps_figure
from passband.reports.figures import to_png

_DPI = 130


def monitor_picture(result: DenoiserSpectrum, step: int | None = None, *, per: str | None = None) -> bytes:
    """What a [`SpectrumMonitor`][passband.metrics.SpectrumMonitor] measured, as one PNG: error, and power below it.

    Args:
        result: what was measured.
        step: of the training, for the title.
        per: what a frequency counts cycles per; default: a pixel, of signals a sample.

    Returns:
        PNG data; [`pixels_of`][passband.reports.pixels_of] turns it into what trackers take.

    Example:
        >>> import torch
        >>> from passband import EDM
        >>> from passband.metrics import SpectrumMonitor
        >>> from passband.reports import monitor_picture, pixels_of
        >>> monitor = SpectrumMonitor(EDM("sample"), torch.randn(4, 1, 16, 16), ratios=[0.1, 1.0])
        >>> picture = pixels_of(monitor_picture(monitor.measure(lambda x, t: 0.9 * x), 500))
        >>> picture.dtype, picture.shape[2]
        (dtype('uint8'), 3)

    """
    where = "" if step is None else f"step {step:,}: "
    titles = [f"{where}error of the clean estimate", f"{where}power of the clean estimate"]
    per = per or ("sample" if len(result.size) == 1 else "pixel")
    return to_png(maps_figure([excess_map(result), calibration_map(result)], titles, step=per), _DPI)


def pixels_of(png: bytes) -> NDArray[np.uint8]:
    """A PNG as pixels, (height, width, 3), as trackers take pictures."""
    image: Any = import_extra("PIL.Image", "train").open(io.BytesIO(png))
    return np.asarray(image.convert("RGB"))
