"""DiffWave, a convolutional denoiser of waveforms, with or without a mel spectrogram to speak."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from passband._checks import check_floating, check_integer
from passband.models._embedding import waves
from passband.models.saving import Saveable, registered

_WAVES = 64  # frequencies of the step embedding
_WIDTH = 512  # of its layers
_SLOPE = 0.4  # of the upsampler's leaky ReLU


@registered
class DiffWave(Saveable):
    r"""DiffWave: gated dilated convolutions on the waveform, told the diffusion step and a mel spectrogram.

    Layer i has dilation $2^{i \bmod \text{cycle}}$; the spectrogram is brought to the waveform's rate by transposed
    convolutions. State dicts have the names of the published code. It is built for [`VP`][passband.process.VP] with
    `prediction="epsilon"`; a fractional step's embedding lies on the line between those of its neighbours.

    Args:
        n_mels: bands of the spectrogram.
        residual_layers: number of layers.
        residual_channels: their width.
        dilation_cycle_length: layers after which the dilation starts at 1 again.
        unconditional: build it without a spectrogram.
        upsample_factors: how many times each transposed convolution multiplies the frames, even numbers; their product
            is the hop, the samples of a frame.

    Raises:
        TypeError: if a size is no integer.
        ValueError: if a size is under 1, or a factor odd.

    Example:
        >>> import torch
        >>> from passband.models import DiffWave
        >>> network = DiffWave(residual_layers=2, residual_channels=8)
        >>> network(torch.randn(2, 1, 2048), torch.tensor([3.0, 20.5]), torch.rand(2, 80, 8)).shape
        torch.Size([2, 1, 2048])

    Source: Kong et al. 2021, "DiffWave: A Versatile Diffusion Model for Audio Synthesis" (arXiv:2009.09761).
    """

    def __init__(
        self,
        n_mels: int = 80,
        residual_layers: int = 30,
        residual_channels: int = 64,
        dilation_cycle_length: int = 10,
        unconditional: bool = False,
        upsample_factors: Sequence[int] = (16, 16),
    ) -> None:
        super().__init__()
        factors = tuple(upsample_factors)
        self.config: dict[str, Any] = {
            "n_mels": n_mels,
            "residual_layers": residual_layers,
            "residual_channels": residual_channels,
            "dilation_cycle_length": dilation_cycle_length,
            "unconditional": bool(unconditional),
            "upsample_factors": list(factors),
        }
        _check_sizes(self.config)
        self.hop = math.prod(factors)
        self.gradient_checkpointing = False
        self.input_projection = _convolution(1, residual_channels, 1)
        self.diffusion_embedding = StepEmbedding()
        if not unconditional:
            self.spectrogram_upsampler = SpectrogramUpsampler(factors)
        self.residual_layers = nn.ModuleList(
            ResidualBlock(residual_channels, 2 ** (i % dilation_cycle_length), None if unconditional else n_mels)
            for i in range(residual_layers)
        )
        self.skip_projection = _convolution(residual_channels, residual_channels, 1)
        self.output_projection = _convolution(residual_channels, 1, 1)
        nn.init.zeros_(self.output_projection.weight)

    @property
    def unconditional(self) -> bool:
        """Whether it takes no spectrogram."""
        return bool(self.config["unconditional"])

    @property
    def receptive_field(self) -> int:
        """Samples on each side of one that its output depends on, the spectrogram's frames aside."""
        cycle = self.config["dilation_cycle_length"]
        return sum(2 ** (i % cycle) for i in range(self.config["residual_layers"]))

    def enable_gradient_checkpointing(self) -> None:
        """Keep the layers' inputs alone for backward, and compute each layer twice."""
        self.gradient_checkpointing = True

    def forward(
        self,
        audio: Float[Tensor, "batch *one samples"],
        t: Shaped[Tensor, " steps"],
        spectrogram: Float[Tensor, "spectrograms mels frames"] | None = None,
    ) -> Float[Tensor, "batch 1 samples"]:
        """The predicted noise.

        Args:
            audio: the noisy waveform, (batch, 1, samples) or (batch, samples); with a spectrogram, frames x hop.
            t: diffusion steps from 0, whole or fractional, (batch,) or (1,).
            spectrogram: mel spectrogram in [0, 1], (batch, n_mels, frames), or (1, n_mels, frames) for all.

        Returns:
            (batch, 1, samples), in audio's dtype.

        Raises:
            TypeError: if audio or spectrogram is not floating.
            ValueError: if shapes do not fit, or a spectrogram is missing or not taken.

        """
        check_floating("audio", audio)
        audio = audio[:, None] if audio.ndim == 2 else audio
        self._check(audio, t, spectrogram)
        x = nn.functional.relu(self.input_projection(audio))
        step = self.diffusion_embedding(t.reshape(-1), x.dtype)
        condition = None if spectrogram is None else self.spectrogram_upsampler(spectrogram.to(audio.dtype))
        total: Tensor | None = None
        for layer in self.residual_layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x, skip = checkpoint(layer, x, step, condition, use_reentrant=False)
            else:
                x, skip = layer(x, step, condition)
            total = skip if total is None else total + skip
        assert total is not None
        x = nn.functional.relu(self.skip_projection(total / math.sqrt(len(self.residual_layers))))
        return self.output_projection(x).to(audio.dtype)  # type: ignore[no-any-return]

    def _check(self, audio: Tensor, t: Tensor, spectrogram: Tensor | None) -> None:
        if audio.ndim != 3 or audio.shape[1] != 1:
            raise ValueError(f"audio must have shape (batch, 1, samples) or (batch, samples), got {tuple(audio.shape)}")
        if t.numel() not in (1, len(audio)):
            raise ValueError(f"t must hold one step, or one for each of {len(audio)} samples, got {tuple(t.shape)}")
        if self.unconditional:
            if spectrogram is not None:
                raise ValueError("this DiffWave is unconditional and takes no spectrogram: leave it out")
            return
        if spectrogram is None:
            raise ValueError(
                f"this DiffWave needs a spectrogram of shape (batch, {self.config['n_mels']}, frames): pass it as "
                "spectrogram (in passband.sample: conditioning={'spectrogram': ...})"
            )
        check_floating("spectrogram", spectrogram)
        frames, rest = divmod(audio.shape[-1], self.hop)
        expected = (self.config["n_mels"], frames)
        fits = spectrogram.ndim == 3 and len(spectrogram) in (1, len(audio)) and spectrogram.shape[1:] == expected
        if rest or not fits:
            raise ValueError(
                f"audio must be frames x {self.hop} samples long and spectrogram of shape (batch, "
                f"{self.config['n_mels']}, frames), got {tuple(audio.shape)} and {tuple(spectrogram.shape)}"
            )


class StepEmbedding(nn.Module):
    """Waves of the diffusion step at 64 frequencies from 1 to 10,000, through two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.projection1 = nn.Linear(2 * _WAVES, _WIDTH)
        self.projection2 = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, steps: Shaped[Tensor, " batch"], dtype: torch.dtype) -> Float[Tensor, "batch width"]:
        """The embedding; between two whole steps, on the line between theirs."""
        # In float32, as published: its waves of up to 10,000 radians a step are rounded, and networks were trained so.
        below = steps.float().floor()
        table = torch.lerp(_table(below), _table(below + 1), (steps.float() - below)[:, None])
        x = nn.functional.silu(self.projection1(table.to(dtype)))
        return nn.functional.silu(self.projection2(x))


def _table(steps: Tensor) -> Tensor:
    exponents = torch.arange(_WAVES, dtype=torch.float32, device=steps.device) * 4.0 / (_WAVES - 1)
    return waves(steps[:, None] * 10.0**exponents)


class SpectrogramUpsampler(nn.Module):
    """Transposed convolutions over (band, frame) from the rate of frames to that of samples."""

    def __init__(self, factors: Sequence[int]) -> None:
        super().__init__()
        self.count = len(factors)
        for number, factor in enumerate(factors, 1):
            layer = nn.ConvTranspose2d(1, 1, (3, 2 * factor), stride=(1, factor), padding=(1, factor // 2))
            self.add_module(f"conv{number}", layer)

    def forward(self, x: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch mels samples"]:
        """One column per sample."""
        x = x[:, None]
        for number in range(1, self.count + 1):
            x = nn.functional.leaky_relu(self.get_submodule(f"conv{number}")(x), _SLOPE)
        return x[:, 0]


class ResidualBlock(nn.Module):
    """One gated dilated convolution, its residual and its skip output."""

    def __init__(self, channels: int, dilation: int, n_mels: int | None) -> None:
        super().__init__()
        self.dilated_conv = _convolution(channels, 2 * channels, 3, padding=dilation, dilation=dilation)
        self.diffusion_projection = nn.Linear(_WIDTH, channels)
        if n_mels is not None:
            self.conditioner_projection = _convolution(n_mels, 2 * channels, 1)
        self.output_projection = _convolution(channels, 2 * channels, 1)

    def forward(
        self,
        x: Float[Tensor, "batch channels samples"],
        step: Float[Tensor, "rows width"],
        condition: Float[Tensor, "conditions mels samples"] | None,
    ) -> tuple[Tensor, Tensor]:
        """What the next layer sees, and what goes to the output."""
        y = self.dilated_conv(x + self.diffusion_projection(step)[..., None])
        if condition is not None:
            y = y + self.conditioner_projection(condition)
        gate, filtered = y.chunk(2, dim=1)
        residual, skip = self.output_projection(torch.sigmoid(gate) * torch.tanh(filtered)).chunk(2, dim=1)
        return (x + residual) / math.sqrt(2.0), skip


def _convolution(inputs: int, outputs: int, kernel: int, **options: int) -> nn.Conv1d:
    layer = nn.Conv1d(inputs, outputs, kernel, **options)  # type: ignore[arg-type]
    nn.init.kaiming_normal_(layer.weight)
    return layer


def _check_sizes(config: dict[str, Any]) -> None:
    named = {name: value for name, value in config.items() if name not in ("unconditional", "upsample_factors")}
    named |= {f"upsample_factors[{i}]": factor for i, factor in enumerate(config["upsample_factors"])}
    for name, value in named.items():
        check_integer(name, value)
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    odd = [factor for factor in config["upsample_factors"] if factor % 2]
    if odd or not config["upsample_factors"]:
        raise ValueError(f"upsample_factors must be even numbers, got {config['upsample_factors']}")
