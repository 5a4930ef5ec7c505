"""DINOv2 from a folder of transformers, as a network that gives fields."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from passband._checks import import_extra
from passband.integrations._named import PREFIX
from passband.integrations._resize import Resize

_TYPES = ("dinov2", "dinov2_with_registers")
_CELL = 16
"""Pixels per position of the grid, as in REPA: 256 pixels are 224 of the network's, 16 patches."""


class _PatchTokens(nn.Module):
    """DINOv2's normed patch tokens as a field."""

    def __init__(self, network: Any, patch: tuple[int, int]) -> None:
        super().__init__()
        self.network, self.patch = network, patch
        self.skipped = 1 + int(getattr(network.config, "num_register_tokens", 0))

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch features rows columns"]:
        tokens: Tensor = self.network(pixel_values=x).last_hidden_state[:, self.skipped :]
        grid = x.shape[2] // self.patch[0], x.shape[3] // self.patch[1]
        return tokens.transpose(1, 2).reshape(len(x), -1, *grid)


def load_dinov2(folder: Path, side: int | None = None) -> tuple[nn.Module, Resize, int]:
    """The network from a folder of transformers, the size that it wants an image in, and its width.

    Args:
        folder: what `save_pretrained` has written: config.json and safetensors.
        side: the shorter side, rounded to whole patches; None: one patch for every 16 pixels.

    Raises:
        FileNotFoundError: if there is no such folder.
        MissingExtraError: if transformers is not installed.
        ValueError: if it holds another network, or lacks weights.

    """
    transformers = import_extra("transformers", "integrations")
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"no config.json in {folder}; give a folder that DINOv2's save_pretrained has written")
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    if config.model_type not in _TYPES:
        raise ValueError(
            f"{folder} holds a {config.model_type!r}, expected DINOv2 ({' or '.join(_TYPES)}); "
            f"other networks come as {PREFIX}package.name"
        )
    network = _pretrained(transformers, folder)
    given = config.patch_size
    patch = (int(given), int(given)) if isinstance(given, int) else (int(given[0]), int(given[1]))
    return _PatchTokens(network, patch), _patches(patch, side), int(config.hidden_size)


def _pretrained(transformers: Any, folder: Path) -> nn.Module:
    try:
        network, info = transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except OSError as error:
        raise ValueError(f"cannot read the weights in {folder}, which must be safetensors: {error}") from error
    if missing := sorted(info["missing_keys"]):
        raise ValueError(
            f"the weights in {folder} lack {len(missing)} of DINOv2's tensors, the first is {missing[0]!r}"
        )
    return network  # type: ignore[no-any-return]


def _patches(patch: tuple[int, int], side: int | None) -> Resize:
    """Sides of whole patches: one per 16 pixels, or as many as fit best where the shorter side is given."""

    def resize(height: int, width: int) -> tuple[int, int]:
        factor = 1.0 if side is None else side / min(height, width)
        cells = (_CELL, _CELL) if side is None else patch
        rows, columns = max(1, round(height * factor / cells[0])), max(1, round(width * factor / cells[1]))
        return rows * patch[0], columns * patch[1]

    return resize
