"""The clean pair that a host's residual stands for."""

from jaxtyping import Shaped
from torch import Tensor

from passband._checks import check_floating, check_same_shape
from passband._numerics import no_autocast, upcast
from passband.process import Process, Time
from passband.regularization.loss import SpectralLoss


def clean_pair(
    loss: SpectralLoss,
    process: Process,
    pred: Tensor,
    target: Tensor,
    t: Time,
    clean: Tensor | None = None,
    noisy: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Clean estimate and clean sample, from what a host's loss compares: $\hat{x}_0 - x_0 = -k\, (p - p^*)$.

    - with `clean`: the estimate is $x_0 - k\, (p - p^*)$;
    - with `noisy`: both sides are solved from it, the clean sample with the target in the prediction's place;
    - with neither: the residual and zeros, for a loss that depends on the difference alone.
    """
    check_floating("pred", pred)
    check_floating("target", target)
    check_same_shape("pred", pred, "target", target)
    if clean is None and noisy is None and not loss.of_difference:
        names = ", ".join(name for name, _, term in loss.terms() if not term.of_difference)
        raise ValueError(
            f"a residual alone is not enough for the loss {names}, which looks at the clean sample itself: pass clean= "
            "(x0) or noisy= (x_t), or take a loss of the difference such as WaveletLoss"
        )
    if clean is None and noisy is not None:
        return process.clean_estimate(noisy, pred, t), process.clean_estimate(noisy, target, t)
    with no_autocast(pred):
        pred, target = upcast(pred, target)
        gain = per_sample("t", process.residual_gain(t), pred)
        residual = -gain.reshape(-1, *(1,) * (pred.ndim - 1)) * (pred - target)
    if clean is None:
        return residual, residual.new_zeros(()).expand_as(residual)
    check_floating("clean", clean)
    check_same_shape("clean", clean, "pred", pred)
    return clean.to(residual) + residual, clean


def per_sample(name: str, values: Shaped[Tensor, "..."], like: Tensor) -> Tensor:
    """Values on a batch's device and in its dtype, flat: one, or one per sample."""
    if values.numel() not in (1, len(like)):
        raise ValueError(
            f"{name} must hold one value, or one per sample: got shape {tuple(values.shape)} for a batch of {len(like)}"
        )
    return values.reshape(-1).to(like.device, like.dtype)
