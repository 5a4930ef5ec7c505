"""Long-term average spectrum of audio, streamed over clips."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from passband._checks import check_floating, check_integer
from passband.metrics._clips import check_rate
from passband.metrics.store import take_state

_SUMS = ("sum", "squares", "cross", "weights", "weight")


class LongTermSpectrum:
    r"""Average power spectral density of a stream of clips, with its standard error over clips, in float64.

    Welch's method: frames of `n_fft` samples, half overlapping, under a periodic Hann window w, one-sided,
    $P(f) = \frac{2}{r \sum w^2} |\mathrm{DFT}(w\, x)|^2$ (r the sample rate; not doubled at 0 and r/2), averaged over
    all frames of all clips, so a clip counts by its length. A last part shorter than a frame is left out. The standard
    error takes clips as independent: with $a_i$ the sum over clip i's $n_i$ frames,
    $\sqrt{\sum_i (a_i - P n_i)^2\, c / (c - 1)} / \sum_i n_i$ over c clips.

    Args:
        sample_rate: samples per second, of all clips.
        n_fft: length of a frame; the frequencies are sample_rate / n_fft apart.
        name: what the clips are called in errors.

    Raises:
        TypeError: if an option is no integer.
        ValueError: if the sample rate is under 1, or n_fft odd or under 16.

    Example:
        >>> import torch
        >>> from passband.metrics import LongTermSpectrum
        >>> spectrum = LongTermSpectrum(16000)
        >>> noise = torch.randn(4, 64000, generator=torch.Generator().manual_seed(0))
        >>> spectrum.update(noise)
        >>> spectrum.count, spectrum.psd.shape
        (4, torch.Size([513]))
        >>> round(float(spectrum.psd.sum() * 16000 / 1024), 1)  # its power
        1.0

    Source:
        Welch, IEEE Transactions on Audio and Electroacoustics 15 (1967).

    """

    def __init__(self, sample_rate: int, n_fft: int = 1024, name: str = "clips") -> None:
        check_rate("sample_rate", sample_rate)
        check_integer("n_fft", n_fft)
        if n_fft < 16 or n_fft % 2:
            raise ValueError(f"n_fft must be even and at least 16, got {n_fft}")
        self.sample_rate, self.n_fft, self.name = sample_rate, n_fft, name
        self.reset()

    def reset(self) -> None:
        """Forget all clips."""
        self.count = 0
        zeros = torch.zeros(self.n_fft // 2 + 1, dtype=torch.float64)
        self._state = {name: zeros.clone() for name in _SUMS[:3]}
        self._state.update({name: torch.zeros((), dtype=torch.float64) for name in _SUMS[3:]})

    def update(self, audio: Float[Tensor, "*batch samples"]) -> None:
        r"""Add a clip, or a batch of clips of one length.

        Args:
            audio: (samples,) or (\*batch, samples), at the sample rate of this spectrum.

        Raises:
            TypeError: if it is not floating.
            ValueError: if a clip is shorter than n_fft or not finite; nothing is added then.

        """
        check_floating(self.name, audio)
        if audio.ndim == 0 or audio.shape[-1] < self.n_fft:
            raise ValueError(
                f"{self.name} must have at least n_fft = {self.n_fft} samples, got shape {tuple(audio.shape)}; "
                "leave out shorter ones, or use a smaller n_fft"
            )
        x = audio.detach().reshape(-1, audio.shape[-1]).cpu()
        bad = (~x.isfinite()).any(1).nonzero().flatten().tolist()
        if bad:
            raise ValueError(f"{self.name} must be finite; {len(bad)} of {len(x)} are not, the first at index {bad[0]}")
        for clip in x:
            total, frames = self._frames(clip)
            n = torch.tensor(float(frames), dtype=torch.float64)
            self._add({"sum": total, "squares": total * total, "cross": total * n, "weights": n * n, "weight": n})
            self.count += 1

    def merge(self, other: "LongTermSpectrum") -> "LongTermSpectrum":
        """Add what another one has seen (another rank's, for instance), and return self.

        Raises:
            ValueError: if sample rates or n_fft differ.

        """
        check_same_grid(self, other)
        self._add(other.state_dict())
        self.count += other.count
        return self

    @property
    def frequencies(self) -> Float64[Tensor, " bins"]:
        """Frequencies in Hz, 0 to half the sample rate."""
        return torch.arange(self.n_fft // 2 + 1, dtype=torch.float64) * (self.sample_rate / self.n_fft)

    @property
    def psd(self) -> Float64[Tensor, " bins"]:
        """Average power per Hz.

        Raises:
            ValueError: before the first clip.

        """
        if not self.count:
            raise ValueError(f"there are no {self.name} yet; call update with at least one clip first")
        return self._state["sum"] / self._state["weight"]

    @property
    def error(self) -> Float64[Tensor, " bins"]:
        """Standard error of `psd` over clips; NaN for one clip."""
        psd, s = self.psd, self._state
        residual = (s["squares"] - 2 * psd * s["cross"] + psd.square() * s["weights"]).clamp_min(0)
        factor = self.count / (self.count - 1) if self.count > 1 else math.nan
        return (residual * factor).sqrt() / s["weight"]

    @property
    def seconds(self) -> float:
        """Length of all frames seen, half overlaps counted once."""
        return float(self._state["weight"] + self.count) * self.n_fft / (2 * self.sample_rate)

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors, to save or to send to another rank."""
        sums = {name: value.clone() for name, value in self._state.items()}
        return {**sums, "count": torch.tensor(self.count), "grid": torch.tensor([self.sample_rate, self.n_fft])}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.LongTermSpectrum.state_dict]."""
        take_state("LongTermSpectrum", state, {*_SUMS, "count", "grid"})
        self.sample_rate, self.n_fft = (int(n) for n in state["grid"])
        self.reset()
        self._add(state)
        self.count = int(state["count"])

    def _frames(self, clip: Tensor) -> tuple[Tensor, int]:
        """Sum of the frames' densities, and their number."""
        window = torch.hann_window(self.n_fft, dtype=torch.float64)
        frames = clip.double().unfold(0, self.n_fft, self.n_fft // 2)
        power = torch.fft.rfft(frames * window).abs().square().sum(0)
        power[1:-1] *= 2
        return power / (self.sample_rate * window.square().sum()), len(frames)

    def _add(self, state: Mapping[str, Tensor]) -> None:
        self._state = {name: self._state[name] + state[name].cpu().double() for name in _SUMS}


def check_same_grid(a: LongTermSpectrum, b: LongTermSpectrum) -> None:
    """Raise ValueError unless two spectra have the same frequencies."""
    if (a.sample_rate, a.n_fft) != (b.sample_rate, b.n_fft):
        raise ValueError(
            f"both spectra must have one sample rate and n_fft, got {a.sample_rate} Hz, {a.n_fft} and "
            f"{b.sample_rate} Hz, {b.n_fft}; resample the clips to one rate first"
        )
