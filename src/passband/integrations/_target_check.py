"""Whether what a host holds fits together: a target that was made for another prediction, or rewritten."""

import math

import torch
from torch import Tensor

from passband._numerics import no_autocast, upcast
from passband.process import Process

#: Times that run this far are counted in steps.
_LONG = 100
#: Relative RMS error that a target may have.
_TOLERANCE = 0.02


def check_target(
    process: Process,
    target: Tensor,
    t: Tensor,
    *,
    clean: Tensor | None = None,
    noise: Tensor | None = None,
    noisy: Tensor | None = None,
) -> None:
    r"""Raise unless the target is the process's own of these samples, as far as what is given tells.

    With noise: $p^* = a\, x_0 + b\, \varepsilon$, and $x_t = \alpha x_0 + \sigma \varepsilon$ where noisy is given.
    Without it, with clean and noisy: the same target, of the noise that is in x_t. Looks at values, so on an
    accelerator it waits for them.

    Args:
        process: the process, with its prediction.
        target: what the host compares the network's output to, (batch, channels, \*spatial).
        t: times in the process's own unit, (batch,) or one.
        clean: $x_0$ of the same shape.
        noise: $\varepsilon$ of the same shape.
        noisy: $x_t$ of the same shape.

    Raises:
        ValueError: if they do not fit, or noise is given without the clean sample that the target needs.

    """
    if noise is not None and clean is None:
        if process.prediction != "epsilon":
            raise ValueError(
                f"noise= is there to check the target, and a {process.prediction!r} target is made of clean samples "
                "too: pass clean= with it"
            )
        clean, noisy = noise, None  # an epsilon target holds none of it
    if clean is None or (noise is None and noisy is None):
        return
    tolerance = _tolerance(target, clean, noise, noisy)
    with torch.no_grad(), no_autocast(target):
        if noise is None:
            assert noisy is not None
            gap = _implied_gap(process, target, t, clean, noisy)
        else:
            gap = _gap(target, process.target(clean, noise, t))
        if gap > tolerance:
            raise ValueError(_wrong_target(process, gap))
        if noise is not None and noisy is not None:
            gap = _gap(noisy, process.add_noise(clean, noise, t))
            if gap > tolerance:
                raise ValueError(_wrong_noisy(gap))


def check_unit(process: Process, t: Tensor) -> None:
    """Raise if times look like shares of the process's range: divided by its length, as many networks take them.

    One time alone, or whole numbers, may well be that small. Looks at values, so on an accelerator it waits for them.

    Raises:
        ValueError: if they do.

    """
    longest = max(process.time_range)
    if not _LONG <= longest < math.inf or t.numel() < 2 or not t.is_floating_point():
        return
    low, high = (float(x) for x in t.aminmax())
    if low >= 0 and 0 < high <= 1:
        raise ValueError(
            f"timesteps between {low:g} and {high:g} look divided by the number of steps, as a transformer takes them: "
            f"this scheduler's run to {longest:g}; pass its own timesteps, or noise levels as sigmas="
        )


def _gap(found: Tensor, expected: Tensor, scale: Tensor | None = None) -> float:
    """RMS difference over RMS size, of the sample where that is largest; NaN samples do not count."""
    found, expected = upcast(found, expected)
    scale = _rms(expected) if scale is None else scale
    return float((_rms(found - expected) / scale.clamp(min=1e-12)).nan_to_num(0.0).max())


def _implied_gap(process: Process, target: Tensor, t: Tensor, clean: Tensor, noisy: Tensor) -> float:
    """The target against the one of the noise in x_t, times sigma: by itself that noise is lost in x_t's rounding."""
    target, clean, noisy = upcast(target, clean, noisy)
    alpha, sigma = (x.to(target).reshape(-1, *(1,) * (target.ndim - 1)) for x in process.level(t.to(target.dtype)))
    noise = (noisy - alpha * clean) / sigma
    expected = process.target(clean, noise, t)
    return _gap(sigma * target, sigma * expected, _rms(sigma * target) + _rms(noisy))


def _rms(x: Tensor) -> Tensor:
    return x.flatten(1).square().mean(1).sqrt()


def _tolerance(*tensors: Tensor | None) -> float:
    # Hosts take 1 - alphas_cumprod in the samples' own dtype, and then its square root.
    coarsest = max(torch.finfo(x.dtype).eps for x in tensors if x is not None)
    return max(_TOLERANCE, 1.2 * math.sqrt(coarsest))


def _wrong_target(process: Process, gap: float) -> str:
    return (
        f"target is not that of a {process.prediction!r} prediction of these samples at these times: it is off by "
        f"{gap:.0%} (RMS). If DREAM (--dream_training) rewrote it, leave the term out, as t is no noise level then; if "
        "the network predicts something else, say it with prediction=, e.g. prediction='v_prediction'; otherwise "
        "pass the clean samples, noise and times that the target was made of (latents: scaled as the network sees them)"
    )


def _wrong_noisy(gap: float) -> str:
    return (
        f"noisy is not what this process makes of clean and noise at these times: it is off by {gap:.0%} (RMS). With "
        "input perturbation (--input_perturbation), leave noisy= and noise= out, as clean= is enough; if the network's "
        "input is scaled (Euler, EDM), pass the sample before that"
    )
