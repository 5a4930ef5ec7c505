"""The low-pass and its derivatives: whichever form computes it, its gradient is the operator itself."""

from typing import Any

import torch
from torch import Tensor

from passband._backend import by_hand, by_triton
from passband._numerics import compute_dtype, no_autocast
from passband.forcing._gains import Options, gains, multiply_, over_windows
from passband.forcing._planes import fits, low_pass
from passband.transforms.dct import dct, idct


def forced(z: Tensor, cutoffs: Tensor, options: Options) -> Tensor:
    """The filtered field, with the derivatives that autograd asks for; cutoffs in the compute dtype."""
    if torch.compiler.is_compiling():
        known = not cutoffs.requires_grad
    else:
        known = by_hand(z, cutoffs)
    if not known:
        return _formula(z, cutoffs, options)
    function = _LearnedLowPass if cutoffs.requires_grad else _LowPass
    result = function.apply(z, cutoffs, options)  # type: ignore[no-untyped-call]
    assert isinstance(result, Tensor)
    return result


class _LowPass(torch.autograd.Function):
    """The operator as its own gradient."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, cutoffs: Tensor, options: Options) -> Tensor:
        ctx.save_for_backward(_to_keep(cutoffs))
        ctx.options = options
        return _computed(z, cutoffs, options)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (cutoffs,) = ctx.saved_tensors
        return forced(grad, cutoffs, ctx.options), None, None


class _LearnedLowPass(torch.autograd.Function):
    """The operator where cutoffs learn: for their gradient the field itself is kept, and no spectrum."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, cutoffs: Tensor, options: Options) -> Tensor:
        ctx.save_for_backward(_to_keep(z), _to_keep(cutoffs))
        ctx.options = options
        return _computed(z, cutoffs, options)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        z, cutoffs = ctx.saved_tensors
        again = torch.is_grad_enabled()
        if again or not by_hand(grad):
            wanted = [x for x, needed in zip((z, cutoffs), ctx.needs_input_grad, strict=False) if needed]
            with torch.enable_grad():
                result = _formula(z, cutoffs, ctx.options)
            found = iter(torch.autograd.grad(result, wanted, grad, create_graph=again))
            along_z, along_cutoffs = (next(found) if needed else None for needed in ctx.needs_input_grad[:2])
            return along_z, along_cutoffs, None
        along_z = _computed(grad, cutoffs, ctx.options) if ctx.needs_input_grad[0] else None
        return along_z, _cutoff_gradient(z, grad, cutoffs, ctx.options), None


def _to_keep(x: Tensor) -> Tensor:
    """Autograd keeps no tensor that was made in inference mode."""
    if torch.compiler.is_compiling() or not x.is_inference() or torch.is_inference_mode_enabled():
        return x
    return x.clone()


def _cutoff_gradient(z: Tensor, grad: Tensor, cutoffs: Tensor, options: Options) -> Tensor:
    """Through the gains, whose own gradient is the product of both spectra."""
    with no_autocast(z):
        product = _spectrum(z.to(cutoffs.dtype), options.window)
        product = product.mul_(_spectrum(grad.to(cutoffs.dtype), options.window))
        # Summed over channels and windows.
        summed = product.sum((1, *range(2, product.ndim, 2)))
        if len(cutoffs) == 1:
            summed = summed.sum(0, keepdim=True)
        with torch.enable_grad():
            leaf = cutoffs.detach().requires_grad_()
            mask = gains(leaf, options)
        (found,) = torch.autograd.grad(mask, leaf, -summed if options.exact else summed)
    return found


def _computed(z: Tensor, cutoffs: Tensor, options: Options) -> Tensor:
    """The filtered field by the fastest form; called where autograd does not look."""
    if torch.compiler.is_compiling():
        return _formula(z, cutoffs, options)
    if fits(z, cutoffs, options) and not by_triton(z):
        with no_autocast(z):
            return low_pass(z.detach(), cutoffs.detach(), options)
    return _formula(z, cutoffs, options, in_place=True)


def _formula(z: Tensor, cutoffs: Tensor, options: Options, in_place: bool = False) -> Tensor:
    """The formula as it stands, which autograd and compilers understand unless the mask is applied in place."""
    with no_autocast(z):
        x = z.to(compute_dtype(z))
        spectrum = _spectrum(x, options.window)
        if in_place:
            multiply_(spectrum, cutoffs, options)
        else:
            spectrum = spectrum * over_windows(gains(cutoffs, options))
        filtered = _field(spectrum, options.window, z.shape)
        return (x - filtered if options.exact else filtered).to(z.dtype)


def _spectrum(x: Tensor, window: tuple[int, ...]) -> Tensor:
    """The DCT of each window, (batch, channels, windows, frequencies, ...) with a pair for each axis."""
    # The windows stay where they are: each axis is transformed in a view that has it in place.
    spectrum = dct(x.reshape(-1, 1, window[-1]))
    if len(window) == 2:
        spectrum = dct(spectrum.reshape(-1, 1, window[0], x.shape[-1]), dims=(2,))
    grid = [part for n, side in zip(x.shape[2:], window, strict=True) for part in (n // side, side)]
    return spectrum.reshape(*x.shape[:2], *grid)


def _field(spectrum: Tensor, window: tuple[int, ...], shape: torch.Size) -> Tensor:
    if len(window) == 2:
        spectrum = idct(spectrum.reshape(-1, 1, window[0], shape[-1]), dims=(2,))
    return idct(spectrum.reshape(-1, 1, window[-1])).reshape(shape)
