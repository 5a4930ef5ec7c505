"""Spectral Forcing as a Module, and on any denoiser."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from passband.forcing.attach import Attachment, attach
from passband.forcing.fronts import Front, LinearFront, as_front, front_config, front_from_config
from passband.forcing.operator import Window, check_kappa, check_window, spectral_low_pass
from passband.process import Process, Time

Forcing = TypeVar("Forcing", bound="SpectralForcing")

_LINEAR = LinearFront()


class SpectralForcing(nn.Module):
    r"""Show the denoiser the signal and hide the noise: a low-pass of its input whose cutoff rises with the flow time.

    $SF_t(z) = IDCT(M(t) \odot DCT(z))$, $M = \text{sigmoid}(\kappa (c(\tau) - \rho))$, $\tau$ the process's flow time.
    It goes on the input of the inner network, in training and in sampling alike; `attach` puts it there. It has no
    parameters and adds nothing to a state dict.

    Args:
        process: the process that the denoiser is trained with.
        front: c, from flow time (0 noise, 1 data) to cutoff (0 to 1): [`LinearFront`][passband.forcing.LinearFront]
            (the published one; `"linear"` for short), [`ConstantFront`][passband.forcing.ConstantFront],
            [`ContourFront`][passband.forcing.ContourFront] or any callable of a tensor.
        kappa: steepness of the edge, see [`spectral_low_pass`][passband.forcing.spectral_low_pass].
        window: side of non-overlapping windows, or one side per axis; None: the whole field.
        exact: the identity at cutoff 1 and unit gain at DC, instead of the published gain.

    Raises:
        TypeError: if an argument is of another kind than above.
        ValueError: if the front's name is unknown, or kappa or a window is not positive.

    Example:
        >>> import torch
        >>> from passband import Flow, SpectralForcing
        >>> network = lambda x, t: x
        >>> attachment = SpectralForcing(Flow(data_at=1)).attach(network)
        >>> x = torch.randn(2, 3, 16, 16)
        >>> noise, data = attachment(x, torch.tensor([0.0, 1.0])).square().mean((1, 2, 3))  # little passes at tau = 0
        >>> bool(noise < 0.1 * data)
        True

    Source: Spectral Forcing (arXiv:2606.15236).
    """

    def __init__(
        self,
        process: Process,
        front: str | Front = _LINEAR,
        *,
        kappa: float = 30.0,
        window: Window = None,
        exact: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(process, Process):
            raise TypeError(
                f"process must be a Process such as Flow(data_at=1), got {type(process).__name__}; "
                "of a diffusers scheduler, pass process_from_scheduler(scheduler)"
            )
        check_kappa(kappa)
        check_window(window)
        if not isinstance(exact, bool):
            raise TypeError(f"exact must be True or False, got {exact!r}")
        self.process = process
        self.front = as_front(front)
        self.kappa = kappa
        self.window: int | tuple[int, ...] | None = (
            window if window is None or isinstance(window, int) else tuple(window)
        )
        self.exact = exact

    def forward(self, z: Float[Tensor, "batch channels *spatial"], t: Time) -> Float[Tensor, "batch channels *spatial"]:
        r"""Low-pass the network's input at the cutoff of its time.

        Args:
            z: the network's input, (batch, channels, \*spatial), 1 or 2 spatial axes, scaled as the network takes it.
            t: times in the process's own unit, a number or (batch,).

        Returns:
            The low-passed input, of z's shape and dtype.

        Raises:
            TypeError: if z is not floating, or t holds no real numbers.
            ValueError: if shapes do not fit, or t is out of range.

        """
        cutoff = self.front(self.process.flow_time(t))
        return spectral_low_pass(z, cutoff, kappa=self.kappa, window=self.window, exact=self.exact)

    @property
    def config(self) -> dict[str, Any]:
        """The options, as JSON keeps them; the process is the checkpoint's own."""
        window = list(self.window) if isinstance(self.window, tuple) else self.window
        return {"front": front_config(self.front), "kappa": self.kappa, "window": window, "exact": self.exact}

    @classmethod
    def from_config(
        cls: type[Forcing], config: Mapping[str, Any], process: Process, *, front: Front | None = None
    ) -> Forcing:
        """The forcing that a configuration describes.

        Args:
            config: what `config` returned, such as `recorded(model)`.
            process: the process that the denoiser was trained with.
            front: the front, in place of the configuration's; needed where it was a function of the user's.

        Returns:
            The forcing.

        Raises:
            TypeError, ValueError: on an unknown option or front, or a value out of range.

        Example:
            >>> from passband import Flow, SpectralForcing
            >>> config = SpectralForcing(Flow(data_at=1), kappa=10).config
            >>> SpectralForcing.from_config(config, Flow(data_at=1)).kappa
            10

        """
        if not isinstance(config, Mapping):
            raise TypeError(f"the configuration of a forcing is a mapping, got {config!r}")
        options = dict(config)
        described = options.pop("front", _LINEAR.config)
        unknown = sorted(set(options) - {"kappa", "window", "exact"})
        if unknown:
            raise ValueError(
                f"the configuration of the forcing holds {', '.join(map(repr, unknown))}, which is not known; "
                "expected front, kappa, window and exact"
            )
        return cls(process, front_from_config(described) if front is None else front, **options)

    def attach(
        self,
        model: Callable[..., Any],
        *,
        image: str | int | None = None,
        time: str | int | None = None,
    ) -> Attachment:
        """Put the forcing in front of a denoiser, in training and in sampling, until it is detached.

        The image and the time are found by the names of the network's parameters. The time is the one that the network
        is given, `process.model_time(t)`. Only the image is replaced; it must not be joined with other channels
        (as inpainting networks do), which would be low-passed too. A network that takes packed tokens (as Flux does) is
        refused when it is called: force the latent before it is packed.

        Args:
            model: a network, inside wrappers or not (DistributedDataParallel, torch.compile,
                [`EDMDenoiser`][passband.models.EDMDenoiser]), or any callable.
            image: name or position of the network's parameter that takes the noisy image; default: by its signature.
            time: name or position of the one that takes the time; default: by its signature.

        Returns:
            The attachment, which calls the forced model and can be detached.

        Raises:
            TypeError: if the model cannot be called.
            ValueError: if the model has a forcing already, or its image and time are not found.

        Example:
            >>> import torch
            >>> from passband import Flow, SpectralForcing
            >>> from passband.models import EDMUNet
            >>> network = EDMUNet(16, 1, model_channels=16, channel_mult=(1,), num_blocks=1)
            >>> attachment = SpectralForcing(Flow(data_at=1)).attach(network)
            >>> network(torch.randn(2, 1, 16, 16), torch.tensor([0.1, 0.9])).shape  # forced from here on
            torch.Size([2, 1, 16, 16])
            >>> attachment.detach()  # as it was before

        """
        return attach(self, model, image=image, time=time)

    def extra_repr(self) -> str:
        """Options, for the text of the module."""
        return f"{self.process}, {self.front}, kappa={self.kappa}, window={self.window}, exact={self.exact}"
