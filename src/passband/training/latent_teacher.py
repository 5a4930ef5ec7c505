"""VA-VAE's baseline: an autoencoder's latents are drawn to a teacher's features of the image."""

import torch
from torch import Tensor, nn

from passband.integrations.teachers import load_teacher
from passband.matching import LatentAlignment
from passband.training.batches import as_pixels
from passband.training.sections import TeacherTerm


class LatentTeacher(nn.Module):
    """A teacher, and the alignment with its features, whose projection is trained.

    Args:
        settings: the term of the recipe.
        channels: of a latent.
        seed: of the projection's first weights.
        device: where the teacher runs.

    Raises:
        ValueError, OSError: if there is no such teacher.

    """

    def __init__(self, settings: TeacherTerm, channels: int, seed: int, device: torch.device) -> None:
        super().__init__()
        # In a list, so that it is no part of the module: it is neither trained nor saved.
        self._teacher = [load_teacher(settings.teacher, device)]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.alignment = LatentAlignment(
                channels,
                self._teacher[0].width,
                cos_margin=settings.cos_margin,
                distance_margin=settings.distance_margin,
            )

    def forward(self, latent: Tensor, images: Tensor) -> Tensor:
        """The loss, a scalar."""
        found: Tensor = self.alignment(latent, self._teacher[0](as_pixels(images)))
        return found
