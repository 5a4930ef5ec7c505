"""The operator of Spectral Forcing: a DCT low-pass with one cutoff per sample."""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from passband._checks import check_batch, check_number, is_integer
from passband._numerics import compute_dtype, no_autocast
from passband._tables import Table
from passband.transforms import radial_grid
from passband.transforms.dct import dct, idct

Window = int | list[int] | tuple[int, ...] | None


class _Options(NamedTuple):
    kappa: float
    window: tuple[int, ...]
    exact: bool


def spectral_low_pass(
    z: Float[Tensor, "batch channels *spatial"],
    cutoff: float | Float[Tensor, "..."],
    *,
    kappa: float = 30.0,
    window: Window = None,
    exact: bool = False,
) -> Float[Tensor, "batch channels *spatial"]:
    r"""Low-pass each sample at its own cutoff, $IDCT(M \odot DCT(z))$ with $M = \text{sigmoid}(\kappa (c - \rho))$.

    $\rho$ is the DCT radius over its largest. The operator is linear and self-adjoint, so its gradient is the operator
    itself; for it only the cutoffs are kept.

    Args:
        z: (batch, channels, \*spatial), 1 or 2 spatial axes.
        cutoff: c, 0 to 1: a number, or one per sample.
        kappa: $\kappa$, positive: how steep the edge is; it falls from 0.88 to 0.12 over $4 / \kappa$ of the radius.
        window: side of non-overlapping windows, or one side per axis, each to divide its axis; None: the whole field.
        exact: use $M' = 1 - \min(1, \kappa (1 - c) / 4)\, (1 - M / M(DC))$ instead, applied as
            $z - IDCT((1 - M') \odot DCT(z))$: exactly z at c = 1, and unit gain at DC at all cutoffs. M itself has gain
            1/2 in the corner at c = 1, and less than 1 at DC for small c.

    Returns:
        The field, of z's shape and dtype; computed in at least float32.

    Raises:
        TypeError: if z is not floating, or an argument is of another kind than above.
        ValueError: if z has another number of axes, the window does not divide them, the number of cutoffs is neither 1
            nor the batch, kappa is not positive, or a cutoff lies outside 0 to 1 (on an accelerator it is not looked
            at).

    Example:
        >>> import torch
        >>> from passband.forcing import spectral_low_pass
        >>> z = torch.randn(2, 3, 16, 16)
        >>> torch.equal(spectral_low_pass(z, 1.0, exact=True), z)
        True
        >>> low = spectral_low_pass(z, torch.tensor([0.1, 0.9]))
        >>> (low.square().mean((1, 2, 3)) < z.square().mean((1, 2, 3))).tolist()
        [True, True]

    Source: Spectral Forcing (arXiv:2606.15236).
    """
    check_batch("z", z, dims=(1, 2))
    check_kappa(kappa)
    options = _Options(float(kappa), window_sides(tuple(z.shape[2:]), window), bool(exact))
    cutoffs = _cutoffs(cutoff, z)
    if cutoffs.requires_grad:
        return _low_pass(z, cutoffs, options)
    return _forced(z, cutoffs, options)


def check_kappa(kappa: float) -> None:
    """Raise unless kappa is a slope."""
    check_number("kappa", kappa)
    if not 0 < kappa < math.inf:
        raise ValueError(f"kappa is the steepness of the edge, positive and finite; got {kappa}")


def check_window(window: Window) -> None:
    """Raise unless window is None, a side, or a side per axis."""
    if window is None:
        return
    sides = window if isinstance(window, list | tuple) else (window,)
    if not all(map(is_integer, sides)):
        raise TypeError(f"window must be None, an int, or one int per axis, got {window!r}")
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise ValueError(f"window must hold 1 or 2 positive sides, got {window!r}")


def window_sides(size: tuple[int, ...], window: Window) -> tuple[int, ...]:
    """The window's side along each axis of a field; raises where it does not tile the field."""
    check_window(window)
    if window is None:
        return size
    sides = tuple(window) if isinstance(window, list | tuple) else (window,) * len(size)
    if len(sides) != len(size):
        raise ValueError(f"window must be one side or one per axis ({len(size)}), got {sides} for a field of {size}")
    for axis, (n, side) in enumerate(zip(size, sides, strict=True)):
        if n % side:
            divisors = ", ".join(str(d) for d in range(1, n + 1) if n % d == 0)
            raise ValueError(
                f"a window of {side} does not divide axis {axis + 2} of a field of size {size}; "
                f"of {n}, these do: {divisors}"
            )
    return sides


def _cutoffs(cutoff: float | Tensor, z: Tensor) -> Tensor:
    """One cutoff, or one per sample, in z's compute dtype on its device."""
    dtype = compute_dtype(z)
    if not isinstance(cutoff, Tensor):
        check_number("cutoff", cutoff)
        if not (0 <= cutoff <= 1 or math.isnan(cutoff)):
            raise ValueError(_outside(cutoff, cutoff))
        return torch.full((1,), float(cutoff), dtype=dtype, device=z.device)
    if not cutoff.is_floating_point():
        raise TypeError(f"cutoff must hold real floating-point numbers, got {cutoff.dtype}")
    if cutoff.numel() not in (1, z.shape[0]):
        raise ValueError(
            f"cutoff must hold one value, or one per sample: got shape {tuple(cutoff.shape)} for a batch of "
            f"{z.shape[0]}"
        )
    if cutoff.device.type == "cpu" and not torch.compiler.is_compiling():
        _check_values(cutoff)
    if _is_host_number(cutoff, z):
        return torch.full((1,), cutoff.item(), dtype=dtype, device=z.device)
    return cutoff.reshape(-1).to(z.device, dtype)


def _is_host_number(cutoff: Tensor, z: Tensor) -> bool:
    """Whether a fill on z's device can take the place of a copy to it, which would wait for it."""
    known = cutoff.device.type == "cpu" and not torch.compiler.is_compiling()
    return known and z.device != cutoff.device and cutoff.numel() == 1 and not cutoff.requires_grad


def _check_values(cutoff: Tensor) -> None:
    values = cutoff.detach()
    if bool(((values < -1e-5) | (values > 1 + 1e-5)).any()):  # NaN passes, to come out as NaN
        raise ValueError(_outside(values.min().item(), values.max().item()))


def _outside(low: float, high: float) -> str:
    return (
        f"a cutoff is a share of the largest frequency, 0 to 1; got values in [{low:g}, {high:g}] "
        "(a front returns cutoffs, not frequency indices)"
    )


class _LowPass(torch.autograd.Function):
    """The operator as its own gradient."""

    @staticmethod
    def forward(z: Tensor, cutoffs: Tensor, options: _Options) -> Tensor:
        return _low_pass(z, cutoffs, options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, _Options], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(inputs[1])
        ctx.options = inputs[2]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (cutoffs,) = ctx.saved_tensors
        return _forced(grad, cutoffs, ctx.options), None, None


def _forced(z: Tensor, cutoffs: Tensor, options: _Options) -> Tensor:
    result = _LowPass.apply(z, cutoffs, options)  # type: ignore[no-untyped-call]
    assert isinstance(result, Tensor)
    return result


def _low_pass(z: Tensor, cutoffs: Tensor, options: _Options) -> Tensor:
    with no_autocast(z):
        x = z.to(compute_dtype(z))
        if not options.exact:
            return _filtered(x, _gain(cutoffs, options), options.window).to(z.dtype)
        return (x - _filtered(x, _loss(cutoffs, options), options.window)).to(z.dtype)


def _gain(cutoffs: Tensor, options: _Options) -> Tensor:
    """M of each sample, (batch, *window)."""
    return (options.kappa * (_per_sample(cutoffs, options) - _radius(cutoffs, options))).sigmoid()


def _loss(cutoffs: Tensor, options: _Options) -> Tensor:
    """1 - M' of each sample, with 1 - M / M(DC) as (1 - M)(1 - exp(-kappa rho)): exactly 0 at DC, nothing cancels."""
    c, rho = _per_sample(cutoffs, options), _radius(cutoffs, options)
    share = (options.kappa / 4 * (1 - c)).clamp(max=1)
    return share * (options.kappa * (rho - c)).sigmoid() * -torch.expm1(-options.kappa * rho)


def _per_sample(cutoffs: Tensor, options: _Options) -> Tensor:
    return cutoffs.reshape(-1, *(1,) * len(options.window))


def _radius(cutoffs: Tensor, options: _Options) -> Tensor:
    return _RADII(options.window, cutoffs.dtype, cutoffs.device)


def _relative_radius(size: tuple[int, ...], device: torch.device) -> Tensor:
    radius = radial_grid(size, kind="dct", device=device)
    return radius / radius.max().clamp(min=1e-12)  # a single point has no frequency but 0


_RADII = Table(_relative_radius, largest=8)


def _filtered(x: Tensor, gain: Tensor, window: tuple[int, ...]) -> Tensor:
    """Multiply the spectrum of each window by the gains, (batch or 1, *window)."""
    shape, last = x.shape, window[-1]
    # The windows stay where they are: each axis is transformed in a view that has it in place.
    columns = (-1, 1, last) if len(window) == 1 else (-1, 1, window[0], shape[-1])
    rows = (-1, 1, last)
    grid = [part for n, side in zip(shape[2:], window, strict=True) for part in (n // side, side)]
    over = [part for side in gain.shape[1:] for part in (1, side)]
    spectrum = dct(x.reshape(rows))
    if len(window) == 2:
        spectrum = dct(spectrum.reshape(columns), dims=(2,))
    spectrum = spectrum.reshape(*shape[:2], *grid) * gain.reshape(gain.shape[0], 1, *over)
    if len(window) == 2:
        spectrum = idct(spectrum.reshape(columns), dims=(2,))
    return idct(spectrum.reshape(rows)).reshape(shape)
