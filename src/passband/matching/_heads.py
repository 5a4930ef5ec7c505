"""Heads from a denoiser's tokens to a teacher's width, on fields."""

from torch import Tensor, nn


class TokenMLP(nn.Sequential):
    """The same layers on every token of a field."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Project each token."""
        tokens = tokens.movedim(1, -1)
        for layer in self:
            tokens = layer(tokens)
        return tokens.movedim(-1, 1)


class GridConvolution(nn.Conv2d):
    """A convolution of a field of one or two axes."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Project each token with its neighbours."""
        if tokens.ndim not in (3, 4):
            raise ValueError(
                f"the convolution head takes grids of 1 or 2 axes, got tokens of shape {tuple(tokens.shape)}; "
                "choose head='mlp'"
            )
        line = tokens.ndim == 3
        projected = super().forward(tokens.unsqueeze(-1) if line else tokens)
        return projected.squeeze(-1) if line else projected


def build_head(head: str, width: int, hidden: int, channels: int) -> nn.Module:
    """The head of a name, `mlp` or `conv`."""
    if head == "conv":
        return GridConvolution(width, channels, kernel_size=3, padding=1)
    return TokenMLP(
        nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, channels)
    )
