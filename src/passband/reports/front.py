"""The fronts of Spectral Forcing on the power that data were measured to have: sections, numbers, the recipe's line."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from passband.forcing.fronts import ContourFront, Front, LinearFront
from passband.metrics import PassedPower, PowerLawResult, passed_power
from passband.process import Flow, Process
from passband.reports.figures import write_figure
from passband.reports.front_figures import front_plane_figure, own_time_label, own_times, passed_power_figure
from passband.reports.page import Block, Code, Figure, Number, Numbers, Section, Table, Text

TIMES = (0.1, 0.25, 0.5, 0.75, 0.9)
TAU = torch.linspace(0, 1, 201, dtype=torch.float64)
_ROWS = [round(200 * tau) for tau in TIMES]
_POOR = 2.0  # dB; from this residual on, a power law describes the data poorly


@dataclass(frozen=True)
class FrontReport:
    """What is known of a set of data, and what is asked of the fronts.

    Args:
        real: the power law of the real data, or why there is none.
        fake: the same of generated data; None: there are none.
        process: the noising process, whose own time is shown beside the flow time.
        kappa: steepness of the mask.
        window: side of the forcing's windows (in which the power was measured); None: whole images.
        exact: the operator's exact variant.
        fronts: name to front, more of them to compare; linear and contour are always shown.

    """

    real: PowerLawResult | str
    fake: PowerLawResult | str | None = None
    process: Process = field(default_factory=lambda: Flow(data_at=1))
    kappa: float = 30.0
    window: int | None = None
    exact: bool = False
    fronts: Mapping[str, Front] = field(default_factory=dict)

    def named_fronts(self) -> dict[str, Front]:
        """The linear front with its defaults, the contour of the measured law where there is one, and the others."""
        fronts: dict[str, Front] = {"linear": LinearFront()}
        if isinstance(self.real, PowerLawResult) and self.real.front is not None:
            fronts["contour"] = ContourFront(self.real.beta, self.real.k1, self.real.size)
        return {**fronts, **self.fronts}

    @cached_property
    def passed(self) -> dict[str, PassedPower]:
        """What each front lets through of the real data and of the noise, at the flow times of `TAU`."""
        if not isinstance(self.real, PowerLawResult):
            return {}
        return {
            name: passed_power(front, TAU, self.real, kappa=self.kappa, exact=self.exact)
            for name, front in self.named_fronts().items()
        }


def recipe_line(report: FrontReport) -> str:
    """The recipe's `forcing:` line for the measured contour; empty where there is none."""
    if not isinstance(report.real, PowerLawResult) or report.real.front is None:
        return ""
    size = report.real.size
    side = str(size[0]) if len(set(size)) == 1 and len(size) > 1 else str(list(size))
    front = f"{{name: contour, beta: {report.real.beta:.3g}, k1: {report.real.k1:.3g}, size: {side}}}"
    options = "" if report.kappa == 30 else f", kappa: {report.kappa:g}"
    options += "" if report.window is None else f", window: {report.window}"
    options += ", exact: true" if report.exact else ""
    return f"forcing: {{front: {front}{options}}}"


def front_columns(report: FrontReport) -> list[str]:
    """The heads of the table, see `front_rows`."""
    shares = ["Data passed (%)", "Noise passed (%)", "Data lost (%)"]
    own = own_time_label(report.process)
    return ["Flow time τ", own[0].upper() + own[1:], "Front", "Cutoff (cycles per pixel)", *shares]


def front_rows(report: FrontReport) -> list[list[str]]:
    """The table's rows as texts: times, front, cutoff, and what passes; none without a power law."""
    if not isinstance(report.real, PowerLawResult):
        return []
    top = _top_frequency(report.real)
    own = dict(zip(TIMES, own_times(report.process, TIMES), strict=True))
    return [
        [
            f"{tau:g}",
            f"{own[tau]:.3g}",
            name,
            f"{float(values.cutoff[i]) * top:.3f}",
            *(percent(float(share[i])) for share in (values.signal, values.noise, values.lost)),
        ]
        for i, tau in zip(_ROWS, TIMES, strict=True)
        for name, values in report.passed.items()
    ]


def front_numbers(report: FrontReport) -> dict[str, Any]:
    """The same as plain data for JSON, with the measured power."""
    numbers: dict[str, Any] = {
        "process": type(report.process).__name__,
        "kappa": report.kappa,
        "window": report.window,
        "exact": report.exact,
        "real": _law_numbers(report.real),
        "fake": None if report.fake is None else _law_numbers(report.fake),
        "recipe": recipe_line(report) or None,
    }
    if isinstance(report.real, PowerLawResult):
        numbers["tau"], numbers["time"] = list(TIMES), own_times(report.process, TIMES, ratio=False)
        numbers["fronts"] = {
            name: {key: value[_ROWS].tolist() for key, value in values._asdict().items()}
            for name, values in report.passed.items()
        }
    return numbers


def describe_law(report: FrontReport) -> str:
    """What was measured, in two or three sentences; the reason where nothing was."""
    law = report.real
    if isinstance(law, str):
        return f"There is no front to measure: {law}."
    what = "windows" if report.window is not None else "images"
    text = (
        f"The power of the real {what} goes as frequency^{_minus(-law.beta)} (± {law.beta_error:.2f}; DCT indices "
        f"{law.low} to {law.high}, which lie {law.residual:.1f} dB RMS off this law)"
    )
    if law.front is None:
        return f"{text}: it hardly falls, so there is no contour along which noise overtakes the data."
    text += f" and meets that of unit noise at index {law.k1:.2f} ± {law.k1_error:.2f}"
    text += f", {_frequency(law, law.k1):.3f} cycles per pixel" + _outside(law) + "."
    if isinstance(report.fake, PowerLawResult):
        text += f" The fake ones: frequency^{_minus(-report.fake.beta)} (± {report.fake.beta_error:.2f})"
        text += f", index {report.fake.k1:.2f}." if report.fake.front is not None else "."
    if 0 < law.crossing < math.inf and not 0.8 < law.crossing / law.k1 < 1.25:
        text += f" The measured power itself falls through 1 at index {law.crossing:.2f}."
    if law.residual > _POOR:
        text += " A single power law describes these data poorly: trust the measured contour, not the fitted one."
    return text


def describe_fronts(report: FrontReport) -> str:
    """What the fronts do to the data, in a few sentences; empty without a power law."""
    law = report.real
    if not isinstance(law, PowerLawResult):
        return ""
    passed, half = report.passed, len(TAU) // 2
    parts = [
        f"the {name} front removes {percent(1 - float(values.signal[half]))} % of the data's power and "
        f"{percent(1 - float(values.noise[half]))} % of the noise's"
        for name, values in passed.items()
    ]
    parts = [f"Half way, at τ = 0.5, {'; '.join(parts)}.", _meeting(law, passed["linear"]), _lost(passed)]
    # A value and its percent sign stay on one line.
    return " ".join([*parts, _edge(report)]).strip().replace(" %", "\N{NO-BREAK SPACE}%")


def front_sections(report: FrontReport, out: Path) -> list[Section]:
    """The page's section on the fronts; its figures are written into figures/ below out.

    Args:
        report: what was measured, and for which process and operator.
        out: the page's folder.

    Returns:
        One section: the exponents, the plane, what passes, and the recipe's line; or why it is left out.

    """
    title = "Which front fits the data"
    if isinstance(report.real, str):
        return [Section(title, [Text(f"Left out: {report.real}.", "note")])]
    blocks: list[Block] = [_headline(report), Text(describe_law(report)), *_draw(report, out / "figures")]
    blocks += [
        Text(describe_fronts(report)),
        Table(front_columns(report), front_rows(report), caption=_table_caption(report)),
    ]
    line = recipe_line(report)
    if line:
        blocks += [Text("The contour of these data as a recipe's forcing:"), Code(line)]
    return [Section(title, [*blocks, Text(_method(report))])]


def percent(share: float) -> str:
    """A share in percent, two digits of what is small."""
    value = 100 * share
    if not math.isfinite(value):
        return "–"
    if value >= 10:
        return f"{value:.1f}"
    if value < 0.01:
        return "0" if value < 1e-9 else "<0.01"
    return f"{value:.2g}"


def _headline(report: FrontReport) -> Numbers:
    items = []
    for name, law in (("real", report.real), ("fake", report.fake)):
        if isinstance(law, PowerLawResult):
            items.append(Number(f"Exponent β, {name}", f"{law.beta:.2f}", f"± {law.beta_error:.2f}"))
            if law.front is not None:
                items.append(Number(f"Index k₁, {name}", f"{law.k1:.2f}", f"± {law.k1_error:.2f}"))
    return Numbers(items)


def _draw(report: FrontReport, folder: Path) -> list[Figure]:
    law = report.real
    assert isinstance(law, PowerLawResult)
    passed = report.passed
    plane = front_plane_figure(law, {name: values.cutoff for name, values in passed.items()}, report.process)
    names = " and ".join(passed)
    return [
        write_figure(
            plane, folder, "front-plane",
            caption="The real images' power over the noise's, at each frequency (across) and flow time (up). Noise is "
            "the stronger right of the black line, data left of it. A front removes what lies right of its line: noise "
            "where it runs along the black line, data too where it runs left of it.",
            alt="Map of the data-to-noise ratio over frequency and flow time with its 0 dB contour, and the cutoffs "
            f"of the fronts {names}. {describe_fronts(report)}",
        ),
        write_figure(
            passed_power_figure(TAU, passed), folder, "front-power",
            caption="What each front lets through of the data's power, their mean aside, and of the noise's.",
            alt=f"Two line charts of shares over the flow time for the fronts {names}; the table gives their values.",
        ),
    ]  # fmt: skip


def _meeting(law: PowerLawResult, linear: PassedPower) -> str:
    """When the noise reaches the linear front, and what the front removes of the data then."""
    contour = torch.tensor([_measured_contour(law, float(time)) for time in TAU[:-1]], dtype=torch.float64)
    below = (contour < linear.cutoff[:-1] * law.k_max).nonzero().flatten()
    if not len(below):
        return "At all times the linear front lies below the frequency at which noise overtakes the data."
    last = int(below[-1])
    if last == len(contour) - 1:
        return "At all times the linear front passes frequencies at which the noise is the stronger."
    return (
        f"Up to τ = {float(TAU[last]):.2f} the linear front passes frequencies at which the noise is the stronger; "
        f"there it cuts at {float(linear.cutoff[last]) * _top_frequency(law):.2f} cycles per pixel, where the noise "
        f"has just sunk to the data, and removes {percent(1 - float(linear.signal[last]))} % of the data's power."
    )


def _lost(passed: Mapping[str, PassedPower]) -> str:
    """What each front loses at its worst time."""
    worst = {name: int(values.lost.argmax()) for name, values in passed.items()}
    parts = [
        f"{percent(share)} % of the power by the {name} front (at τ = {float(TAU[worst[name]]):.2f})"
        for name, values in passed.items()
        if (share := float(values.lost[worst[name]])) >= 1e-4
    ]
    if not parts:
        return "No front removes data that are stronger than the noise at their frequency."
    return f"Data that are stronger than the noise at their frequency are lost as well: at worst {', '.join(parts)}."


def _edge(report: FrontReport) -> str:
    """Whether the mask is too soft for the contour."""
    contour = report.passed.get("contour")
    if contour is None or 4 / report.kappa < float(contour.cutoff[len(TAU) // 2]):
        return ""
    law = report.real
    assert isinstance(law, PowerLawResult)
    return (
        f"The mask of κ = {report.kappa:g} falls from 0.88 to 0.12 over {4 / report.kappa * _top_frequency(law):.2f} "
        "cycles per pixel, more than the contour's whole pass band at τ = 0.5: a larger κ follows the contour closer."
    )


def _measured_contour(law: PowerLawResult, tau: float) -> float:
    """The largest radius at which the data's power is at least the noise's."""
    above = (law.power[1:] * (tau / (1 - tau)) ** 2 >= 1).nonzero().flatten()
    return float(law.radius[1 + int(above[-1])]) if len(above) else 0.0


def _law_numbers(law: PowerLawResult | str) -> dict[str, Any]:
    if isinstance(law, str):
        return {"left_out": law}
    return {
        "beta": law.beta,
        "beta_standard_error": law.beta_error,
        "k1": law.k1,
        "k1_standard_error": law.k1_error,
        "crossing": law.crossing,
        "residual_db": law.residual,
        "fitted": [law.low, law.high],
        "size": list(law.size),
        "count": law.count,
        "radius": law.radius.tolist(),
        "power": law.power.tolist(),
        "power_standard_error": law.power_error.tolist(),
    }


def _outside(law: PowerLawResult) -> str:
    if law.k1 > law.k_max:
        return f" (beyond the corner, {law.k_max:.1f}: the data are above unit noise at all frequencies)"
    if not law.low <= law.k1 <= law.high:
        return " (outside the range of the fit)"
    return ""


def _frequency(law: PowerLawResult, index: float) -> float:
    return index / (2 * min(law.size))


def _minus(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _top_frequency(law: PowerLawResult) -> float:
    return _frequency(law, law.k_max)


def _table_caption(report: FrontReport) -> str:
    where = "" if report.window is None else f", windows of {report.window}"
    kind = ", exact" if report.exact else ""
    return (
        f"Shares of power, the data's without their mean; mask of steepness κ = {report.kappa:g}{where}{kind}. Lost is "
        "what a front removes of the data although it is stronger than the noise at its frequency."
    )


def _method(report: FrontReport) -> str:
    what = "window" if report.window is not None else "image"
    return (
        f"Each {what}'s power (orthonormal DCT-II, pixel values in −1 … 1) is averaged over images and channels and "
        "over rings of the DCT radius, whose index counts half-cycles along the shorter side. The exponent and the "
        "index k₁, where the law has the power 1 of unit noise, are fitted to the logarithms over the stated range, "
        "every ring counting once; errors are those of a jackknife over groups of images. (The exponent at the top of "
        "this page is of the DFT's rings up to half the side, to which the jump between opposite edges adds.) At flow "
        "time τ the data's power counts α² and the noise's σ², and σ/α = (1 − τ)/τ for every process."
    )
