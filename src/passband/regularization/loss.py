"""The base of all losses, and weighted sums of them."""

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor, nn

Field = Float[Tensor, "batch channels *spatial"]
PerSample = Float[Tensor, "batch"]


class SpectralLoss(nn.Module):
    """A distance of two clean samples, one value per sample. A subclass defines `forward` and nothing else.

    Losses add and scale: `AmplitudeLoss() + 0.1 * WaveletLoss("bior1.3")` is a loss too, and so is `sum(losses)`.

    Example:
        >>> from passband.regularization import SpectralLoss
        >>> class Bias(SpectralLoss):
        ...     def forward(self, estimate, clean):
        ...         return (estimate - clean).flatten(1).mean(1).abs()
        >>> Bias().name
        'bias'

    """

    @property
    def of_difference(self) -> bool:
        """Whether the loss depends on estimate - clean alone, so that a residual is enough to compute it."""
        return False

    def forward(self, estimate: Field, clean: Field) -> PerSample:
        """Return the distance of each estimate from its clean sample, shape (batch,)."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(estimate, clean) -> (batch,)")

    def terms(self) -> Iterator[tuple[str, float, "SpectralLoss"]]:
        """The (name, weight, loss) triples of which this loss is the sum."""
        yield self.name, 1.0, self

    @property
    def name(self) -> str:
        """The name under which the loss is logged."""
        return type(self).__name__.removesuffix("Loss").lower()

    def __radd__(self, other: object) -> "SpectralLoss":
        # For sum([...]), which starts from 0.
        return self if other == 0 else NotImplemented

    def __add__(self, other: "SpectralLoss") -> "WeightedSum":
        return WeightedSum([(1.0, self), (1.0, other)])

    def __mul__(self, weight: float) -> "WeightedSum":
        return WeightedSum([(weight, self)])

    __rmul__ = __mul__


class WeightedSum(SpectralLoss):
    """The sum of several losses with constant weights, made by `+` and `*`.

    Args:
        losses: (weight, loss) pairs; sums among them are taken apart, so that each term is logged by its name.

    Raises:
        TypeError: if a weight is not a number or a loss not a SpectralLoss.

    Example:
        >>> import torch
        >>> from passband import AmplitudeLoss, WaveletLoss
        >>> loss = AmplitudeLoss() + 0.5 * WaveletLoss("haar")
        >>> x, y = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
        >>> torch.allclose(loss(x, y), AmplitudeLoss()(x, y) + 0.5 * WaveletLoss("haar")(x, y))
        True

    """

    def __init__(self, losses: list[tuple[float, SpectralLoss]]) -> None:
        super().__init__()
        if not losses:
            raise ValueError("a sum needs at least one loss, got none")
        for weight, loss in losses:
            if not isinstance(loss, SpectralLoss) or not isinstance(weight, int | float):
                raise TypeError(
                    f"expected (number, SpectralLoss) pairs, got ({type(weight).__name__}, {type(loss).__name__})"
                )
        flat = [(weight * inner, term) for weight, loss in losses for _, inner, term in loss.terms()]
        self.weights = [weight for weight, _ in flat]
        self.losses = nn.ModuleList(term for _, term in flat)

    @property
    def of_difference(self) -> bool:
        """Whether all of the terms depend on the difference alone."""
        return all(term.of_difference for _, _, term in self.terms())

    def forward(self, estimate: Field, clean: Field) -> PerSample:
        """Return the weighted sum of the terms, shape (batch,)."""
        values: list[Tensor] = [weight * term(estimate, clean) for _, weight, term in self.terms()]
        return sum(values[1:], start=values[0])

    def terms(self) -> Iterator[tuple[str, float, SpectralLoss]]:
        """The triples of all terms; a repeated name is numbered: `wavelet`, `wavelet_2`, ..."""
        taken: set[str] = set()
        for weight, term in zip(self.weights, self.losses, strict=True):
            assert isinstance(term, SpectralLoss)
            name, count = term.name, 1
            while name in taken:
                count += 1
                name = f"{term.name}_{count}"
            taken.add(name)
            yield name, weight, term

    def extra_repr(self) -> str:
        """Options, for the text of the module."""
        return f"weights={self.weights}"
