"""Any 1-d loss over windowed short-time frames, at several resolutions."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from passband._checks import check_batch, check_choice, check_integer, check_number
from passband._numerics import no_autocast
from passband.regularization._inputs import checked_pair
from passband.regularization.loss import PerSample, SpectralLoss

Window = Literal["hann", "rectangular"]
Signal = Float[Tensor, "batch channels samples"]

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
    estimate, clean = checked_pair(estimate, clean)
    _check_length(clean.shape[-1], frame_lengths)
    with no_autocast(clean):
        values: list[Tensor] = []
        for length in frame_lengths:
            resolution = partial(_resolution, loss=loss, length=length, overlap=overlap, window=window)
            # Kept for the backward pass, overlapping frames would be tens of times the signal: they are made again.
            values.append(checkpoint(resolution, estimate, clean, use_reentrant=False, preserve_rng_state=False))
        return sum(values[1:], start=values[0]) / len(values)


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


def _resolution(
    estimate: Tensor,
    clean: Tensor,
    loss: Callable[[Tensor, Tensor], PerSample],
    length: int,
    overlap: float,
    window: Window,
) -> PerSample:
    hop = _hop(length, overlap)
    weights = _window(length, window, clean)
    framed = (_frames(x, length, hop) for x in (estimate, clean))
    return loss(*(frames if weights is None else frames * weights for frames in framed))


def _hop(length: int, overlap: float) -> int:
    """Samples from one frame to the next: the frame's length times what does not overlap, rounded, at least 1."""
    return max(1, round(length * (1 - overlap)))


def _frames(x: Tensor, length: int, hop: int) -> Tensor:
    """Frames of a signal that is mirrored at both ends, (batch, channels x frames, length)."""
    samples = x.shape[-1]
    missing = (math.ceil(samples / hop) - 1) * hop + length - samples
    if missing > 0:
        before, after = missing // 2, missing - missing // 2
        head, tail = x[..., :before].flip(-1), x[..., samples - after :].flip(-1)
        x = torch.cat([head, x, tail], dim=-1)
    return x.unfold(-1, length, hop).flatten(1, 2)


def _window(length: int, window: Window, like: Tensor) -> Tensor | None:
    """The window over its RMS; None for 1."""
    if window == "rectangular":
        return None
    weights = torch.hann_window(length, dtype=like.dtype, device=like.device)
    return weights / weights.square().mean().sqrt()


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
