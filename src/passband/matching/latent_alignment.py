"""VA-VAE's alignment of a latent with a vision model: the baseline that shapes latents by a teacher."""

import math

from jaxtyping import Float
from torch import Tensor, nn

from passband._checks import check_batch, check_integer, check_number, check_same_shape
from passband._numerics import no_autocast, upcast
from passband.matching._tokens import check_tokens, resampled

Tokens = Float[Tensor, "batch channels *grid"]
Wider = Float[Tensor, "batch teacher_channels *grid"]
Elsewhere = Float[Tensor, "batch teacher_channels *teacher_grid"]


def marginal_cosine_loss(projected: Tokens, features: Tokens, margin: int | float = 0.5) -> Float[Tensor, ""]:
    r"""$\operatorname{mean}_i\, \max(0,\, 1 - m - \cos(z_i, f_i))$: tokens near enough to the teacher's are left alone.

    Args:
        projected: the latent, projected to the teacher's width, (batch, channels, \*grid).
        features: the teacher's tokens, of the same shape.
        margin: m, 0 to 2.

    Returns:
        A scalar.

    Raises:
        TypeError: if an input is not floating, or margin not a number.
        ValueError: if shapes differ, or margin is out of range.

    Example:
        >>> import torch
        >>> from passband.matching import marginal_cosine_loss
        >>> x = torch.randn(2, 16, 4, 4)
        >>> marginal_cosine_loss(x, 2 * x).item(), round(marginal_cosine_loss(x, -x).item(), 4)
        (0.0, 1.5)

    Source: VA-VAE (arXiv:2501.01423), marginal cosine similarity loss.
    """
    projected, features = _checked(projected, features, margin)
    with no_autocast(projected):
        cosine = nn.functional.cosine_similarity(projected, features, dim=1)
        return (1 - margin - cosine).relu().mean()


def marginal_distance_loss(projected: Tokens, features: Wider, margin: int | float = 0.25) -> Float[Tensor, ""]:
    r"""$\operatorname{mean}_{ij}\, \max(0,\, |\cos(z_i, z_j) - \cos(f_i, f_j)| - m)$: tokens relate as the teacher's.

    Both need not have the same width. Its memory grows with the square of the number of tokens.

    Args:
        projected: the latent, (batch, channels, \*grid).
        features: the teacher's tokens, of the same batch and grid.
        margin: m, 0 to 2.

    Returns:
        A scalar.

    Raises:
        TypeError: if an input is not floating, or margin not a number.
        ValueError: if batches or grids differ, or margin is out of range.

    Example:
        >>> import torch
        >>> from passband.matching import marginal_distance_loss
        >>> x = torch.randn(2, 16, 4, 4)
        >>> marginal_distance_loss(-3 * x, x).item()
        0.0

    Source: VA-VAE (arXiv:2501.01423), marginal distance matrix similarity loss.
    """
    projected, features = _checked(projected, features, margin, widths=False)
    with no_autocast(projected):
        return ((_cosines(projected) - _cosines(features)).abs() - margin).relu().mean()


class LatentAlignment(nn.Module):
    """VA-VAE's two terms on a latent, which a linear map without bias takes to the teacher's width, added up.

    Its one parameter, the map, trains with the autoencoder and is not needed afterwards. The published code weighs the
    sum by 0.1 times the ratio of the gradients of reconstruction and alignment at the encoder's last layer.

    Args:
        latent_channels: channels of the latent.
        teacher_width: channels of the teacher's features.
        cos_margin: of [`marginal_cosine_loss`][passband.matching.marginal_cosine_loss], 0 to 2.
        distance_margin: of [`marginal_distance_loss`][passband.matching.marginal_distance_loss], 0 to 2.

    Raises:
        TypeError: if an argument is of another kind than above.
        ValueError: if a number of channels is not positive, or a margin is out of range.

    Example:
        >>> import torch
        >>> from passband.matching import LatentAlignment
        >>> align = LatentAlignment(4, 384)
        >>> align(torch.randn(2, 4, 8, 8), torch.randn(2, 384, 16, 16)).shape
        torch.Size([])

    Source: VA-VAE (arXiv:2501.01423).
    """

    def __init__(
        self,
        latent_channels: int,
        teacher_width: int,
        *,
        cos_margin: int | float = 0.5,
        distance_margin: int | float = 0.25,
    ) -> None:
        super().__init__()
        for name, size in (("latent_channels", latent_channels), ("teacher_width", teacher_width)):
            check_integer(name, size)
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        check_margin("cos_margin", cos_margin)
        check_margin("distance_margin", distance_margin)
        self.latent_channels, self.teacher_width = latent_channels, teacher_width
        self.cos_margin, self.distance_margin = cos_margin, distance_margin
        self.projection = nn.Linear(latent_channels, teacher_width, bias=False)

    def forward(self, latent: Tokens, features: Elsewhere) -> Float[Tensor, ""]:
        r"""The sum of the two terms.

        Args:
            latent: (batch, latent_channels, \*grid).
            features: the teacher's, (batch, teacher_width, \*grid); resampled to the latent's grid. No gradient reaches
                them.

        Returns:
            A scalar.

        Raises:
            TypeError: if an input is not floating.
            ValueError: if shapes do not fit.

        """
        check_tokens("latent", latent, self.latent_channels)
        check_tokens("features", features, self.teacher_width, batch=latent.shape[0])
        target = resampled("features", features.detach(), tuple(latent.shape[2:]))
        projected = self.projection(latent.movedim(1, -1)).movedim(-1, 1)
        cosine = marginal_cosine_loss(projected, target, self.cos_margin)
        return cosine + marginal_distance_loss(projected, target, self.distance_margin)

    def extra_repr(self) -> str:
        """Options, for the text of the module."""
        return f"cos_margin={self.cos_margin}, distance_margin={self.distance_margin}"


def _cosines(tokens: Tensor) -> Tensor:
    directions = nn.functional.normalize(tokens.flatten(2), dim=1)
    return directions.transpose(1, 2) @ directions


def _checked(projected: Tensor, features: Tensor, margin: float, widths: bool = True) -> tuple[Tensor, ...]:
    check_batch("projected", projected)
    check_batch("features", features)
    check_margin("margin", margin)
    if widths:
        check_same_shape("projected", projected, "features", features)
    elif projected.shape[0] != features.shape[0] or projected.shape[2:] != features.shape[2:]:
        raise ValueError(
            "projected and features must have the same batch and grid, "
            f"got {tuple(projected.shape)} and {tuple(features.shape)}"
        )
    return upcast(projected, features)


def check_margin(name: str, margin: float) -> None:
    """Raise unless margin is one that a cosine can reach."""
    check_number(name, margin)
    if not (math.isfinite(margin) and 0 <= margin <= 2):
        raise ValueError(f"{name} must lie in 0 to 2, got {margin}")
