"""What every probe has: a name, its statistics of each sample, and what is shown of their means."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from passband.metrics.planes import Planes


@runtime_checkable
class Probe(Protocol):
    r"""One family of quantities that is measured on every sample.

    A probe's statistics are averaged over samples (plainly, and in bootstrap replicates), so they must be such that a
    mean of them makes sense; whatever is not linear (ratios, decibels, kurtosis) is derived from the means.

    Attributes:
        name: what the family is called, such as "wavelet energy".
        unit: of a difference between two sets: "dB" (10 log10 of the ratio), "%" (of the reference), "" (plain).
        axes: what each axis of the quantities is, such as ("level", "orientation").
        least: the smallest difference worth calling one, in `unit`.
        compared: whether sets are compared by it, quantity by quantity; else its means serve another purpose.

    """

    name: str
    unit: str
    axes: tuple[str, ...]
    least: float
    compared: bool

    def check(self, shape: tuple[int, ...]) -> bool:
        r"""Whether samples of this shape, (channels, \*spatial), can be measured by it; else it is left out."""
        ...

    def __call__(self, planes: Planes) -> Tensor:
        r"""Statistics of each sample, (batch, \*block)."""
        ...

    def derive(self, block: Tensor) -> Tensor:
        r"""What is shown, (\*lead, \*quantity), of means of the statistics, (\*lead, \*block)."""
        ...

    def labels(self, shape: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
        """A label for each entry of each axis of the quantities."""
        ...
