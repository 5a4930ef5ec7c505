"""A waveform of any length from its spectrogram."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from passband._checks import check_floating, check_integer
from passband.forcing import check_forced
from passband.process import Process
from passband.sampling.grid import Spacing
from passband.sampling.noise import checked_device
from passband.sampling.predict import Model
from passband.sampling.sampler import sample
from passband.sampling.solvers import Solver

#: Frames that a network's upsampling of the spectrogram reaches over, beside its receptive field.
_UPSAMPLING = 2
#: Of a network that does not tell its receptive field.
_OVERLAP = 32


def vocode(
    model: Model,
    process: Process,
    spectrogram: Float[Tensor, "mels frames"],
    *,
    hop_length: int,
    seed: int = 0,
    steps: int = 50,
    solver: str | Solver = "euler",
    spacing: Spacing | None = None,
    times: Sequence[float] | Tensor | None = None,
    clip: float | None = None,
    chunk_frames: int | None = 1024,
    overlap_frames: int | None = None,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, int], None] | None = None,
    unforced_ok: bool = False,
) -> Float[Tensor, " samples"]:
    r"""The waveform of a spectrogram of any length, by one run of the sampler over the whole of it.

    In every step the network sees overlapping chunks, and its predictions are joined: of each overlap the outer
    quarters, where a chunk lacks its surroundings, are left out, and across the middle half the two cross-fade
    linearly. Where a quarter of the overlap covers what the network sees on one side, as by default for a network that
    has a `receptive_field`, chunks change nothing but the last digits.

    Args:
        model: a network of (audio, times, spectrogram=...), such as [`DiffWave`][passband.models.DiffWave], in
            evaluation mode.
        process: the process that it was trained with.
        spectrogram: (n_mels, frames), as in training.
        hop_length: samples per frame.
        seed: of all noise, that of the start and of a stochastic solver; the waveform depends on nothing else random.
        steps: number of steps.
        solver: `euler` (DDIM), `heun`, `ancestral` (DDPM), or a solver object.
        spacing: see [`time_grid`][passband.sampling.time_grid].
        times: the times themselves, as from [`schedule_times`][passband.sampling.schedule_times], in place of steps
            and spacing.
        clip: clamp each clean estimate to [-clip, clip].
        chunk_frames: frames of a chunk; None: the whole file. Memory grows with chunk_frames x batch_size.
        overlap_frames: frames that neighbours share at least, 0 to chunk_frames - 1; default: see above, 32 for a
            network that does not tell its receptive field, and half a chunk at most.
        batch_size: chunks at once.
        device: where to sample, which is where the network is.
        on_step: called with (steps done, steps in all).
        unforced_ok: as [`sample`][passband.sample] has it.

    Returns:
        The waveform on the device, (frames x hop_length,), float32, about [-1, 1].

    Raises:
        TypeError: if an argument is of another kind than above.
        ValueError: if the spectrogram is empty, not finite, or of other bands or hop than the network's, the network
            takes none, or the overlap is not below the chunk; and as [`sample`][passband.sample].

    Example:
        >>> import torch
        >>> from passband import VP
        >>> from passband.models import DiffWave
        >>> from passband.sampling import vocode
        >>> network = DiffWave(residual_layers=2, residual_channels=8).eval()
        >>> vocode(network, VP(), torch.rand(80, 300), hop_length=256, steps=2, chunk_frames=100).shape
        torch.Size([76800])

    Source: Kong et al. 2021, "DiffWave" (arXiv:2009.09761), section 3; the joining in every step as Bar-Tal et al.
    2023, "MultiDiffusion" (arXiv:2302.08113), Eq. 5, with weights that fade.
    """
    _check_input(model, spectrogram, hop_length)
    if not unforced_ok:
        check_forced(model, process)
    frames = spectrogram.shape[1]
    check_integer("batch_size", batch_size)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    chunk, overlap = _sizes(model, frames, hop_length, chunk_frames, overlap_frames)
    chunked = InChunks(model, frames, chunk, overlap, hop_length, batch_size)
    return sample(
        chunked,
        process,
        (1, frames * hop_length),
        seeds=[seed],
        steps=steps,
        solver=solver,
        spacing=spacing,
        times=times,
        conditioning={"spectrogram": spectrogram[None].to(checked_device(device))},
        clip=clip,
        device=device,
        on_step=on_step,
    )[0, 0]


class InChunks(nn.Module):
    """A network of waveforms that is called on overlapping chunks of one, all of the same length.

    Args:
        model: the network, called with (audio, times, spectrogram=...).
        frames: of the whole.
        chunk: frames of a chunk, at most all.
        overlap: frames that neighbours share at least, below chunk.
        hop: samples per frame.
        batch_size: chunks at once.

    """

    def __init__(self, model: Model, frames: int, chunk: int, overlap: int, hop: int, batch_size: int = 1) -> None:
        super().__init__()
        self.model = model
        self.frames, self.chunk, self.overlap, self.hop, self.batch_size = frames, chunk, overlap, hop, batch_size
        count = 1 if chunk >= frames else math.ceil((frames - overlap) / (chunk - overlap))
        # Spread evenly, so that the last chunk is as long as the others.
        self.starts = [round(i * (frames - chunk) / max(count - 1, 1)) for i in range(count)]
        total = torch.zeros(frames * hop)
        for start in self.starts:
            total[start * hop : (start + chunk) * hop] += self._window(start)
        self.total = total

    def weights(self, start: int) -> Float[Tensor, " samples"]:
        """What the prediction of the chunk that begins at this frame counts; over all chunks the sum is 1."""
        return self._window(start) / self.total[start * self.hop : (start + self.chunk) * self.hop]

    def forward(
        self, audio: Float[Tensor, "1 1 samples"], t: Float[Tensor, "1"], spectrogram: Float[Tensor, "1 mels frames"]
    ) -> Float[Tensor, "1 1 samples"]:
        """The network's prediction for the whole."""
        spectrogram = spectrogram.to(audio.dtype)
        if len(self.starts) == 1:
            return self._call(audio, t, spectrogram)
        joined = torch.zeros_like(audio)
        for first in range(0, len(self.starts), self.batch_size):
            starts = self.starts[first : first + self.batch_size]
            parts = torch.cat([audio[..., start * self.hop : (start + self.chunk) * self.hop] for start in starts])
            frames = torch.cat([spectrogram[..., start : start + self.chunk] for start in starts])
            for start, pred in zip(starts, self._call(parts, t.expand(len(starts)), frames), strict=True):
                weights = self.weights(start).to(pred)
                joined[..., start * self.hop : (start + self.chunk) * self.hop] += weights * pred
        return joined

    def _call(self, audio: Tensor, t: Tensor, spectrogram: Tensor) -> Tensor:
        return self.model(audio, t, spectrogram=spectrogram)  # type: ignore[no-any-return]

    def _window(self, start: int) -> Tensor:
        """0 over the outer quarter of the overlap, 1 from the inner one on; no slope at the ends of the whole."""
        length, overlap = self.chunk * self.hop, self.overlap * self.hop
        place = torch.arange(length) + 0.5
        rise = ((place / overlap - 0.25) * 2).clamp(0, 1) if overlap else torch.ones(length)
        left = rise if start > 0 else torch.ones(length)
        right = rise.flip(0) if start + self.chunk < self.frames else torch.ones(length)
        return torch.minimum(left, right)


def _sizes(
    model: Model, frames: int, hop: int, chunk_frames: int | None, overlap_frames: int | None
) -> tuple[int, int]:
    """Chunk and overlap in frames."""
    for name, value, least in (("chunk_frames", chunk_frames, 1), ("overlap_frames", overlap_frames, 0)):
        if value is not None:
            check_integer(name, value)
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
    if chunk_frames is None:
        return frames, 0
    if overlap_frames is not None and overlap_frames >= chunk_frames:
        raise ValueError(
            f"overlap_frames must be below chunk_frames, got {overlap_frames} and {chunk_frames}: "
            "take larger chunks or less overlap"
        )
    if overlap_frames is None:
        field = getattr(model, "receptive_field", None)
        wanted = _OVERLAP if field is None else 4 * (math.ceil(field / hop) + _UPSAMPLING)
        overlap_frames = min(wanted, chunk_frames // 2)
    return min(chunk_frames, frames), overlap_frames


def _check_input(model: Model, spectrogram: Tensor, hop_length: int) -> None:
    check_integer("hop_length", hop_length)
    check_floating("spectrogram", spectrogram)
    if spectrogram.ndim != 2 or 0 in spectrogram.shape:
        raise ValueError(
            f"spectrogram must be that of one file, (n_mels, frames), got shape {tuple(spectrogram.shape)}"
        )
    if getattr(model, "unconditional", False):
        raise ValueError(
            "this network is unconditional and takes no spectrogram: draw waveforms with passband.sample, "
            "or give a network that was trained with spectrograms"
        )
    bands = getattr(model, "config", {}).get("n_mels", len(spectrogram))
    if bands != len(spectrogram):
        raise ValueError(
            f"the network takes spectrograms of {bands} bands, got {tuple(spectrogram.shape)}: expected ({bands}, "
            "frames), made as in its training"
        )
    hop = getattr(model, "hop", hop_length)
    if hop_length < 1 or hop != hop_length:
        raise ValueError(f"hop_length must be the network's {hop} samples per frame, got {hop_length}")
    if not bool(spectrogram.isfinite().all()):
        raise ValueError("spectrogram has NaN or infinity: look at the audio or the file that it was made of")
