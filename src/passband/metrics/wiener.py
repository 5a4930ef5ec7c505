"""The Wiener filter of measured data, per DCT coefficient and decorrelated channel: what a linear denoiser reaches."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from passband._checks import check_batch, check_floating, check_number
from passband.transforms import dct


class WienerFilter:
    r"""The best linear estimate of x from x + r·ε that treats every DCT coefficient of every channel by itself.

    $\hat X_k = P_k / (P_k + r^2)\, Y_k$ in an orthonormal basis of the channels in which the data are uncorrelated, so
    that it knows how alike the colours of a photograph are; P the measured power per coefficient.

    Args:
        psd: mean power of each coefficient of the decorrelated channels, (channels, \*size).
        basis: orthonormal, (channels, channels): a column for each decorrelated channel.

    Raises:
        TypeError: if psd or basis is not floating.
        ValueError: if the shapes do not fit.

    Example:
        >>> import torch
        >>> from passband.metrics import WienerFilter, measure_wiener
        >>> wiener = measure_wiener(torch.randn(2000, 1, 8, generator=torch.Generator().manual_seed(0)))
        >>> round(float(wiener.gain(1.0).mean()), 1)  # white data of power 1 in noise of power 1
        0.5

    """

    def __init__(self, psd: Float[Tensor, "channels *size"], basis: Float[Tensor, "channels channels"]) -> None:
        check_floating("psd", psd)
        check_floating("basis", basis)
        channels = psd.shape[0]
        if psd.ndim < 2 or tuple(basis.shape) != (channels, channels):
            raise ValueError(
                "expected power (channels, *size) and a basis (channels, channels), got "
                f"{tuple(psd.shape)} and {tuple(basis.shape)}"
            )
        self.psd = psd.detach().double()
        self.basis = basis.detach().double()

    @property
    def size(self) -> tuple[int, ...]:
        """Spatial shape of the samples."""
        return tuple(self.psd.shape[1:])

    @property
    def channels(self) -> int:
        """Channels of the samples."""
        return int(self.psd.shape[0])

    def gain(self, noise_ratio: float) -> Float64[Tensor, "channels *size"]:
        """P / (P + r²); 0 where there is neither power nor noise."""
        check_number("noise_ratio", noise_ratio)
        if not noise_ratio >= 0:
            raise ValueError(f"noise_ratio must be at least 0, got {noise_ratio}")
        tiny = torch.finfo(torch.float64).tiny
        gain: Tensor = self.psd / (self.psd + noise_ratio**2).clamp_min(tiny)
        return gain

    def rotated(
        self, coefficients: Float[Tensor, "batch channels *frequencies"]
    ) -> Float[Tensor, "batch channels *frequencies"]:
        """Coefficients in the decorrelated channels."""
        basis = self.basis.to(coefficients)
        return torch.einsum("bc...,cd->bd...", coefficients, basis)

    def estimate(
        self, noisy: Float[Tensor, "batch channels *frequencies"], noise_ratio: float
    ) -> Float[Tensor, "batch channels *frequencies"]:
        """The estimate's DCT, from that of x + r·ε, in the samples' own channels."""
        turned = self.gain(noise_ratio).to(noisy) * self.rotated(noisy)
        return torch.einsum("bd...,cd->bc...", turned, self.basis.to(noisy))


class ChannelMoments:
    r"""Products of the channels' DCT coefficients, averaged over samples: what a Wiener filter is made of.

    Any number of samples; it keeps channels² values per coefficient.

    Example:
        >>> import torch
        >>> from passband.metrics import ChannelMoments
        >>> moments = ChannelMoments()
        >>> moments.update(torch.randn(4, 3, 8, 8))
        >>> moments.wiener().psd.shape
        torch.Size([3, 8, 8])

    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self.count = 0
        self._sums: Tensor | None = None

    def update(self, samples: Float[Tensor, "batch channels *spatial"]) -> None:
        r"""Add a batch of clean samples.

        Args:
            samples: (batch, channels, \*spatial), of one shape in all batches, in the unit that the noise is added in.

        Raises:
            TypeError: if they are not floating.
            ValueError: if their shape differs from what came before, or a value is not finite; nothing is added then.

        """
        check_batch("samples", samples)
        if len(samples) == 0:
            return
        coefficients = dct(samples.detach().double() if samples.device.type != "mps" else samples.detach())
        sums = torch.einsum("bc...,bd...->cd...", coefficients, coefficients).cpu().double()
        if not bool(sums.isfinite().all()):
            raise ValueError("the samples must be finite, and some of this batch are not; leave them out")
        self._add(sums, len(samples))

    def merge(self, other: "ChannelMoments") -> "ChannelMoments":
        """Add what another one has seen, and return self."""
        state = other.state_dict()
        if state:
            self._add(state["sums"], other.count)
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors (empty before the first sample)."""
        return {} if self._sums is None else {"sums": self._sums.clone(), "count": torch.tensor(self.count)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of `state_dict`."""
        missing = {"sums", "count"} - set(state) if state else set()
        if missing:
            raise ValueError(f"the state of channel moments lacks {sorted(missing)}, it holds {sorted(state)}")
        self.reset()
        if state:
            self._add(state["sums"].cpu().double(), int(state["count"]))

    def wiener(self) -> WienerFilter:
        """The filter of what was seen.

        Raises:
            ValueError: before the first sample.

        """
        if self._sums is None:
            raise ValueError("there are no samples yet: call update(samples) first")
        moments = self._sums / self.count
        pooled = moments.flatten(2)
        # Without the mean: the brightness of whole images says little about how colours go together.
        basis = torch.linalg.eigh(pooled[..., 1:].sum(-1)).eigenvectors
        psd = torch.einsum("ce,cd...,de->e...", basis, moments, basis).clamp_min(0)
        return WienerFilter(psd, basis)

    def _add(self, sums: Tensor, count: int) -> None:
        if self._sums is not None and self._sums.shape != sums.shape:
            raise ValueError(
                f"samples must all have one shape, got (channels, *sides) {tuple(sums.shape[1:])} after "
                f"{tuple(self._sums.shape[1:])}; crop or resize them"
            )
        self._sums = sums.clone() if self._sums is None else self._sums + sums
        self.count += count


def measure_wiener(samples: Float[Tensor, "batch channels *spatial"]) -> WienerFilter:
    r"""The Wiener filter of some samples in one call.

    Args:
        samples: (batch, channels, \*spatial).

    Raises:
        TypeError: if they are not floating.
        ValueError: if there are none, or a value is not finite.

    Example:
        >>> import torch
        >>> from passband.metrics import measure_wiener
        >>> gray = torch.randn(64, 1, 8, 8).expand(-1, 3, -1, -1)
        >>> power = measure_wiener(gray).psd.flatten(1).mean(1)  # all of it in one of three decorrelated channels
        >>> bool(power[2] > 1e6 * power[:2].max())
        True

    """
    moments = ChannelMoments()
    moments.update(samples)
    return moments.wiener()
