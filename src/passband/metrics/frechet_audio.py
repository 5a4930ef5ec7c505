"""Fréchet distance between sets of audio clips, over the vectors of an embedding."""

from jaxtyping import Float
from torch import Tensor

from passband.metrics._clips import check_rate
from passband.metrics.audio_embeddings import AudioEmbedding
from passband.metrics.frechet import FrechetDistance, FrechetResult
from passband.metrics.sides import RealAndFake
from passband.metrics.statistics import FeatureStatistics


class FrechetAudioDistance(RealAndFake):
    """Fréchet audio distance (FAD) of generated from real clips: any number of clips, of any length, constant memory.

    The [`frechet_distance`][passband.metrics.frechet_distance] of all windows' vectors. Clips of another sample rate
    are resampled to the embedding's (soxr, VHQ). What is said there of few samples holds here for windows: from N
    windows the distance comes out too large by about c/N, so compare at equal counts only; with fewer windows than the
    embedding has values it says little.

    Args:
        embedding: see [`load_audio_embedding`][passband.metrics.load_audio_embedding].
        real: statistics of the real clips, computed before by the same embedding.

    Raises:
        ValueError: if `real` are statistics of another embedding.

    Example:
        >>> import torch
        >>> from passband.metrics import FrechetAudioDistance, MelStatistics
        >>> distance = FrechetAudioDistance(MelStatistics())
        >>> clip = 0.1 * torch.randn(64000, generator=torch.Generator().manual_seed(0))
        >>> distance.update(real=clip, fake=clip / 2, sample_rate=16000)
        >>> round(distance.compute().distance / 32, 1)  # 6.02 dB in each of 32 bands, squared
        36.2

    Source:
        Kilgour et al., arXiv:1812.08466 (theirs over VGGish).

    """

    real: FeatureStatistics
    fake: FeatureStatistics

    def __init__(self, embedding: AudioEmbedding, *, real: FeatureStatistics | None = None) -> None:
        if not isinstance(embedding, AudioEmbedding):
            raise TypeError(
                f"embedding must be an AudioEmbedding, got {type(embedding).__name__}; "
                "load_audio_embedding makes one of a name or a path"
            )
        self.embedding = embedding
        self._distance = FrechetDistance(embedding.name, real=real)
        self.real, self.fake = self._distance.real, self._distance.fake

    def update(
        self,
        *,
        real: Float[Tensor, "*channel samples"] | None = None,
        fake: Float[Tensor, "*channels others"] | None = None,
        sample_rate: int,
    ) -> None:
        """Add a real clip, a generated one, or both (their lengths may differ).

        Args:
            real: (samples,) or (1, samples), in [-1, 1].
            fake: likewise.
            sample_rate: of both.

        Raises:
            MissingExtraError: if the clip must be resampled and soxr is not installed.
            ValueError: if a clip is too short for the embedding, or a sample is not finite; nothing is added then.

        """
        check_rate("sample_rate", sample_rate)
        given = [(name, audio) for name, audio in (("real", real), ("fake", fake)) if audio is not None]
        vectors = {name: self.embedding.of_clip(audio, sample_rate, f"{name} audio") for name, audio in given}
        for name, rows in vectors.items():
            (self.real if name == "real" else self.fake).update(rows)

    def compute(self) -> FrechetResult:
        """The distance between all real and all generated windows seen so far; its counts are windows.

        Raises:
            ValueError: if there are fewer than 2 windows on a side.

        """
        return self._distance.compute()
