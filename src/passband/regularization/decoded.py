"""A loss in the space that latents are decoded to."""

import random
from collections.abc import Callable

import torch
from torch import Tensor

from passband._checks import check_integer
from passband._numerics import upcast
from passband.regularization.loss import Field, PerSample, SpectralLoss
from passband.regularization.named import Description, as_loss

Decode = Callable[[Tensor], Tensor]


class DecodedLoss(SpectralLoss):
    r"""A loss of what latents decode to, $L(D(\hat{z}_0), D(z_0))$: pixel-space supervision of a latent model.

    Gradients flow through the decoder to the estimate; the clean side is decoded without. Both come to it in float32 at
    least. The decoder is kept out of the module: it is not trained, not moved and not saved with it, and copies share
    it.

    Args:
        loss: a loss of two clean samples in the decoded space, or its name or description.
        decode: the decoder, a function latents -> samples, such as
            [`latent_decoder(vae)`][passband.integrations.latent_decoder].
        crop: side, in latent positions, of a square that is cut from both before they are decoded, at a place that is
            drawn per call (in one dimension its length); default: the whole. Decoding is what costs memory.
        seed: of the places. They take nothing from PyTorch's own generators.

    Raises:
        TypeError: if loss is no loss, or decode no function.
        ValueError: if crop is less than 1.

    Example:
        >>> import torch
        >>> from passband import AmplitudeLoss
        >>> from passband.regularization import DecodedLoss
        >>> loss = DecodedLoss(AmplitudeLoss(), lambda z: z.repeat_interleave(2, -1).repeat_interleave(2, -2))
        >>> loss.name, loss(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8)).item()
        ('decoded_amplitude', 0.0)

    """

    def __init__(
        self, loss: SpectralLoss | Description, decode: Decode, crop: int | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        if hasattr(decode, "encode") and hasattr(decode, "decode"):
            raise TypeError(
                f"decode must be a function latents -> samples: of a {type(decode).__name__}, latent_decoder(vae)"
            )
        if not callable(decode) or isinstance(decode, type):
            raise TypeError(f"decode must be a function latents -> samples, got {decode!r}")
        if crop is not None:
            check_integer("crop", crop)
            if crop < 1:
                raise ValueError(f"crop is a side in latent positions, at least 1; got {crop}")
        self.loss = as_loss(loss)
        self._decoder = _Outside(decode)
        self.crop = crop
        self._places = random.Random(seed)  # noqa: S311

    @property
    def name(self) -> str:
        """`decoded_` and the names of the loss's terms."""
        return "_".join(["decoded", *(name for name, _, _ in self.loss.terms())])

    def forward(self, estimate: Field, clean: Field) -> PerSample:
        """Return the loss of the decoded pair, shape (batch,)."""
        if self.crop is not None:
            estimate, clean = self._cut(estimate, clean, self.crop)
        estimate, clean = upcast(estimate, clean)
        decode = self._decoder.decode
        with torch.no_grad():
            wanted = decode(clean)
        values: Tensor = self.loss(decode(estimate), wanted)
        return values

    def _cut(self, estimate: Tensor, clean: Tensor, crop: int) -> tuple[Tensor, Tensor]:
        for axis in range(2, clean.ndim):
            length = min(crop, clean.shape[axis])
            start = self._places.randrange(clean.shape[axis] - length + 1)
            estimate, clean = (x.narrow(axis, start, length) for x in (estimate, clean))
        return estimate, clean

    def reseed(self, seed: int) -> None:
        """Draw the next places from this seed: of a step, so that a resumed training cuts where it would have."""
        self._places.seed(seed)

    def extra_repr(self) -> str:
        """Options, for the text of the module."""
        return f"crop={self.crop}"


class _Outside:
    """Holds a decoder that is no part of the module, which a module as its attribute would be, nor of its copies."""

    def __init__(self, decode: Decode) -> None:
        self.decode = decode

    def __deepcopy__(self, memo: object) -> "_Outside":
        return self
