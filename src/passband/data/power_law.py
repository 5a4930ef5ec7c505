"""Gaussian fields whose power falls as k^-beta, with a high-frequency texture that their low band predicts, or not."""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor
from torch.utils.data import Dataset

from passband._checks import check_batch, check_choice, check_integer, check_number
from passband._seeds import seed_for
from passband.transforms import dct, dct_matrix, idct

TextureKind = Literal["noise", "signal"]
KINDS: tuple[TextureKind, ...] = ("noise", "signal")


class _Law(NamedTuple):
    """The fields' statistics: all that does not change from one field to the next.

    Attributes:
        base: mean DCT power of the power law, (size, size).
        low: which coefficients the envelope has.
        carrier: the wave that carries the envelope, (size, size).
        gain: of carrier times envelope.
        deviation: the square root of base, in float32.
        waves: the DCT's matrix, in float32.

    """

    base: Tensor
    low: Tensor
    carrier: Tensor
    gain: float
    deviation: Tensor
    waves: Tensor


def _check(size: int, beta: float, share: float, kind: str, cutoff: int | None, std: float) -> int:
    check_integer("resolution", size)
    for name, number in (("beta", beta), ("share", share), ("std", std)):
        check_number(name, number)
    check_choice("kind", kind, KINDS)
    cutoff = size // 4 if cutoff is None else cutoff
    check_integer("cutoff", cutoff)
    if not 1 <= cutoff <= (size - 2) // 3:
        raise ValueError(
            f"cutoff must be a DCT radius from 1 to {(size - 2) // 3}, a third of the resolution at most, so that the "
            f"texture has room above it; got {cutoff} for resolution {size}"
        )
    if not 0 <= share < 1 or not std > 0 or not math.isfinite(beta) or beta < 0:
        raise ValueError(
            f"expected beta >= 0, a share of the power in [0, 1) and std > 0; got beta {beta}, share {share}, std {std}"
        )
    return cutoff


def _law(size: int, beta: float, share: float, cutoff: int, std: float) -> _Law:
    index = torch.arange(size, dtype=torch.float64)
    radius = torch.hypot(index[:, None], index)
    base = radius.clamp(min=1.0) ** -beta
    base[0, 0] = 0.0
    energy = size**2 * std**2
    base *= (1 - share) * energy / base.sum()
    low = radius <= cutoff
    wave = torch.cos(math.pi * _carrier(size, cutoff) * (index + 0.5) / size)
    # The carrier moves an index u to K + u and K - u with half the amplitude each: half the power, along both axes.
    gain = math.sqrt(4 * share * energy / base[low].sum())
    return _Law(base, low, wave[:, None] * wave, gain, base.sqrt().float(), dct_matrix(size, torch.float32))


def _carrier(size: int, cutoff: int) -> int:
    """DCT index of the carrier along both axes, half way from the cutoff to the highest."""
    return (size + cutoff) // 2


def _coefficients(law: _Law, seed: int, index: int, stream: str) -> Tensor:
    """DCT coefficients of a field of the power law, (size, size), in float32."""
    generator = torch.Generator().manual_seed(seed_for(seed, index, stream))
    return torch.randn(law.deviation.shape, generator=generator) * law.deviation


def _field(law: _Law, kind: str, seed: int, index: int) -> Tensor:
    base = _coefficients(law, seed, index, "power law")
    envelope = base if kind == "signal" else _coefficients(law, seed, index, "power law envelope")
    field, low_band = law.waves.T @ torch.stack([base, envelope * law.low]) @ law.waves
    result: Tensor = field + (law.gain * law.carrier).float() * low_band
    return result


def power_law_fields(
    count: int,
    resolution: int = 32,
    beta: float = 2.0,
    *,
    share: float = 0.0,
    kind: TextureKind = "noise",
    cutoff: int | None = None,
    std: float = 0.3,
    channels: int = 1,
    seed: int = 0,
    start: int = 0,
) -> Float32[Tensor, "count channels resolution resolution"]:
    r"""The fields number start … start + count - 1 of a seed.

    $x = b + g \, c \, e$. The base b has independent normal DCT coefficients of mean power proportional to
    $k^{-\beta}$, k the radius in DCT indices, and no mean. It is mirror-symmetric at the borders, not periodic: there
    is no seam, and its variance is up to four times as high in the corners. The rest is a texture of a known `share`
    of the power: a carrier $c(i, j) = \cos(\pi K (i + ½) / n) \cos(\pi K (j + ½) / n)$ times an envelope e, which
    holds the radii up to `cutoff`; K lies half way from the cutoff to n. For kind

    - `"signal"` e is the low band of b itself: who knows the low band knows the texture,
    - `"noise"` e is the low band of another field of the same law: nothing predicts it.

    Both kinds have the same mean power in every DCT coefficient ([`power_law_psd`][passband.data.power_law_psd]).
    Field i depends on (seed, i) alone, and the base is the same for any kind.

    Args:
        count: number of fields.
        resolution: height and width in pixels.
        beta: exponent of the power law, at least 0 (white).
        share: of the mean power that the texture has, in [0, 1); 0 for none.
        kind: whether the low band predicts the texture.
        cutoff: largest DCT radius of the envelope, at most a third of the resolution; default: a quarter of it.
        std: root mean square of the values. A few lie outside [-1, 1].
        channels: copies of the field along the channel axis.
        seed: any integer.
        start: index of the first field.

    Returns:
        The fields.

    Raises:
        TypeError: if a number is none, or resolution or cutoff no integer.
        ValueError: if a number is out of range, or the kind is unknown.

    Example:
        >>> from passband.data import power_law_fields
        >>> x = power_law_fields(3, resolution=16, beta=2.0, share=0.2, kind="signal")
        >>> tuple(x.shape), x.mean((2, 3)).abs().max().item() < 1e-6
        ((3, 1, 16, 16), True)

    """
    cutoff = _check(resolution, beta, share, kind, cutoff, std)
    _check_counts(count, channels)
    law = _law(resolution, beta, share, cutoff, std)
    fields = [_field(law, kind, seed, index) for index in range(start, start + count)]
    stacked = torch.stack(fields) if fields else torch.empty(0, resolution, resolution)
    return stacked[:, None].repeat(1, channels, 1, 1)


def power_law_psd(
    resolution: int = 32, beta: float = 2.0, *, share: float = 0.0, cutoff: int | None = None, std: float = 0.3
) -> Float64[Tensor, "resolution resolution"]:
    """The exact mean power of each DCT coefficient of these fields, for either kind of texture.

    Args:
        resolution: height and width in pixels.
        beta: exponent of the power law.
        share: of the power that the texture has.
        cutoff: largest DCT radius of the envelope.
        std: root mean square of the values.

    Raises:
        TypeError: as [`power_law_fields`][passband.data.power_law_fields].
        ValueError: as [`power_law_fields`][passband.data.power_law_fields].

    Example:
        >>> from passband.data import power_law_psd
        >>> psd = power_law_psd(16, beta=2.0)
        >>> round((psd[0, 2] / psd[0, 4]).item(), 6), round((psd.sum() / 16**2).sqrt().item(), 6)
        (4.0, 0.3)

    """
    cutoff = _check(resolution, beta, share, "noise", cutoff, std)
    law = _law(resolution, beta, share, cutoff, std)
    carrier = _carrier(resolution, cutoff)
    away = (torch.arange(resolution) - carrier).abs()
    weight = torch.where(away == 0, 0.5, 0.25).double()
    moved = (law.base * law.low)[away[:, None], away] * weight[:, None] * weight
    return law.base + law.gain**2 * moved


def texture_coherence(
    x: Float[Tensor, "batch channels resolution resolution"], cutoff: int | None = None
) -> Float[Tensor, " batch"]:
    r"""How far the texture of each field is the one that its own low band predicts, from -1 to 1.

    $\langle t, c e \rangle / (\|t\| \, \|c e\|)$, e the radii of the field up to `cutoff`, c the carrier, and t the
    field in the band of the texture: DCT indices from K - cutoff to K + cutoff along both axes. Fields without a
    texture, or with one of kind `"noise"`, have 0 on average; of kind `"signal"` nearly 1, less what the base has in
    that band.

    Args:
        x: square fields.
        cutoff: largest DCT radius of the envelope; default: a quarter of the resolution.

    Returns:
        One value per field. A field without any power in one of the bands has 0.

    Raises:
        TypeError: if x is not floating, or cutoff no integer.
        ValueError: if x is not a batch of squares, or cutoff is out of range.

    Example:
        >>> from passband.data import power_law_fields, texture_coherence
        >>> options = {"resolution": 32, "beta": 3.0, "share": 0.2}
        >>> texture_coherence(power_law_fields(8, **options, kind="signal")).min().item() > 0.95
        True

    """
    check_batch("x", x, dims=(2,))
    size = x.shape[-1]
    if x.shape[-2] != size:
        raise ValueError(f"x must hold square fields, got shape {tuple(x.shape)}")
    cutoff = _check(size, 0.0, 0.5, "signal", cutoff, 1.0)
    law = _law(size, 0.0, 0.5, cutoff, 1.0)
    spectrum = dct(x)
    low_band = idct(spectrum * law.low.to(x.device))
    predicted = dct(law.carrier.to(low_band) * low_band).flatten(1)
    inside = (torch.arange(size, device=x.device) - _carrier(size, cutoff)).abs() <= cutoff
    texture = (spectrum * (inside[:, None] & inside)).flatten(1)
    length = texture.norm(dim=1) * predicted.norm(dim=1)
    coherence: Tensor = (texture * predicted).sum(1) / length.clamp(min=torch.finfo(length.dtype).tiny)
    return coherence


def _check_counts(count: int, channels: int) -> None:
    if count < 0 or channels < 1:
        raise ValueError(f"expected count >= 0 and channels >= 1, got count {count} and channels {channels}")


class PowerLawFields(Dataset[Tensor]):
    """Power-law fields as a map-style dataset; item i is that of [`power_law_fields`][passband.data.power_law_fields].

    Args:
        resolution: height and width in pixels.
        beta: exponent of the power law.
        share: of the power that the texture has; 0 for none.
        kind: `"noise"` or `"signal"`: whether the low band predicts the texture.
        cutoff: largest DCT radius of the texture's envelope; default: a quarter of the resolution.
        std: root mean square of the values.
        channels: copies of the field along the channel axis.
        length: number of fields.
        seed: any integer; another seed gives other fields.

    Raises:
        TypeError: as `power_law_fields`.
        ValueError: as `power_law_fields`, or if length is under 1.

    Example:
        >>> from passband.data import PowerLawFields
        >>> data = PowerLawFields(resolution=16, beta=2.0, length=100)
        >>> len(data), tuple(data[99].shape)
        (100, (1, 16, 16))

    """

    def __init__(
        self,
        resolution: int = 32,
        beta: float = 2.0,
        *,
        share: float = 0.0,
        kind: TextureKind = "noise",
        cutoff: int | None = None,
        std: float = 0.3,
        channels: int = 1,
        length: int = 50_000,
        seed: int = 0,
    ) -> None:
        cutoff = _check(resolution, beta, share, kind, cutoff, std)
        _check_counts(length - 1, channels)
        self.kind, self.channels, self.length, self.seed = kind, channels, length, seed
        self._law = _law(resolution, beta, share, cutoff, std)

    def __len__(self) -> int:
        """Number of fields."""
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        """Field `index`, (channels, resolution, resolution)."""
        if not 0 <= index < self.length:
            raise IndexError(f"index {index} is out of range for {self.length} fields")
        return _field(self._law, self.kind, self.seed, index).expand(self.channels, -1, -1).clone()
