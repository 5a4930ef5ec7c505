"""Audio that a vocoder makes of clips, as files named as these, shared among processes and continued."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from passband._seeds import seed_for
from passband.data import save_audio
from passband.sampling import vocode
from passband.training.clips import Clip, Clips
from passband.training.draw import Drawing, OnDrawn, claim, in_turns
from passband.training.ranks import Ranks
from passband.training.sampler import sampler_options

#: Frames that the network sees at once, where nothing else is asked for.
CHUNK_FRAMES = 1024


@dataclass(frozen=True)
class Vocoding:
    """How a vocoder speaks clips.

    Args:
        drawing: the network, and how its samples are drawn; its batch size counts chunks.
        seed: with a clip's name, what its noise is drawn from.
        chunk: seconds that the network sees at once, 0 for the whole clip; default: 1024 frames.

    Raises:
        ValueError: if the network is no vocoder, or the chunk is negative.

    """

    drawing: Drawing
    seed: int = 0
    chunk: float | None = None

    def __post_init__(self) -> None:
        if not self.drawing.found.is_vocoder:
            raise ValueError("this network makes no audio of spectrograms: draw samples of it without --input")
        if self.chunk is not None and self.chunk < 0:
            raise ValueError(f"--chunk is a length in seconds, 0 for the whole clip; got {self.chunk:g}")

    @property
    def chunk_frames(self) -> int | None:
        """Frames that the network sees at once; None: all."""
        mel = self.drawing.found.mel
        assert mel is not None
        if self.chunk is None:
            return CHUNK_FRAMES
        return max(1, round(self.chunk * mel.sample_rate / mel.hop_length)) if self.chunk else None

    @property
    def note(self) -> dict[str, Any]:
        """What tells audio of one kind from other audio; kept in the folder as settings.json."""
        return self.drawing.note | {"seed": self.seed, "chunk_frames": self.chunk_frames}

    def speak(self, clip: Clip, name: str, device: torch.device | str = "cpu") -> Float[Tensor, " samples"]:
        """The audio of a clip, on the CPU.

        Args:
            clip: its spectrogram and length.
            name: what its noise is drawn from, with the seed.
            device: where the network is.

        """
        found = self.drawing.found
        assert found.mel is not None
        audio = vocode(
            found.model,
            found.process,
            clip.spectrogram,
            hop_length=found.mel.hop_length,
            seed=seed_for(self.seed, 0, f"clip {name}"),
            chunk_frames=self.chunk_frames,
            batch_size=self.drawing.batch_size,
            device=device,
            unforced_ok=found.forcing is None,  # as it was restored: without a recorded one on insistence alone
            **sampler_options(self.drawing.settings, found.process),
        )
        return audio[: clip.samples].float().cpu()

    def draw(
        self,
        folder: Path,
        clips: Clips,
        ranks: Ranks | None = None,
        on_drawn: OnDrawn | None = None,
        *,
        suffix: str = ".wav",
    ) -> None:
        """Speak the clips that the folder lacks.

        Args:
            folder: where the files lie, or shall lie.
            clips: what to speak.
            ranks: the processes that share the work, of which this is one; all must call this.
            on_drawn: called after each clip of this process.
            suffix: .wav or .flac.

        Raises:
            ValueError: if the folder holds audio made with other settings, a clip cannot be read, or does not fit the
                network, or the audio of one is not finite.

        """
        ranks = Ranks() if ranks is None else ranks
        claim(folder, self.note | {"clips": str(Path(clips.path).expanduser().resolve())}, ranks)
        lacking = ranks.first(missing_clips(folder, clips.names, suffix))
        self.drawing.found.model.to(ranks.device)
        there = len(clips) - len(lacking)
        in_turns(
            lacking,
            lambda number: self._draw(number, clips, folder, suffix, ranks.device),
            ranks,
            on_done=None if on_drawn is None else lambda done: on_drawn(there + done, len(clips)),
        )

    def _draw(self, number: int, clips: Clips, folder: Path, suffix: str, device: torch.device) -> list[str]:
        """Speak a clip and write it; or nothing, where that is not finite: its name."""
        found, name = self.drawing.found, clips.names[number]
        assert found.mel is not None
        audio = self.speak(clips.read(number, found.mel), name, device)
        if not bool(torch.isfinite(audio).all()):
            return [name]
        save_audio(folder / f"{name}{suffix}", audio, found.mel.sample_rate)
        return []


def missing_clips(folder: Path, names: list[str], suffix: str) -> list[int]:
    """The numbers of the clips whose audio the folder lacks."""
    return [number for number, name in enumerate(names) if not (folder / f"{name}{suffix}").is_file()]
