"""From the latents that a network draws to images."""

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import Discriminator, TypeAdapter
from torch import Tensor

from passband._files import replace_folder
from passband.integrations.autoencoder import Autoencoder, load_network
from passband.training.checkpoint import CheckpointError, checkpoints
from passband.training.config import RecipeError
from passband.training.sections import AnyData

#: Where a run on latents keeps the autoencoder that made them, and what is known of them.
AUTOENCODER, LATENTS = "autoencoder", "latents.json"

_DATA: TypeAdapter[AnyData] = TypeAdapter(Annotated[AnyData, Discriminator("name")])


class LatentDecoder:
    """The decoder behind standardised latents.

    Args:
        autoencoder: the one that made the latents.
        shift: subtracted from each channel when they were standardised.
        scale: by which each was then divided.
        image_shape: (channels, height, width) of the images.
        data: the settings that made the images, a recipe's section `data`; None where they are not known.

    Example:
        >>> import torch
        >>> from diffusers import AutoencoderKL
        >>> from passband.integrations.autoencoder import Autoencoder
        >>> from passband.training.decode import LatentDecoder
        >>> network = AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4,
        ...     down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)
        >>> decode = LatentDecoder(Autoencoder(network), [0.0] * 4, [2.0] * 4, (3, 16, 24))
        >>> decode(torch.randn(1, 4, 8, 12)).shape
        torch.Size([1, 3, 16, 24])

    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        shift: list[float],
        scale: list[float],
        image_shape: tuple[int, int, int],
        data: AnyData | None = None,
    ) -> None:
        self.autoencoder = autoencoder
        self.shift = torch.tensor(shift)[:, None, None]
        self.scale = torch.tensor(scale)[:, None, None]
        self.image_shape = image_shape
        self.data = data

    @torch.no_grad()
    def __call__(
        self, latents: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch image_channels rows columns"]:
        """The images of standardised latents, about [-1, 1], not clipped."""
        own = latents * self.scale.to(latents) + self.shift.to(latents)
        return self.autoencoder.decode(own)

    def to(self, device: torch.device | str) -> "LatentDecoder":
        """Move the autoencoder to a device, and return self."""
        self.autoencoder.to(device)
        return self


def keep_autoencoder(latents: Path, root: Path) -> None:
    """Copy the autoencoder of encoded latents, and what is known of them, into a run's folder.

    Raises:
        RecipeError: if the run has been trained on other latents.

    """
    kept = root / AUTOENCODER / LATENTS
    if kept.is_file() and checkpoints(root / "checkpoints") and _scaled(kept) != _scaled(latents / LATENTS):
        raise RecipeError(
            f"the run in {str(root)!r} was trained on other latents than those in {str(latents)!r} now (another "
            "autoencoder or scale): give data.path of the former ones, or start another run with another --out"
        )

    def fill(folder: Path) -> None:
        shutil.copytree(latents / AUTOENCODER, folder, dirs_exist_ok=True)
        shutil.copy(latents / LATENTS, folder / LATENTS)

    replace_folder(root / AUTOENCODER, fill)


def recorded_data(facts_file: Path) -> AnyData | None:
    """The settings that made the images, as a latents.json records them; None where it does not.

    Raises:
        CheckpointError: if the file cannot be read.

    """
    try:
        data = json.loads(facts_file.read_text())["data"]
        return None if data is None else _DATA.validate_python(data)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{str(facts_file)!r} cannot be read ({error}): encode the images again") from error


def _scaled(file: Path) -> list[Any]:
    """What latents of one space have in common."""
    facts = json.loads(file.read_text())
    return [facts.get(name) for name in ("autoencoder", "shift", "scale")]


def latent_decoder(folder: Path, facts_file: Path | None = None) -> LatentDecoder:
    """The decoder of a folder that holds an autoencoder and the latents.json of what it encoded.

    Args:
        folder: the autoencoder's.
        facts_file: the latents.json, where it lies elsewhere.

    Raises:
        CheckpointError: if one of them is missing or damaged.

    """
    try:
        facts: dict[str, Any] = json.loads((facts_file or folder / LATENTS).read_text())
        channels, height, width = (int(side) for side in facts["image_shape"])
        data = None if facts.get("data") is None else _DATA.validate_python(facts["data"])
        autoencoder = Autoencoder(load_network(folder).eval(), str(folder))
        return LatentDecoder(autoencoder, facts["shift"], facts["scale"], (channels, height, width), data)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"the autoencoder that decodes these latents cannot be read from {str(folder)!r} ({error}): copy the "
            f"folder back from where the latents were encoded, its {LATENTS} with it"
        ) from error
