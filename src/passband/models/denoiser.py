"""The preconditioned denoiser D around a raw network F."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from passband._checks import check_floating, check_number
from passband.forcing import register_model
from passband.process import EDM, Time


class EDMDenoiser(nn.Module):
    r"""$D(x; \sigma) = c_{skip}\, x + c_{out}\, F(c_{in}\, x,\, c_{noise})$, the clean estimate as a Module.

    Its state dict is the published preconditioned network's (`model.*`).

    Args:
        model: the raw network F, called as `model(x, c_noise)`, with the labels as keywords where they are given.
        process: the preconditioning: [`EDM`][passband.process.EDM],
            [`VPPreconditioned`][passband.process.VPPreconditioned] or
            [`VEPreconditioned`][passband.process.VEPreconditioned]; default: `EDM()`.

    Raises:
        TypeError: if model is no Module, or process no EDM process.

    Example:
        >>> import torch
        >>> from passband.models import EDMDenoiser, EDMUNet
        >>> denoise = EDMDenoiser(EDMUNet(16, 1, model_channels=16, channel_mult=(1, 2), num_blocks=1)).eval()
        >>> noisy = torch.randn(2, 1, 16, 16)
        >>> torch.allclose(denoise(noisy, 1e-5), noisy, atol=1e-3)  # next to no noise
        True

    Source: Karras et al. 2022 (arXiv:2206.00364), Eq. 7.
    """

    def __init__(self, model: nn.Module, process: EDM | None = None) -> None:
        super().__init__()
        process = EDM() if process is None else process
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        if not isinstance(process, EDM):
            raise TypeError(
                f"process must be EDM, VPPreconditioned or VEPreconditioned, got {process!r}; for other processes use "
                "process.clean_estimate"
            )
        self.model = model
        self.process = process

    def forward(
        self,
        x: Float[Tensor, "batch channels *spatial"],
        sigma: Time,
        class_labels: Shaped[Tensor, "..."] | None = None,
        augment_labels: Shaped[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch channels *spatial"]:
        r"""The clean estimate.

        Args:
            x: noisy samples $x_0 + \sigma \varepsilon$, (batch, channels, \*spatial), unscaled.
            sigma: noise levels, above 0, a number or (batch,).
            class_labels: as the network takes them.
            augment_labels: as the network takes them.

        Returns:
            D of x's shape, in float32 (float64 for float64 input).

        Raises:
            TypeError: if x is not floating, or sigma holds no real numbers.
            ValueError: if sigma is negative or of another batch size, or the network refuses its input.

        """
        check_floating("x", x)
        if not isinstance(sigma, Tensor):
            check_number("sigma", sigma)
            sigma = torch.tensor(sigma, dtype=torch.float64)
        t = self.process.time_at(sigma)
        scaled = self.process.scale_input(x, t)
        times = self.process.model_time(t).to(x.device, scaled.dtype).reshape(-1).expand(x.shape[0])
        given = {"class_labels": class_labels, "augment_labels": augment_labels}
        labels = {name: value for name, value in given.items() if value is not None}
        return self.process.clean_estimate(x, self.model(scaled.to(self._dtype(scaled)), times, **labels), t)

    def _dtype(self, x: Tensor) -> torch.dtype:
        return next((p.dtype for p in self.model.parameters() if p.is_floating_point()), x.dtype)


# The forcing goes on what the network is given, not on the x that is added to its output.
register_model(EDMDenoiser, inner=lambda model: model.model)
