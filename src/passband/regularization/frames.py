"""Any 1-d loss over windowed short-time frames, at several resolutions."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from passband._backend import plain_here
from passband._checks import check_batch, check_choice, check_integer, check_number
from passband._numerics import no_autocast, upcast
from passband.regularization._gradient import Gradient, with_gradient
from passband.regularization._inputs import check_pair
from passband.regularization.loss import PerSample, SpectralLoss

Window = Literal["hann", "rectangular"]
Signal = Float[Tensor, "batch channels samples"]
Loss = Callable[[Tensor, Tensor], PerSample]

FRAME_LENGTHS = (512, 1024, 2048)


def framed_loss(
    estimate: Signal,
    clean: Signal,
    loss: Callable[[Tensor, Tensor], PerSample],
    frame_lengths: Sequence[int] = FRAME_LENGTHS,
    overlap: float = 0.75,
    window: Window = "hann",
) -> PerSample:
    r"""Mean over resolutions of a loss of short-time frames, $\frac{1}{R} \sum_n L(w_n \hat x_0, w_n x_0)$.

    At each frame length n, both signals are cut into frames one hop apart, hop = n (1 - overlap) rounded, times the
    window over its RMS, so that white noise keeps its level. All frames of a channel are channels to the loss. With
    the amplitude loss it is the L1 distance of short-time Fourier magnitudes.

    At both ends the signal is continued by its mirror image (its last sample repeated), by just so much that there is
    one frame per hop and the middle hops of the frames tile the signal: then all samples count alike, those at the ends
    too. Where the hop does not divide the signal, one more frame covers the rest. No overlap and a signal of one frame:
    nothing is added.

    Args:
        estimate: clean estimate, (batch, channels, samples).
        clean: clean sample, of the same shape.
        loss: a 1-d loss of two fields (batch, channels, n) with one value per sample, such as
            [`amplitude_loss`][passband.regularization.amplitude_loss].
        frame_lengths: samples per frame of each resolution, at least 2, at most those of the signal.
        overlap: share of a frame that it has in common with the next, in [0, 1).
        window: `hann` (periodic) or `rectangular` (none).

    Returns:
        One value per sample, (batch,).

    Raises:
        TypeError: if an input is not floating, loss no function, or an option of another kind.
        ValueError: if shapes differ, on more than one spatial axis, if a signal is shorter than a frame, on an unknown
            window, or if an option is out of range.

    Example:
        >>> import torch
        >>> from passband.regularization import amplitude_loss, framed_loss
        >>> x, y = torch.randn(2, 4, 1, 8000)
        >>> framed_loss(x, y, amplitude_loss, frame_lengths=(256, 1024)).shape
        torch.Size([4])
        >>> whole = framed_loss(x, y, amplitude_loss, (8000,), overlap=0, window="rectangular")
        >>> torch.equal(whole, amplitude_loss(x, y))
        True

    """
    _check_options(loss, frame_lengths, overlap, window)
    check_batch("estimate", estimate, dims=(1,))
    check_batch("clean", clean, dims=(1,))
    check_pair(estimate, clean)
    _check_length(clean.shape[-1], frame_lengths)
    resolutions = [_Resolution(length, _hop(length, overlap), window) for length in frame_lengths]
    plain = partial(_plain, loss=loss, resolutions=resolutions)
    if not _learns(loss):
        try:
            by_hand = partial(_by_hand, loss=loss, resolutions=resolutions)
            return with_gradient(plain, by_hand, estimate, clean)
        except _OtherLeafError:
            pass
    with no_autocast(clean):
        return plain(*upcast(estimate, clean))


class FramedLoss(SpectralLoss):
    """[`framed_loss`][passband.regularization.framed_loss] as a module.

    Args:
        loss: a 1-d loss, or a sum of several.
        frame_lengths: samples per frame of each resolution, at least 2.
        overlap: share of a frame that it has in common with the next, in [0, 1).
        window: `hann` (periodic) or `rectangular` (none).

    Raises:
        TypeError: if loss is no SpectralLoss, or an option of another kind.
        ValueError: on an unknown window, or if an option is out of range.

    Example:
        >>> import torch
        >>> from passband import AmplitudeLoss
        >>> from passband.regularization import FramedLoss
        >>> loss = FramedLoss(AmplitudeLoss(), frame_lengths=(256, 512))
        >>> loss.name, loss(torch.zeros(1, 1, 2048), torch.zeros(1, 1, 2048)).item()
        ('framed_amplitude', 0.0)

    """

    def __init__(
        self,
        loss: SpectralLoss,
        frame_lengths: Sequence[int] = FRAME_LENGTHS,
        overlap: float = 0.75,
        window: Window = "hann",
    ) -> None:
        super().__init__()
        if not isinstance(loss, SpectralLoss):
            raise TypeError(f"loss must be a SpectralLoss such as AmplitudeLoss(), got {loss!r}")
        _check_options(loss, frame_lengths, overlap, window)
        self.loss = loss
        self.frame_lengths, self.overlap = tuple(frame_lengths), overlap
        self.window: Window = window

    @property
    def name(self) -> str:
        """`framed_` and the names of the loss's terms, such as `framed_amplitude`."""
        return "_".join(["framed", *(name for name, _, _ in self.loss.terms())])

    @property
    def of_difference(self) -> bool:
        """Whether the framed loss does: frames and windows are linear."""
        return self.loss.of_difference

    def forward(self, estimate: Signal, clean: Signal) -> PerSample:
        """Return [`framed_loss`][passband.regularization.framed_loss]."""
        return framed_loss(estimate, clean, self.loss, self.frame_lengths, self.overlap, self.window)

    def extra_repr(self) -> str:
        """Options, for the text of the module."""
        return f"frame_lengths={self.frame_lengths}, overlap={self.overlap}, window={self.window!r}"


class _Resolution(NamedTuple):
    length: int
    hop: int
    window: Window

    def weights(self, like: Tensor) -> Tensor | None:
        """The window over its RMS; None for 1."""
        if self.window == "rectangular":
            return None
        weights = torch.hann_window(self.length, dtype=like.dtype, device=like.device)
        return weights / weights.square().mean().sqrt()

    def mirrored(self, samples: int) -> tuple[int, int]:
        """Samples to continue a signal by at both ends, so that there is a frame per hop."""
        missing = (math.ceil(samples / self.hop) - 1) * self.hop + self.length - samples
        return missing // 2, missing - missing // 2

    def frames(self, x: Tensor) -> Tensor:
        """Windowed frames of a signal that is mirrored at both ends, (batch, channels x frames, length)."""
        samples, weights = x.shape[-1], self.weights(x)
        before, after = self.mirrored(samples)
        if before + after > 0:
            head, tail = x[..., :before].flip(-1), x[..., samples - after :].flip(-1)
            x = torch.cat([head, x, tail], dim=-1)
        framed = x.unfold(-1, self.length, self.hop)
        return (framed if weights is None else framed * weights).flatten(1, 2)

    def add_back_(self, total: Tensor, framed: Tensor) -> None:
        """Add to a signal the adjoint of `frames`: what it takes from frames, windowed, where they came from."""
        samples, weights = total.shape[-1], self.weights(total)
        if weights is not None:
            framed = framed * weights
        before, after = self.mirrored(samples)
        frames, parts = framed.shape[1] // total.shape[1], math.ceil(self.length / self.hop)
        framed = framed.reshape(*total.shape[:2], frames, self.length)
        hops = total.new_zeros(*total.shape[:2], frames + parts - 1, self.hop)
        for part in range(parts):
            taken = framed[..., part * self.hop : (part + 1) * self.hop]
            hops[:, :, part : part + frames, : taken.shape[-1]] += taken
        x = hops.flatten(2)
        total += x[..., before : before + samples]
        total[..., :before] += x[..., :before].flip(-1)
        total[..., samples - after :] += x[..., before + samples : before + samples + after].flip(-1)


def _hop(length: int, overlap: float) -> int:
    """Samples from one frame to the next: the frame's length times what does not overlap, rounded, at least 1."""
    return max(1, round(length * (1 - overlap)))


def _plain(estimate: Tensor, clean: Tensor, loss: Loss, resolutions: Sequence[_Resolution]) -> PerSample:
    values: list[Tensor] = []
    for resolution in resolutions:
        call = partial(_frame_loss, loss=loss, resolution=resolution)
        # Kept for the backward pass, overlapping frames would be tens of times the signal: they are made again.
        values.append(checkpoint(call, estimate, clean, use_reentrant=False, preserve_rng_state=False))
    return sum(values[1:], start=values[0]) / len(values)


def _frame_loss(estimate: Tensor, clean: Tensor, loss: Loss, resolution: _Resolution) -> PerSample:
    # What runs in the backward pass must be what ran before it, also where another backend is chosen by then.
    with nullcontext() if torch.compiler.is_compiling() else plain_here():
        return loss(resolution.frames(estimate), resolution.frames(clean))


def _by_hand(
    estimate: Tensor, clean: Tensor, wanted: bool, loss: Loss, resolutions: Sequence[_Resolution]
) -> tuple[PerSample, Gradient | None]:
    """Values and gradient, see `with_gradient`: the loss's own gradient in the frames, added up in the signal."""
    total = torch.zeros_like(clean, memory_format=torch.contiguous_format) if wanted else None
    count = math.prod(clean.shape[1:])
    values: list[Tensor] = []
    for resolution in resolutions:
        frames, others = resolution.frames(estimate.detach()), resolution.frames(clean)
        if total is None:
            values.append(loss(frames, others))
            continue
        value, gradient = _inner(loss, frames.requires_grad_(), others, count)
        values.append(value)
        if gradient is not None:
            resolution.add_back_(total, gradient)
    mean = sum(values[1:], start=values[0]) / len(values)
    return mean, None if total is None else Gradient(total, 1 / (count * len(values)))


def _inner(loss: Loss, estimate: Tensor, clean: Tensor, factor: int) -> tuple[PerSample, Tensor | None]:
    """A loss's values, and the gradient of them times a factor, which makes it of order 1.

    The graph is gone before this returns: the caller's hooks, as of a checkpoint, have nothing to do with it. (Kept as
    they are, not detached, saved results of operations would be cycles that nothing frees if the graph goes unused.)
    """
    with torch.enable_grad(), saved_tensors_hooks(Tensor.detach, lambda x: x):
        values = loss(estimate, clean)
    if values.grad_fn is None:
        return values.detach(), None
    _check_leaves(values, estimate)
    (gradient,) = torch.autograd.grad(values, estimate, torch.full_like(values, factor), allow_unused=True)
    return values.detach(), gradient


def _learns(loss: Loss) -> bool:
    """Whether a loss is seen to have parameters that get gradients, which only autograd finds."""
    return torch.is_grad_enabled() and isinstance(loss, nn.Module) and any(p.requires_grad for p in loss.parameters())


class _OtherLeafError(Exception):
    """The loss turned out to have parameters that get gradients."""


def _check_leaves(values: Tensor, estimate: Tensor) -> None:
    """Raise where the values depend on more than the estimate that gets a gradient, which only autograd finds."""
    nodes, seen = [values.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if getattr(node, "variable", estimate) is not estimate:
            raise _OtherLeafError
        nodes.extend(following for following, _ in node.next_functions)


def _check_options(loss: object, frame_lengths: Sequence[int], overlap: float, window: str) -> None:
    if not callable(loss) or isinstance(loss, type):
        raise TypeError(f"loss must be a function of (estimate, clean) such as amplitude_loss, got {loss!r}")
    if not isinstance(frame_lengths, list | tuple):
        raise TypeError(f"frame_lengths must be a sequence of ints such as {FRAME_LENGTHS}, got {frame_lengths!r}")
    if not frame_lengths:
        raise ValueError("frame_lengths must hold at least one length, got none")
    for length in frame_lengths:
        check_integer("each of frame_lengths", length)
        if length < 2:
            raise ValueError(f"each of frame_lengths must be at least 2 samples, got {length}")
    check_number("overlap", overlap)
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is the share of a frame that the next one has too, in [0, 1); got {overlap}")
    check_choice("window", window, get_args(Window))


def _check_length(samples: int, frame_lengths: Sequence[int]) -> None:
    longest = max(frame_lengths)
    if samples < longest:
        raise ValueError(
            f"frames of {longest} samples need signals at least as long, got {samples} samples; "
            "leave that out of frame_lengths, or train on longer crops"
        )
