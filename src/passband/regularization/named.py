"""Losses, weights and gates from plain descriptions: for recipes, and for hosts that are configured by JSON."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from passband._checks import check_choice, check_number, nearest
from passband.regularization.focal import FocalFrequencyLoss
from passband.regularization.fourier import AmplitudeLoss, AmplitudePhaseLoss, Coupling
from passband.regularization.frames import FRAME_LENGTHS, FramedLoss, Window
from passband.regularization.gate import Gate, NoiseRatioGate
from passband.regularization.loss import SpectralLoss, WeightedSum
from passband.regularization.pixel import PixelLoss
from passband.regularization.wavelet import WaveletLoss
from passband.regularization.weight import ConstantWeight, EDMWeight, GradientShare, Weight

Description = str | Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""A loss in plain values: a name, a mapping of `name`, `scale` and the loss's options, or a list of such mappings."""


def _framed(
    kind: Literal["amplitude", "amplitude_phase"] = "amplitude",
    frame_lengths: Sequence[int] = FRAME_LENGTHS,
    overlap: float = 0.75,
    window: Window = "hann",
    coupling: Coupling = "frequency",
    rel: float = 1e-3,
) -> FramedLoss:
    check_choice("kind", kind, ("amplitude", "amplitude_phase"))
    loss = AmplitudeLoss() if kind == "amplitude" else AmplitudePhaseLoss(coupling, rel)
    return FramedLoss(loss, tuple(frame_lengths), overlap, window)


_LOSSES: dict[str, Callable[..., SpectralLoss]] = {
    "amplitude": AmplitudeLoss,
    "amplitude_phase": AmplitudePhaseLoss,
    "wavelet": WaveletLoss,
    "focal_frequency": FocalFrequencyLoss,
    "pixel": PixelLoss,
    "stft": _framed,
}


def as_loss(description: SpectralLoss | Description) -> SpectralLoss:
    """The loss that plain values describe; a loss itself is returned as it is.

    Args:
        description: `amplitude`, `amplitude_phase`, `wavelet`, `focal_frequency`, `pixel` or `stft` (amplitude, or
            amplitude and phase, of short-time frames); a mapping with such a `name`, an optional factor `scale` and the
            loss's own options; or a list of such mappings, which add up.

    Raises:
        TypeError: if it is of another kind, or an option is.
        ValueError: on an unknown name or option.

    Example:
        >>> from passband.regularization import as_loss
        >>> as_loss("amplitude")
        AmplitudeLoss()
        >>> [(name, weight) for name, weight, _ in as_loss(
        ...     [{"name": "amplitude"}, {"name": "wavelet", "wavelet": "bior1.3", "scale": 0.1}]).terms()]
        [('amplitude', 1.0), ('wavelet', 0.1)]

    """
    if isinstance(description, SpectralLoss):
        return description
    if isinstance(description, str):
        return _named({"name": description})
    described = [description] if isinstance(description, Mapping) else description
    if isinstance(described, list | tuple) and all(isinstance(one, Mapping) for one in described):
        return _scaled(described)
    raise TypeError(
        "loss must be a SpectralLoss such as AmplitudeLoss(), a name such as 'amplitude', or a mapping (or a list of "
        f"mappings) such as {{'name': 'wavelet', 'levels': 3}}; got {description!r}"
    )


def _scaled(descriptions: Sequence[Mapping[str, Any]]) -> SpectralLoss:
    """The sum of the described losses; one alone with the factor 1 is itself."""
    losses = []
    for description in descriptions:
        scale = description.get("scale", 1.0)
        check_number("scale", scale)
        losses.append((scale, _named({key: value for key, value in description.items() if key != "scale"})))
    return losses[0][1] if len(losses) == 1 and losses[0][0] == 1 else WeightedSum(losses)


def _named(description: Mapping[str, Any]) -> SpectralLoss:
    options = dict(description)
    name = options.pop("name", None)
    check_choice("loss", name, _LOSSES)
    build = _LOSSES[name]
    taken = inspect.signature(build).parameters.values()
    known = [one.name for one in taken if one.kind is one.POSITIONAL_OR_KEYWORD]
    for option in options:
        if option not in known:
            raise ValueError(
                f"the loss {name!r} has no option {option!r}{nearest(option, known)}; it has "
                f"{', '.join(known) if known else 'none'}"
            )
    return build(**options)


def as_weight(weight: float | str | Mapping[str, float] | Weight) -> Weight:
    """A weight object: of a number, `edm`, `{"edm": NUMBER}`, `{"share": NUMBER}`, or itself."""
    if isinstance(weight, bool) or weight is None:
        raise TypeError(f"weight must be a number, 'edm' or a weight object, got {weight!r}")
    if isinstance(weight, int | float):
        return ConstantWeight(weight)
    if isinstance(weight, str):
        if weight != "edm":
            raise ValueError(f"unknown weight: got {weight!r}{nearest(weight, ['edm'])}; expected a number or 'edm'")
        return EDMWeight()
    if isinstance(weight, Mapping):
        if len(weight) != 1 or not set(weight) <= {"edm", "share"}:
            raise ValueError(f"a weight's mapping is {{'edm': NUMBER}} or {{'share': NUMBER}}, got {dict(weight)!r}")
        ((kind, value),) = weight.items()
        return EDMWeight(value) if kind == "edm" else GradientShare(value)
    if isinstance(weight, type):
        raise TypeError(f"weight must be an object, got the class {weight.__name__}; create it: {weight.__name__}(...)")
    if not callable(weight):
        raise TypeError(f"weight must be a number, 'edm' or a weight object, got {weight!r}")
    return weight


def as_gate(gate: float | Mapping[str, float] | Gate | None) -> Gate | None:
    """A gate: of the largest noise ratio, of the options of [`NoiseRatioGate`][passband.regularization.NoiseRatioGate],
    or itself."""  # noqa: D205, D209
    if isinstance(gate, int | float) and not isinstance(gate, bool):
        return NoiseRatioGate(gate)
    if isinstance(gate, Mapping):
        known = ("max_ratio", "softness")
        if "max_ratio" not in gate or not set(gate) <= set(known):
            raise ValueError(f"a gate's mapping holds max_ratio, and softness if there is one; got {dict(gate)!r}")
        return NoiseRatioGate(**gate)
    if gate is not None and not callable(gate):
        raise TypeError(f"gate must be the largest noise ratio, a function of the noise ratio, or None, got {gate!r}")
    return gate
