"""The operator of Spectral Forcing: a DCT low-pass with one cutoff per sample."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from passband._checks import check_batch, check_number, is_integer
from passband._numerics import compute_dtype
from passband.forcing._autograd import forced
from passband.forcing._gains import Options

Window = int | list[int] | tuple[int, ...] | None


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
    itself; for it only the cutoffs are kept. Where cutoffs learn, z is kept too. What is kept must not be changed in
    place before the backward pass (autograd raises an error).

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
    options = Options(float(kappa), window_sides(tuple(z.shape[2:]), window), bool(exact))
    cutoffs = _cutoffs(cutoff, z)
    return forced(z, cutoffs, options)


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
    if cutoff.device.type == "cpu" and not (torch.compiler.is_compiling() or _transformed()):
        _check_values(cutoff)
    if _is_host_number(cutoff, z):
        return torch.full((1,), cutoff.item(), dtype=dtype, device=z.device)
    return cutoff.reshape(-1).to(z.device, dtype)


def _transformed() -> bool:
    """Whether torch.func runs the code, with tensors that may stand for many."""
    return torch._C._are_functorch_transforms_active()  # noqa: SLF001


def _is_host_number(cutoff: Tensor, z: Tensor) -> bool:
    """Whether a fill on z's device can take the place of a copy to it, which would wait for it."""
    known = cutoff.device.type == "cpu" and not torch.compiler.is_compiling()
    return known and z.device != cutoff.device and cutoff.numel() == 1 and not cutoff.requires_grad


def _check_values(cutoff: Tensor) -> None:
    values = cutoff.detach().reshape(-1).tolist()
    if any(c < -1e-5 or c > 1 + 1e-5 for c in values):  # NaN passes, to come out as NaN
        known = [c for c in values if not math.isnan(c)]
        raise ValueError(_outside(min(known), max(known)))


def _outside(low: float, high: float) -> str:
    return (
        f"a cutoff is a share of the largest frequency, 0 to 1; got values in [{low:g}, {high:g}] "
        "(a front returns cutoffs, not frequency indices)"
    )
