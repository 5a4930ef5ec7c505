"""LPIPS: a perceptual distance with learned weights, on a VGG16 or an AlexNet whose published weights load."""

import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from passband._checks import check_choice, import_extra
from passband.models.perceptual import PerceptualDistance, unit_difference

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_SUFFIXES = (".safetensors", ".pt", ".pth")


@dataclass(frozen=True)
class _Layout:
    """A trunk: for each slice the layers by their number in torchvision, `conv` (widths[i] out) or `pool`."""

    widths: tuple[int, ...]
    min_size: int
    kernels: Mapping[int, tuple[int, int, int]]  # of the convolutions: kernel, stride, padding
    pools: tuple[int, ...]
    pool_size: int
    ends: tuple[int, ...]  # of the slices, each at a ReLU

    def convolutions(self, slice_number: int) -> list[int]:
        start = self.ends[slice_number - 1] if slice_number else 0
        return [i for i in self.kernels if start <= i < self.ends[slice_number]]


_LAYOUTS = {
    "vgg": _Layout(
        widths=(64, 128, 256, 512, 512),
        min_size=16,
        kernels=dict.fromkeys((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), (3, 1, 1)),
        pools=(4, 9, 16, 23),
        pool_size=2,
        ends=(4, 9, 16, 23, 30),
    ),
    "alex": _Layout(
        widths=(64, 192, 384, 256, 256),
        min_size=31,
        kernels={0: (11, 4, 2), 3: (5, 1, 2), 6: (3, 1, 1), 8: (3, 1, 1), 10: (3, 1, 1)},
        pools=(2, 5),
        pool_size=3,
        ends=(2, 5, 8, 10, 12),
    ),
}


class LPIPS(PerceptualDistance):
    r"""Learned perceptual image patch similarity, version 0.1, frozen.

    $d(x, y) = \sum_l \frac{1}{H_l W_l} \sum_{hw} w_l \cdot (\hat{x}^l_{hw} - \hat{y}^l_{hw})^2$, the features of five
    layers, each position's vector brought to length 1. Images in [-1, 1] are shifted by (-0.030, -0.088, -0.188) and
    divided by (0.458, 0.448, 0.450) first.

    Its weights are random: [`load_lpips`][passband.models.load_lpips] reads the published ones. The state dict has the
    names of the package lpips (`net.slice1.0.weight`, `lin0.model.1.weight`); that package's second names for the same
    weights (`lins.0.…`) are passed over.

    Args:
        net: `vgg` or `alex`.
        widths: channels of the five slices, if others than published.

    Raises:
        ValueError: if there is no such network, or the widths are not five; when called, if a side is under 16 (`vgg`)
            or 31 (`alex`).

    Example:
        >>> import torch
        >>> from passband.models import LPIPS
        >>> distance = LPIPS("vgg", widths=(4, 4, 8, 8, 8))
        >>> x = torch.zeros(2, 3, 32, 48)
        >>> distance(x, x)
        tensor([0., 0.])

    Source:
        Zhang et al., arXiv:1801.03924, Eq. 1.

    """

    def __init__(self, net: str = "vgg", *, widths: Sequence[int] | None = None) -> None:
        super().__init__()
        check_choice("net", net, _LAYOUTS)
        layout = _LAYOUTS[net]
        self.widths = tuple(layout.widths if widths is None else widths)
        if len(self.widths) != len(layout.widths):
            raise ValueError(f"widths must be {len(layout.widths)} numbers, got {self.widths}")
        self._min_size = layout.min_size
        self.scaling_layer = _Scaling()
        self.net = _Trunk(layout, self.widths)
        for i, width in enumerate(self.widths):
            self.add_module(f"lin{i}", _Linear(width))
        self.register_load_state_dict_pre_hook(_drop_second_names)  # type: ignore[no-untyped-call]
        self.freeze()

    def distance(
        self, x: Float[Tensor, "batch 3 height width"], y: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, " batch"]:
        """The sum over the five layers."""
        if min(x.shape[2:]) < self._min_size:
            raise ValueError(
                f"LPIPS on this network needs sides of {self._min_size} pixels or more, "
                f"got {x.shape[2]}x{x.shape[3]}; enlarge the images"
            )
        pairs = zip(self.net(self.scaling_layer(x)), self.net(self.scaling_layer(y)), strict=True)
        layers = [self.get_submodule(f"lin{i}")(unit_difference(a, b)) for i, (a, b) in enumerate(pairs)]
        return torch.stack([layer.mean((1, 2, 3)) for layer in layers]).sum(0)


def load_lpips(weights: str | Path | Sequence[str | Path]) -> LPIPS:
    """LPIPS with its weights, from one file or several; nothing is unpickled but tensors.

    Together the files, safetensors or PyTorch's, hold the trunk and the five linear weights: the state dict of an
    `lpips.LPIPS`, or torchvision's `vgg16` or `alexnet` (`features.0.weight`, …; its classifier is not needed) and
    beside it the `vgg.pth` or `alex.pth` of lpips' version 0.1 (`lin0.model.1.weight`, …). The trunk's kind and widths
    are seen in its tensors.

    Args:
        weights: the file, the files, or a folder that holds them and no other weights.

    Raises:
        FileNotFoundError: if there is no such file, or none in the folder.
        ValueError: if a file holds no tensors by name, or weights are missing or of other shapes; the message names
            them.

    Example:
        >>> import tempfile, torch
        >>> from passband.models import LPIPS, load_lpips
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(LPIPS("vgg", widths=(4, 4, 8, 8, 8)).state_dict(), f"{folder}/lpips.pt")
        ...     load_lpips(f"{folder}/lpips.pt").widths
        (4, 4, 8, 8, 8)

    """
    files = _files([weights] if isinstance(weights, str | Path) else weights)
    state: dict[str, Tensor] = {}
    for file in files:
        state |= _published_names(_read(file), file)
    shown = ", ".join(str(file) for file in files)
    first = state.get("net.slice1.0.weight")
    if first is None:
        raise ValueError(
            f"no trunk in {shown}: expected 'features.0.weight' (torchvision's vgg16 or alexnet) or "
            "'net.slice1.0.weight' (lpips); give that file too"
        )
    kind = "alex" if first.shape[-1] == _LAYOUTS["alex"].kernels[0][0] else "vgg"
    expected = LPIPS(kind, widths=(1, 1, 1, 1, 1)).state_dict()
    needed = [key for key in expected if not key.startswith("scaling_layer.")]
    if missing := [key for key in needed if key not in state]:
        linear = " (the linear weights: lpips/weights/v0.1 in its package)" if missing[0].startswith("lin") else ""
        raise ValueError(
            f"{len(missing)} of the {len(needed)} weights of LPIPS on {kind!r} are missing in {shown}: "
            f"{', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}{linear}; give the file that holds them too"
        )
    layout = _LAYOUTS[kind]
    lasts = [layout.convolutions(i)[-1] for i in range(len(layout.ends))]
    module = LPIPS(kind, widths=[len(state[f"net.slice{i + 1}.{last}.weight"]) for i, last in enumerate(lasts)])
    try:
        module.load_state_dict({**module.state_dict(), **{key: state[key] for key in expected if key in state}})
    except RuntimeError as error:
        raise ValueError(f"weights of LPIPS on {kind!r} in {shown} have other shapes: {error}") from error
    return module


class _Scaling(nn.Module):
    """From [-1, 1] to the statistics that the trunks were trained with."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.scale


class _Trunk(nn.Module):
    """The convolutions of a classifier in five slices, their layers named by torchvision's numbers."""

    def __init__(self, layout: _Layout, widths: Sequence[int]) -> None:
        super().__init__()
        inputs, start = 3, 0
        for number, (end, width) in enumerate(zip(layout.ends, widths, strict=True), start=1):
            part = nn.Sequential()
            for i in range(start, end):
                if i in layout.kernels:
                    part.add_module(str(i), nn.Conv2d(inputs, width, *layout.kernels[i]))
                    inputs = width
                else:
                    part.add_module(str(i), nn.MaxPool2d(layout.pool_size, 2) if i in layout.pools else nn.ReLU())
            self.add_module(f"slice{number}", part)
            start = end

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for part in self.children():
            x = part(x)
            maps.append(x)
        return maps


class _Linear(nn.Module):
    """A weighted sum over the channels; the first of its two modules was lpips' dropout in training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        convolution = nn.Conv2d(width, 1, 1, bias=False)
        nn.init.uniform_(convolution.weight)  # a distance has no negative weights
        self.model = nn.Sequential(nn.Identity(), convolution)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)  # type: ignore[no-any-return]


def _drop_second_names(_module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    for key in [key for key in state if key.startswith(f"{prefix}lins.")]:
        del state[key]


def _files(given: Sequence[str | Path]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, given):
        found = sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES) if path.is_dir() else [path]
        if not found or not found[0].is_file():
            raise FileNotFoundError(f"no weights at {path}; give a file, or a folder with {', '.join(_SUFFIXES)}")
        files += found
    return files


def _read(path: Path) -> dict[str, Tensor]:
    unreadable: list[type[Exception]] = [pickle.UnpicklingError, RuntimeError, EOFError]
    try:
        if path.suffix == ".safetensors":
            unreadable.append(import_extra("safetensors", "eval").SafetensorError)
            state = import_extra("safetensors.torch", "eval").load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except tuple(unreadable) as error:
        raise ValueError(
            f"{path} cannot be read as weights alone ({type(error).__name__}); save a state dict, with torch.save or "
            "as safetensors"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no state dict, a dictionary of tensors; save module.state_dict()")
    return state


def _published_names(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The names of lpips, also for what torchvision calls `features.N.weight`."""
    first = state.get("features.0.weight")
    if first is None:
        return dict(state)
    if first.ndim != 4:
        raise ValueError(f"'features.0.weight' in {path} is no convolution but of shape {tuple(first.shape)}")
    layout = _LAYOUTS["alex" if first.shape[-1] == _LAYOUTS["alex"].kernels[0][0] else "vgg"]
    result = {key: value for key, value in state.items() if not key.startswith(("features.", "classifier."))}
    for key, value in state.items():
        match = re.fullmatch(r"features\.(\d+)\.(weight|bias)", key)
        if match and int(match[1]) in layout.kernels:
            number = next(i for i, end in enumerate(layout.ends, start=1) if int(match[1]) < end)
            result[f"net.slice{number}.{match[1]}.{match[2]}"] = value
    return result
