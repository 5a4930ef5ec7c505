"""Fourier L1 losses on amplitude, and on amplitude and phase."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from passband._checks import check_choice, check_number
from passband.regularization._gradient import with_gradient
from passband.regularization._inputs import check_spectral_pair, spectrum_mean
from passband.regularization.kernels.amplitude import amplitude
from passband.regularization.kernels.phase import SILENCE, amplitude_phase
from passband.regularization.loss import Field, PerSample, SpectralLoss
from passband.transforms import rfftn

Coupling = Literal["frequency", "energy", "norm"]


def amplitude_loss(estimate: Field, clean: Field) -> PerSample:
    r"""Mean absolute difference of the Fourier amplitudes, $\text{mean}\, |A - \hat A|$, $A = |F x_0|$, F orthonormal.

    L1 is the point: with a square instead, and phases included, Parseval's theorem makes it the mean squared error
    again. Amplitudes are roots of sums of squares: in float32 those under 1e-19 are 0, and those over 1e19 infinite.

    Args:
        estimate: clean estimate, (batch, channels, \*spatial), 1 to 3 spatial axes.
        clean: clean sample, of the same shape.

    Returns:
        One value per sample, (batch,): the mean over channels and frequencies.

    Raises:
        TypeError: if an input is not floating.
        ValueError: if shapes differ or have no spatial axes.

    Example:
        >>> import torch
        >>> from passband.regularization import amplitude_loss
        >>> x = torch.randn(4, 3, 16, 16)
        >>> bool((amplitude_loss(x.roll(3, dims=-1), x) < 1e-5).all())  # blind to a shift
        True

    Source: Spectral Regularization (arXiv:2603.02447).
    """
    check_spectral_pair(estimate, clean)
    return with_gradient(_amplitude, amplitude, estimate, clean)


def _amplitude(estimate: Tensor, clean: Tensor) -> PerSample:
    return spectrum_mean((rfftn(clean).abs() - rfftn(estimate).abs()).abs(), clean.shape[2:])


def amplitude_phase_loss(
    estimate: Field, clean: Field, coupling: Coupling = "frequency", rel: float = 1e-3
) -> PerSample:
    r"""Fourier amplitudes and phases together, the paper's $\|A - \hat A\|_1\, (1 + \|\varphi - \hat\varphi\|_1)$.

    With $d = c\, |\Delta\varphi|$, the difference of phases wrapped to $[-\pi, \pi]$ and faded out by c where an
    amplitude vanishes and its phase means nothing (a share of `rel` of the clean sample's RMS amplitude):

    - `frequency` (default): $\text{mean}\, |A - \hat A| (1 + d)$. Blind to phase where amplitudes agree: 0 at
      $\hat x_0 = -x_0$.
    - `energy`: $\text{mean}\, (|A - \hat A| + A\, d)$. Sees every phase, in proportion to the amplitude that it turns.
    - `norm`: $\text{mean} |A - \hat A| \cdot (1 + \text{mean}\, d)$, the equation read literally, with means for norms.

    Args:
        estimate: clean estimate, (batch, channels, \*spatial), 1 to 3 spatial axes.
        clean: clean sample, of the same shape.
        coupling: how amplitude and phase combine.
        rel: relative amplitude under which a phase is faded out, in (0, 1).

    Returns:
        One value per sample, (batch,): the mean over channels and frequencies.

    Raises:
        TypeError: if an input is not floating.
        ValueError: if shapes differ or have no spatial axes, on an unknown coupling, or if rel is out of range.

    Example:
        >>> import torch
        >>> from passband.regularization import amplitude_phase_loss
        >>> x = torch.randn(4, 3, 16, 16)
        >>> amplitude_phase_loss(-x, x).abs().max().item()
        0.0
        >>> bool((amplitude_phase_loss(-x, x, coupling="energy") > 1).all())
        True

    Source: Spectral Regularization (arXiv:2603.02447), Eq. 15.
    """
    _check_options(coupling, rel)
    check_spectral_pair(estimate, clean)
    plain = partial(_amplitude_phase, coupling=coupling, rel=rel)
    return with_gradient(plain, partial(amplitude_phase, coupling=coupling, rel=rel), estimate, clean)


class AmplitudeLoss(SpectralLoss):
    """[`amplitude_loss`][passband.regularization.amplitude_loss] as a module.

    Example:
        >>> import torch
        >>> from passband import AmplitudeLoss
        >>> AmplitudeLoss()(torch.zeros(1, 1, 4), torch.ones(1, 1, 4)).item()  # all in frequency 0: sqrt(4) / 4
        0.5

    """

    def forward(self, estimate: Field, clean: Field) -> PerSample:
        """Return [`amplitude_loss`][passband.regularization.amplitude_loss]."""
        return amplitude_loss(estimate, clean)


class AmplitudePhaseLoss(SpectralLoss):
    """[`amplitude_phase_loss`][passband.regularization.amplitude_phase_loss] as a module.

    Args:
        coupling: `frequency`, `energy` or `norm`.
        rel: relative amplitude under which a phase is faded out, in (0, 1).

    Raises:
        ValueError: on an unknown coupling, or if rel is out of range.

    Example:
        >>> import torch
        >>> from passband import AmplitudePhaseLoss
        >>> x = torch.randn(2, 3, 16, 16)
        >>> AmplitudePhaseLoss("norm")(x, x).tolist()
        [0.0, 0.0]

    """

    def __init__(self, coupling: Coupling = "frequency", rel: float = 1e-3) -> None:
        super().__init__()
        _check_options(coupling, rel)
        self.coupling: Coupling = coupling
        self.rel = rel

    @property
    def name(self) -> str:
        """`amplitude_phase`."""
        return "amplitude_phase"

    def forward(self, estimate: Field, clean: Field) -> PerSample:
        """Return [`amplitude_phase_loss`][passband.regularization.amplitude_phase_loss]."""
        return amplitude_phase_loss(estimate, clean, self.coupling, self.rel)

    def extra_repr(self) -> str:
        """Options, for the text of the module."""
        return f"coupling={self.coupling!r}, rel={self.rel}"


def _amplitude_phase(estimate: Tensor, clean: Tensor, coupling: Coupling, rel: float) -> PerSample:
    return _COUPLINGS[coupling](_compare(rfftn(estimate), rfftn(clean), clean.shape[2:], rel))


class _Comparison(NamedTuple):
    gap: Tensor  # |A - A^|
    turn: Tensor  # c |phase difference|
    amplitude: Tensor  # A
    size: Sequence[int]


def _compare(x: Tensor, y: Tensor, size: Sequence[int], rel: float) -> _Comparison:
    """Amplitudes and faded phases of the estimate's spectrum x and the clean spectrum y."""
    amplitude_x, amplitude_y = x.abs(), y.abs()
    power = spectrum_mean(amplitude_y.square(), size)
    floor = (rel**2 * power).clamp(min=SILENCE).sqrt().reshape(-1, *(1,) * (y.ndim - 1))
    # In units of the floor, squares neither underflow for faint samples nor need a second epsilon.
    turn = _phase_difference(x / floor, y / floor) * _fade(amplitude_x / floor) * _fade(amplitude_y / floor)
    return _Comparison((amplitude_y - amplitude_x).abs(), turn, amplitude_y, size)


def _phase_difference(x: Tensor, y: Tensor) -> Tensor:
    """|angle(x) - angle(y)| in [0, pi], with a zero and a zero gradient where either has no amplitude to speak of."""
    product = x * y.conj()
    # atan2's gradient is 1/|product|: where that would overflow, the fade is 0 to the last bit.
    silent = torch.view_as_real(product.detach()).abs().amax(-1) < 1e-15
    real = product.real.masked_fill(silent, 1.0)
    imaginary = product.imag.masked_fill(silent, 0.0)
    return torch.atan2(imaginary.abs(), real)


def _fade(amplitude: Tensor) -> Tensor:
    """a^2 / (a^2 + 1): 0 far below the floor, 1 far above."""
    square = amplitude.clamp(max=1e9).square()
    return square / (square + 1)


def _frequency(c: _Comparison) -> PerSample:
    return spectrum_mean(c.gap * (1 + c.turn), c.size)


def _energy(c: _Comparison) -> PerSample:
    return spectrum_mean(c.gap + c.amplitude * c.turn, c.size)


def _norm(c: _Comparison) -> PerSample:
    return spectrum_mean(c.gap, c.size) * (1 + spectrum_mean(c.turn, c.size))


_COUPLINGS: dict[Coupling, Callable[[_Comparison], PerSample]] = {
    "frequency": _frequency,
    "energy": _energy,
    "norm": _norm,
}


def _check_options(coupling: str, rel: float) -> None:
    check_choice("coupling", coupling, get_args(Coupling))
    check_number("rel", rel)
    if not 0 < rel < 1:
        raise ValueError(f"rel must be in (0, 1), got {rel}")
