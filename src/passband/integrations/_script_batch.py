"""What diffusers' scripts hold in different shapes, brought to one: predictions, times, halves of a batch."""

from torch import Tensor, tensor

from passband._checks import check_floating
from passband._numerics import upcast
from passband.process import EDM, Flow, Process, RescaledVP


def mean_half(pred: Tensor, target: Tensor) -> Tensor:
    """The half of the channels that is compared to the target, where the other one is a learned variance."""
    if pred.ndim > 1 and target.ndim > 1 and pred.shape[1] == 2 * target.shape[1]:
        pred = pred[:, : target.shape[1]]
    if pred.shape != target.shape:
        raise ValueError(
            f"model_pred and target must have the same shape, got {tuple(pred.shape)} and {tuple(target.shape)}; "
            "unpack packed latents first"
        )
    return pred


def own_times(process: Process, timesteps: Tensor | float | int | None, sigmas: Tensor | None) -> Tensor:
    """The process's times, flat: by the sigmas where there are any."""
    if sigmas is None:
        if timesteps is None:
            raise ValueError("pass the script's timesteps or its sigmas: the term needs the noise level of each sample")
        return timesteps.reshape(-1) if isinstance(timesteps, Tensor) else tensor([timesteps])
    check_floating("sigmas", sigmas)
    (levels,) = upcast(sigmas.reshape(-1))
    match process:
        case Flow(data_at=0):
            return process.time_scale * levels
        case EDM() | RescaledVP():
            return process.time_at(levels)
    raise ValueError(
        f"sigmas are noise levels of flow, Euler and EDM schedulers; {type(process).__name__} goes by timesteps: pass "
        "those instead"
    )


def half_of_batch(predictions: int, times: int, chunk: int) -> slice | None:
    """The rows of a whole batch that the predictions belong to, where a script split those in two; else None."""
    if times == 2 * predictions:
        return slice(chunk * predictions, (chunk + 1) * predictions)
    if times not in (1, predictions):
        raise ValueError(
            f"got {times} timesteps (or sigmas) for {predictions} predictions: expected {predictions}, or "
            f"{2 * predictions} where prior preservation split model_pred and target in two"
        )
    if chunk == 1:
        raise ValueError(
            f"chunk=1 is the prior's half of a whole batch: expected {2 * predictions} timesteps for {predictions} "
            f"predictions, got {times}; of a half that is already cut, leave chunk out"
        )
    return None


def taken(name: str, x: Tensor | None, predictions: int, rows: slice | None) -> Tensor | None:
    """Those rows of x, unless it has no more than predictions; the name is for the message."""
    if x is None:
        return None
    check_floating(name, x)
    if len(x) == predictions:
        return x
    if rows is not None and len(x) == 2 * predictions:
        return x[rows]
    expected = f"{predictions}" if rows is None else f"{predictions} or {2 * predictions}"
    raise ValueError(
        f"{name} holds {len(x)} samples for {predictions} predictions: expected {expected} "
        "(with prior preservation, pass timesteps and latents of the whole batch)"
    )


def flat_weights(weights: Tensor | None) -> Tensor | None:
    """Weights of the samples, in whatever shape they broadcast, as (batch,)."""
    if weights is None:
        return None
    check_floating("sample_weight", weights)
    if weights.ndim == 0 or weights.numel() != len(weights):
        raise ValueError(
            f"sample_weight must hold one number per sample, (batch,) or (batch, 1, 1, 1), got shape "
            f"{tuple(weights.shape)}"
        )
    return weights.reshape(-1)
