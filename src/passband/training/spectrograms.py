"""The mel spectrograms that a vocoder is given: of training batches, and of the clips that a run shows."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from passband.data import AudioFolder
from passband.models import DiffWave
from passband.training.build import build_audio
from passband.training.config import RecipeError
from passband.training.sections import AudioData, build_mel
from passband.transforms import MelSpectrogram


def vocoder_mel(network: nn.Module, data: Any) -> MelSpectrogram | None:
    """The mel spectrogram of the data that a network is given, None for a network without.

    Args:
        network: any network.
        data: a recipe's section `data`.

    Raises:
        RecipeError: if the network was made for other spectrograms.

    """
    if not isinstance(network, DiffWave) or network.unconditional or not isinstance(data, AudioData):
        return None
    mel = build_mel(data)
    wanted, got = (network.config["n_mels"], network.hop), (mel.n_mels, mel.hop_length)
    if wanted != got:
        raise RecipeError(
            f"the network takes spectrograms of {wanted[0]} bands with a frame every {wanted[1]} samples, the data "
            f"give {got[0]} bands with one every {got[1]}: set data.mel.n_mels and data.mel.hop_length to the network's"
        )
    return mel


def crop_spectrogram(
    mel: MelSpectrogram, surroundings: Float[Tensor, "batch longer"], length: int
) -> Float[Tensor, "batch mels frames"]:
    """The columns of the whole file's spectrogram that belong to a crop of `length` samples."""
    return mel.normalized(surroundings, padded=True)[..., : length // mel.hop_length]


class ShownClips:
    """Held-out crops that a run's own samples speak: number `seed` of them, in turn.

    Args:
        data: a recipe's section `data`.
        trained: its data set, which takes their place where nothing is held out.

    """

    def __init__(self, data: AudioData, trained: AudioFolder) -> None:
        self.data, self._trained = data, trained
        self._found: AudioFolder | None = None

    def spectrograms(
        self, mel: MelSpectrogram, seeds: Sequence[int], device: torch.device
    ) -> Float[Tensor, "batch mels frames"]:
        """Those of some seeds, on the device."""
        if self._found is None:
            self._found = self._held_out()
        found = self._found.read([seed % len(self._found) for seed in seeds]).to(device)
        return crop_spectrogram(mel, found, self.data.length)

    def _held_out(self) -> AudioFolder:
        if self.data.subset != "train":
            return self._trained
        for subset in ("eval", "test"):
            try:
                return build_audio(self.data.model_copy(update={"subset": subset, "limit": None}))
            except ValueError:
                continue  # nothing is held out under that name
        return self._trained
