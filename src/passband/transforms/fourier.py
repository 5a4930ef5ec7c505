"""Orthonormal N-d DFT of real fields as a half spectrum, with the weights that make sums over it exact."""

from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from passband._checks import check_batch
from passband._numerics import no_autocast, upcast


def rfftn(x: Float[Tensor, "batch channels *spatial"]) -> Complex[Tensor, "batch channels *frequencies"]:
    r"""Orthonormal DFT over the spatial axes, keeping the non-redundant half of the last one.

    $X(k) = N^{-1/2} \sum_n x(n)\, e^{-2\pi i \langle k, n/N\rangle}$, $N$ the number of positions. The input is real,
    so $X(-k) = \overline{X(k)}$ and only $k_{last} = 0 \ldots \lfloor W/2 \rfloor$ is computed;
    [`half_weights`][passband.transforms.half_weights] says how often each column counts.

    Args:
        x: real field, (batch, channels, \*spatial), 1 to 3 spatial axes of any size, odd ones too.

    Returns:
        Half spectrum in complex64 (complex128 for float64 input), last axis W // 2 + 1.

    Raises:
        TypeError: if x is not floating.
        ValueError: if x has no or more than 3 spatial dimensions, or no samples.

    Example:
        >>> import torch
        >>> from passband.transforms import half_weights, rfftn
        >>> x = torch.randn(2, 3, 8, 7, dtype=torch.float64)
        >>> power = half_weights(x.shape[2:]) * rfftn(x).abs() ** 2
        >>> torch.allclose(power.sum(), x.square().sum())  # Parseval
        True

    """
    check_batch("x", x)
    if x.shape[0] == 0:
        raise ValueError(f"x holds no samples: got shape {tuple(x.shape)}; leave empty batches out")
    (x,) = upcast(x)
    with no_autocast(x):
        spectrum: Tensor = torch.fft.rfftn(x, dim=tuple(range(2, x.ndim)), norm="ortho")
    return spectrum


def irfftn(
    spectrum: Complex[Tensor, "batch channels *frequencies"], size: Sequence[int]
) -> Float[Tensor, "batch channels *spatial"]:
    """Inverse of [`rfftn`][passband.transforms.rfftn].

    Args:
        spectrum: half spectrum, as `rfftn` returns it.
        size: spatial shape of the field, because the half spectrum does not show its parity.

    Raises:
        ValueError: if size does not belong to the spectrum's shape.

    Example:
        >>> import torch
        >>> from passband.transforms import irfftn, rfftn
        >>> x = torch.randn(1, 1, 5, 7)
        >>> torch.allclose(irfftn(rfftn(x), size=(5, 7)), x, atol=1e-6)
        True

    """
    size = tuple(size)
    expected = (*size[:-1], size[-1] // 2 + 1)
    if tuple(spectrum.shape[2:]) != expected:
        raise ValueError(
            f"a field of size {size} has a half spectrum of shape {expected}, got {tuple(spectrum.shape[2:])}; "
            "pass the spatial shape of the original field"
        )
    x: Tensor = torch.fft.irfftn(spectrum, s=size, dim=tuple(range(2, spectrum.ndim)), norm="ortho")
    return x


def half_weights(
    size: Sequence[int], dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> Float[Tensor, " half"]:
    """How often each column of a half spectrum occurs in the full one: 1 for k = 0 and Nyquist (even W), else 2.

    Args:
        size: spatial shape of the field; only the last entry matters.
        dtype: dtype of the weights.
        device: device of the weights.

    Returns:
        Weights of shape (W // 2 + 1,) with sum W, to be broadcast over the last axis.

    Example:
        >>> from passband.transforms import half_weights
        >>> half_weights((8,)).tolist(), half_weights((7,)).tolist()
        ([1.0, 2.0, 2.0, 2.0, 1.0], [1.0, 2.0, 2.0, 2.0])

    """
    width = size[-1]
    weights = torch.full((width // 2 + 1,), 2.0, dtype=dtype, device=device)
    weights[0] = 1.0
    if width % 2 == 0:
        weights[-1] = 1.0
    return weights
