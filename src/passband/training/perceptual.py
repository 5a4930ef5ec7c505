"""The perceptual term of an autoencoder's objective, by name."""

from jaxtyping import Float
from torch import Tensor, nn

from passband._checks import check_same_shape, nearest
from passband.integrations._named import PREFIX, make_module
from passband.models.lpips import load_lpips
from passband.models.perceptual import EfficientNetDistance
from passband.training.sections import PerceptualSettings

_LITE0, _LPIPS = "efficientnet-lite0", "lpips"


def build_perceptual(settings: PerceptualSettings | None) -> nn.Module | None:
    """The perceptual distance that the settings name, frozen; None where there are none.

    | name | what |
    |---|---|
    | `efficientnet-lite0` | [`EfficientNetDistance`][passband.models.EfficientNetDistance]; needs no download |
    | `lpips` | [`LPIPS`][passband.models.LPIPS] with the file, or the folder of files, in `weights` |
    | `module:package.name` | the module that this function without arguments returns, `module:lpips.LPIPS` for one |

    Each takes two batches of images in [-1, 1] and returns one value per pair; gradients reach both images.

    Args:
        settings: name and weights.

    Raises:
        FileNotFoundError: if the weights are not there.
        ImportError: if a module's package cannot be imported.
        MissingExtraError: if EfficientNet's wheels are not installed.
        TypeError: if a module's function returns something else.
        ValueError: if there is no such name, weights are missing, or given where none are read.

    """
    if settings is None:
        return None
    name, weights = settings.name, settings.weights
    if name == _LPIPS:
        if weights is None:
            raise ValueError(
                "the perceptual distance 'lpips' needs weights: a file, or a folder with torchvision's vgg16 weights "
                f"and lpips' vgg.pth; {_LITE0!r} needs none"
            )
        return load_lpips(weights)
    if weights is not None:
        raise ValueError(f"weights are read for {_LPIPS!r} only, got {weights} for {name!r}; leave them out")
    if name == _LITE0:
        return EfficientNetDistance()
    if name.startswith(PREFIX):
        return PerModule(make_module(name), name.removeprefix(PREFIX))
    raise ValueError(
        f"unknown perceptual distance: got {name!r}{nearest(name, [_LITE0, _LPIPS])}; expected {_LITE0!r}, {_LPIPS!r} "
        f"or '{PREFIX}package.name'"
    )


class PerModule(nn.Module):
    """A module of one's own, frozen and in evaluation mode, with one value per pair of images.

    Args:
        module: takes two batches of images in [-1, 1]; returns (batch,), or values per image that are averaged.
        name: for errors.

    """

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module, self.name = module.requires_grad_(False).eval(), name

    def train(self, mode: bool = True) -> "PerModule":
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(
        self, x: Float[Tensor, "batch channels height width"], y: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, " batch"]:
        """The module's value of each pair.

        Raises:
            ValueError: if the images' shapes differ, or the module does not return one value per pair.

        """
        check_same_shape("x", x, "y", y)
        values = self.module(x, y)
        if not isinstance(values, Tensor) or values.ndim == 0 or len(values) != len(x):
            got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"the perceptual distance {self.name!r} must return one value per image, shape ({len(x)},), got {got}"
            )
        return values.float().flatten(1).mean(1) if values.ndim > 1 else values.float()
