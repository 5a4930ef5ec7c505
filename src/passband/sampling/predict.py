"""Calling a network as its process asks: scaled input, time per sample, and diffusers' wrapped outputs."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from passband.forcing import Attachment
from passband.process import Process, Time

Model = Callable[..., Any]


def predict(
    model: Model, process: Process, noisy: Tensor, t: Time, conditioning: Mapping[str, object] | None = None
) -> Tensor:
    """One network output, `model(scaled input, times, **conditioning)`.

    Args:
        model: a callable of (input, times); it returns a tensor, a diffusers output with `.sample`, or a tuple that
            starts with it.
        process: says how the input is scaled and which time the network is given.
        noisy: x_t, (batch, channels, *spatial).
        t: times, a number or (batch,).
        conditioning: further keyword arguments of the model.

    Returns:
        The network's prediction p, of noisy's shape, in the dtype that the network returns.

    Raises:
        TypeError: if noisy is not floating, t holds no real numbers, or the output is no tensor.
        ValueError: if the output's shape is not the input's, or t is out of range or of another batch size.

    Example:
        >>> import torch
        >>> from passband import EDM
        >>> from passband.sampling import predict
        >>> noisy = torch.ones(2, 1, 4, 4)
        >>> scaled = predict(lambda x, t: x, EDM(sigma_data=0.75), noisy, t=1.0)  # the network sees x / 1.25
        >>> round(scaled.mean().item(), 4)
        0.8

    """
    if isinstance(t, float):
        t = torch.tensor(t, dtype=torch.float64)  # by default it would be rounded to float32
    scaled = process.scale_input(noisy, t)
    times = process.model_time(t).to(noisy.device).reshape(-1).expand(noisy.shape[0])
    if times.dtype == torch.float64 and noisy.dtype != torch.float64:
        times = times.float()
    output = model(scaled.to(model_dtype(model, scaled.dtype)), times, **(conditioning or {}))
    pred = getattr(output, "sample", output)
    pred = pred[0] if isinstance(pred, tuple) and pred else pred
    if not isinstance(pred, Tensor):
        raise TypeError(f"the model must return a tensor or an output with .sample, got {type(output).__name__}")
    expected = (noisy.shape[0], process.heads * noisy.shape[1], *noisy.shape[2:])
    if pred.shape != expected:
        heads = "" if process.heads == 1 else f" and {process.heads} heads"
        raise ValueError(
            f"the model returned shape {tuple(pred.shape)} for an input of shape {tuple(noisy.shape)}{heads}: "
            "a network with more output channels (a learned variance) needs a wrapper that returns the prediction alone"
        )
    return process.read_output(noisy, pred, t)


def model_dtype(model: Model, default: torch.dtype) -> torch.dtype:
    """The dtype of a module's floating parameters, or default for any other callable."""
    if isinstance(model, Attachment):
        model = model.model
    if isinstance(model, nn.Module):
        for parameter in model.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
    return default
