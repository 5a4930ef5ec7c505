"""Figures of the fronts of Spectral Forcing: the (frequency, time) plane, and what each front lets through."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from passband._checks import import_extra
from passband.metrics import PassedPower, PowerLawResult
from passband.process import EDM, Flow, Process
from passband.reports.figures import INK, WIDTH, _figure, _style, series_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DECIBELS = 40  # where the colours end
_TICKS = (0.1, 0.25, 0.5, 0.75, 0.9)
_FINE = 201  # flow times of a curve


def front_plane_figure(
    law: PowerLawResult, cutoffs: Mapping[str, Float[Tensor, " times"]], process: Process, *, title: str = ""
) -> "Figure":
    r"""The data's power over the noise's at every frequency and flow time, and the cutoff of each front over it.

    The ratio is $10 \log_{10} (\alpha^2 P(k) / \sigma^2)$ with the measured P; the line where it is 0 dB is the
    data-to-noise contour, and dashed is that of the fitted law.

    Args:
        law: the measured power, from [`measure_power_law`][passband.metrics.measure_power_law].
        cutoffs: name of the front to its cutoffs (shares of the largest radius) at equally spaced flow times from 0
            to 1, (times,).
        process: whose own time is shown beside the flow time.
        title: shown above.

    Returns:
        The figure.

    Example:
        >>> import torch
        >>> from passband import EDM
        >>> from passband.metrics import measure_power_law
        >>> from passband.reports import front_plane_figure, to_svg
        >>> law = measure_power_law(torch.randn(8, 1, 16, 16).cumsum(2).cumsum(3) / 16)
        >>> figure = front_plane_figure(law, {"linear": torch.linspace(0.05, 1, 11)}, EDM())
        >>> "<svg" in to_svg(figure)
        True

    """
    side = min(law.size)
    power = law.power[1:].clamp_min(float(law.power[1:].max()) * 1e-12)
    frequency = (law.radius[1:] / (2 * side)).numpy()
    tau = np.linspace(0, 1, _FINE)
    inner = np.clip(tau, 1e-4, 1 - 1e-4)
    ratio = 10 * np.log10(power.numpy())[None] + 20 * np.log10(inner / (1 - inner))[:, None]
    levels = np.arange(-DECIBELS, DECIBELS + 1, 10)
    with _style():
        figure, axes = _figure(height=4.6, width=WIDTH)
        shade = axes.contourf(frequency, tau, ratio, levels=levels, cmap=_colours(), extend="both")
        axes.set_xscale("log")
        axes.set_ylim(0, 1)
        axes.contour(frequency, tau, ratio, levels=[0.0], colors=["black"], linewidths=2.2)
        handles = [axes.plot([], [], color=INK, lw=2.2, label="data = noise, measured")[0]]
        handles += _law_line(axes, law)
        for name, style in _front_styles(list(cutoffs)).items():
            cutoff = cutoffs[name].numpy()
            line = axes.plot(
                cutoff * law.k_max / (2 * side), np.linspace(0, 1, len(cutoff)), label=f"{name} front", lw=2.6, **style
            )[0]
            line.set_path_effects(_halo())
            handles.append(line)
        axes.grid(visible=False)
        _frequency_ticks(axes, side, frequency[0])
        axes.set_xlim(frequency[0], law.k_max / (2 * side))
        axes.set_xlabel("frequency (cycles per pixel)")
        axes.set_ylabel("flow time τ\n← noise · data →")
        axes.text(
            0.985, 0.03, "noise stronger", transform=axes.transAxes, ha="right", va="bottom", fontsize=10, color="black"
        )
        axes.text(
            0.015, 0.97, "data stronger", transform=axes.transAxes, ha="left", va="top", fontsize=10, color="black"
        )
        _own_time_axis(axes, process)
        bar = figure.colorbar(shade, ax=axes, pad=0.02, aspect=30)
        bar.set_label("data over noise (dB)")
        bar.set_ticks(
            [int(level) for level in levels[::2]], labels=[f"{level:d}".replace("-", "−") for level in levels[::2]]
        )
        bar.outline.set_visible(False)
        if title:
            axes.set_title(title)
        figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return figure


def passed_power_figure(
    tau: Float[Tensor, " times"], passed: Mapping[str, PassedPower], *, title: str = ""
) -> "Figure":
    """Shares of the data's and of the noise's power that each front lets through, over the flow time.

    Args:
        tau: flow times, (times,).
        passed: name of the front to what it passes at those times, from
            [`passed_power`][passband.metrics.passed_power].
        title: shown above.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no front.

    Example:
        >>> import torch
        >>> from passband.metrics import measure_power_law, passed_power
        >>> from passband.reports import passed_power_figure, to_svg
        >>> tau = torch.linspace(0, 1, 11)
        >>> law = measure_power_law(torch.randn(8, 1, 16, 16))
        >>> "<svg" in to_svg(passed_power_figure(tau, {"identity": passed_power(lambda tau: tau, tau, law)}))
        True

    """
    if not passed:
        raise ValueError("passed is empty; pass at least one front, {name: passed_power(...)}")
    with _style():
        figure: Figure = import_extra("matplotlib.figure", "train").Figure(figsize=(WIDTH, 3.2))
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, kind, heading in ((left, "signal", "the data's power"), (right, "noise", "the noise's power")):
            for name, style in _front_styles(list(passed)).items():
                axes.plot(
                    tau.numpy(), 100 * getattr(passed[name], kind).numpy(), label=f"{name} front", lw=2.2, **style
                )
            axes.set_title(f"{heading} let through")
            axes.set_xlabel("flow time τ")
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 102)
        left.set_ylabel("share (%)")
        if title:
            figure.suptitle(title)
        figure.legend(handles=left.get_legend_handles_labels()[0], loc="outside upper left", ncols=3)
    return figure


def _front_styles(names: list[str]) -> dict[str, dict[str, Any]]:
    """The palette's styles, for names that are no reference's."""
    return dict(zip(names, series_style([f"front {name}" for name in names]).values(), strict=True))


def _colours() -> Any:
    """Pale orange (noise) to pale blue (data), white at 0 dB: dark lines stay legible on all of it."""
    colours = import_extra("matplotlib.colors", "train")
    return colours.LinearSegmentedColormap.from_list("ratio", ["#E8A15E", "#FBE3CC", "#FFFFFF", "#CFE3F2", "#6FA8D6"])


def _halo() -> list[Any]:
    effects = import_extra("matplotlib.patheffects", "train")
    return [effects.Stroke(linewidth=4.6, foreground="white"), effects.Normal()]


def _law_line(axes: "Axes", law: PowerLawResult) -> list[Any]:
    """The fitted law's contour: k = k1 (tau / (1 - tau))^(2 / beta)."""
    if not 0 < law.k1 < math.inf:
        return []
    tau = torch.linspace(1e-4, 1 - 1e-4, 2001, dtype=torch.float64)
    log_k = math.log(law.k1) + 2 / law.beta * torch.log(tau / (1 - tau))
    # Flat spectra send it far out of the plane, and out of what an axis can hold.
    frequency = (log_k - math.log(2 * min(law.size))).clamp(-20, 5).exp()
    label = f"data = noise, fitted law (β = {law.beta:.2f})"
    look: dict[str, Any] = {"lw": 1.4, "ls": (0, (4, 2)), "label": label}
    # Black on the map whatever the page's theme; in the legend, which lies on the page, in its ink.
    in_legend = axes.plot([], [], color=INK, **look)
    axes.plot(frequency.numpy(), tau.numpy(), color="black", **look)
    return [*in_legend]


def _frequency_ticks(axes: "Axes", side: int, lowest: float) -> None:
    ticks = [0.5 * 2.0**-power for power in range(14) if 0.5 * 2.0**-power >= 0.999 * lowest]
    ticks = ticks[:: 1 + len(ticks) // 8]
    axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
    axes.minorticks_off()

    def index(frequency: Any) -> Any:
        return frequency * 2 * side

    top = axes.secondary_xaxis("top", functions=(index, lambda k: np.asarray(k) / (2 * side)))
    top.set_xticks([tick * 2 * side for tick in ticks], [f"{tick * 2 * side:.3g}" for tick in ticks])
    top.minorticks_off()
    top.set_xlabel("DCT index along the shorter side")


def own_times(process: Process, tau: Sequence[float], *, ratio: bool = True) -> list[float]:
    """The process's own time at some flow times within 0 ... 1; where that is the flow time itself, the noise ratio.

    Args:
        process: the process.
        tau: the flow times.
        ratio: whether the noise ratio may stand in for it.

    """
    ratios = torch.tensor([(1 - value) / value for value in tau], dtype=torch.float64)
    return (ratios if ratio and _is_flow_time(process) else process.time_at(ratios)).tolist()


def own_time_label(process: Process) -> str:
    """What `own_times` are."""
    if _is_flow_time(process):
        return "noise ratio σ/α"
    return (
        "noise level σ"
        if isinstance(process, EDM) and process.time == "sigma"
        else f"time t of {type(process).__name__}"
    )


def _is_flow_time(process: Process) -> bool:
    return isinstance(process, Flow) and process.data_at == 1 and process.time_scale == 1


def _own_time_axis(axes: "Axes", process: Process) -> None:
    right = axes.secondary_yaxis("right")
    right.set_yticks(list(_TICKS), [f"{value:.3g}" for value in own_times(process, _TICKS)])
    right.set_ylabel(own_time_label(process))
