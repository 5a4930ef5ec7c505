"""What narrow peaks at multiples of 1/p are signs of, in words."""

from collections.abc import Mapping, Sequence

_UNITS = {"images": "pixels", "latents": "latent pixels", "signals": "samples"}
_CHECKERBOARD = "2 x 2 checkerboard (stride-2 transposed convolution)"
_IMAGES = {
    2: "2 x 2 grid (upsampling by 2, or a stride-2 transposed convolution)",
    3: "3 x 3 grid (upsampling by 3)",
    4: "4 x 4 grid (upsampling by 4, or patches of 4)",
    8: "8 x 8 block grid (JPEG, or a decoder that upsamples by 8)",
    16: "16 x 16 block grid (patches of 16, JPEG with halved colour, or a decoder that upsamples by 16)",
}
#: What is likelier in chroma alone.
_COLOURS = _IMAGES | {
    2: "2 x 2 grid (colour at half the resolution, as in JPEG and video, or upsampling by 2)",
    16: "16 x 16 block grid (JPEG with halved colour, patches of 16, or a decoder that upsamples by 16)",
}
_UNRESOLVED = "4 x 4 or 8 x 8 grid (upsampling by 4, patches of 4, or JPEG)"
#: dB by which a peak has to exceed all of a finer comb, to be a pattern of its own.
HARMONIC = 6.0


def peak_name(
    period: int | None,
    frequency: float,
    *,
    kind: str,
    both_axes: bool,
    line: bool,
    resolved: bool = True,
    colour: bool = False,
) -> str:
    """A noun phrase for a regular pattern.

    Args:
        period: p where the peaks are at multiples of 1/p, None elsewhere.
        frequency: of the strongest peak, cycles per position, the length of its wave vector.
        kind: "images", "latents" or "signals".
        both_axes: whether it repeats along both axes.
        line: whether the power itself has a line there, not only the roughness a period.
        resolved: whether samples are large enough to tell periods of 4 and 8.
        colour: whether it is in chroma alone.

    Example:
        >>> from passband.metrics.peak_names import peak_name
        >>> peak_name(8, 0.25, kind="images", both_axes=True, line=False)
        '8 x 8 block grid (JPEG, or a decoder that upsamples by 8)'
        >>> peak_name(None, 0.29, kind="signals", both_axes=False, line=True)
        'narrow peak with a period of 3.4 samples'

    """
    unit, grids = _UNITS.get(kind, "positions"), _COLOURS if colour else _IMAGES
    if period is None:
        return f"narrow peak with a period of {1 / frequency:.1f} {unit}"
    if not both_axes:
        return f"pattern that repeats every {period} {unit}{_cause(period, kind, grids)}"
    if period == 2 and line:
        return _CHECKERBOARD
    if kind == "images" and period == 4 and not resolved:
        return _UNRESOLVED
    if kind == "images" and period in grids:
        return grids[period]
    return f"{period} x {period} grid{_cause(period, kind, grids)}"


def comb_period(period: int, height: float, teeth: Sequence[tuple[int, float]], margin: float = HARMONIC) -> int:
    """The period of the comb that a peak belongs to: a finer one's, unless it stands far above all teeth of its own.

    A block grid of 8 has peaks at 1/8, 1/4, 3/8 and 1/2: those at 1/4 and 1/2 are signs of it, too. The teeth of the
    finer comb may belong to one that is finer still.

    Args:
        period: p of the peak at m/p, in lowest terms.
        height: of the peak, dB.
        teeth: period and height of all peaks there are.
        margin: dB that count as far.

    Example:
        >>> from passband.metrics.peak_names import comb_period
        >>> comb_period(2, 9.0, [(2, 9.0), (4, 8.0), (8, 6.0)]), comb_period(2, 20.0, [(2, 20.0), (8, 6.0)])
        (8, 2)

    """
    finer = sorted({other for other, _ in teeth if other > period and other % period == 0}, reverse=True)
    for other in finer:
        highest = max(found for tooth, found in teeth if tooth == other)
        if height < highest + margin:
            return comb_period(other, highest, teeth, margin)
    return period


def _cause(period: int, kind: str, grids: Mapping[int, str]) -> str:
    if kind == "signals" or period not in grids:
        return f" (upsampling by {period})"
    return grids[period][grids[period].index(" (") :]
