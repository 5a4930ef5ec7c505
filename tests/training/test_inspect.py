"""Inspecting autoencoders over data sets: which images, in which order, and what a broken one does."""

import json
from pathlib import Path

import pytest
import torch

from passband.data import ImageFolder, save_image
from passband.integrations.autoencoder import Autoencoder
from passband.metrics import LatentMeasures
from passband.training.inspect import InspectionSettings, chosen, inspect_autoencoder, inspect_autoencoders

F = torch.nn.functional
QUICK = InspectionSettings(count=6, probes=2, batch_size=4, bands=2, transforms=())


def encode(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(x, 2)


def decode(z: torch.Tensor) -> torch.Tensor:
    return F.interpolate(z, scale_factor=2.0)


def pictures(count: int, size: tuple[int, int] = (16, 16)) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_any_pair_of_callables_is_measured_as_by_hand() -> None:
    x = pictures(6)
    seen: list[tuple[int, int]] = []
    found = inspect_autoencoder(
        encode, decode, x, name="mine", settings=QUICK, on_measured=lambda *args: seen.append(args)
    )
    by_hand = LatentMeasures(encode, decode, bands=2, transforms=())
    for i in range(6):
        by_hand.update(x[i : i + 1], indices=[i], probe=i in (0, 3))
    expected = by_hand.compute()
    assert found.name == "mine"
    assert (found.result.count, found.result.probed) == (6, 2)
    for name, estimate in expected.means.items():
        assert found.result.means[name].mean == pytest.approx(estimate.mean, rel=1e-5, abs=1e-7), name
    assert torch.allclose(found.result.bands.matrix, expected.bands.matrix)
    assert seen == [(0, 6), (2, 6), (6, 6)]
    assert found.images.shape == (6, 3, 16, 16)
    assert torch.allclose(found.reconstructions, decode(encode(found.images)))
    assert found.pictures.shape == (6, 3, 8, 8)


def test_the_batch_size_changes_nothing_and_the_seed_only_the_noise() -> None:
    x = pictures(5)
    found = [
        inspect_autoencoder(encode, decode, x, settings=InspectionSettings(batch_size=size, seed=seed, transforms=()))
        for size, seed in ((2, 0), (5, 0), (5, 1))
    ]
    first, second, other = (each.result.means for each in found)
    assert {k: pytest.approx(v.mean, rel=1e-5, abs=1e-6) for k, v in first.items()} == {
        k: v.mean for k, v in second.items()
    }
    changed = {name for name in first if abs(first[name].mean - other[name].mean) > 1e-4}
    assert changed == {"esm.0.white", "esm.1.white", "rmsc.white"}


def test_a_count_takes_images_from_all_over() -> None:
    assert chosen(pictures(10), 4) == [0, 2, 5, 7]
    assert chosen(pictures(3), 4) == [0, 1, 2]
    with pytest.raises(ValueError, match="the data set is empty"):
        chosen(pictures(0), 4)


def test_broken_files_are_left_out(tmp_path: Path) -> None:
    for i in range(4):
        save_image(pictures(4)[i], tmp_path / f"{i}.png")
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])
    data = ImageFolder(tmp_path, 16)
    assert chosen(data, 4) == [0, 2, 3]
    assert inspect_autoencoder(encode, decode, data, settings=QUICK).result.count == 3


def test_images_need_not_be_square() -> None:
    found = inspect_autoencoder(encode, decode, pictures(2, (16, 24)), settings=QUICK)
    assert found.result.image_shape == (3, 16, 24)
    assert found.result.latent_shape == (3, 8, 12)
    assert found.pictures.shape[2:] == (8, 12)


def test_images_of_several_sizes_are_an_error() -> None:
    mixed = [pictures(1)[0], pictures(1, (8, 8))[0]]
    with pytest.raises(ValueError, match="all images must have one size"):
        inspect_autoencoder(encode, decode, mixed, settings=QUICK)


@pytest.mark.parametrize(("option", "value"), [("count", 0), ("probes", -1), ("batch_size", 0), ("bands", 0)])
def test_settings_out_of_range_are_named(option: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{option} must be at least"):
        InspectionSettings(**{option: value})


class _Posterior:
    def __init__(self, mean: torch.Tensor) -> None:
        self.mean, self.std = mean, torch.zeros_like(mean)


class _Pooling(torch.nn.Module):
    """Halves and doubles, with the interface of diffusers' autoencoders."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.config = {"block_out_channels": (8, 8), "in_channels": 3, "latent_channels": 3}

    def encode(self, x: torch.Tensor) -> object:
        assert not self.training
        return type("Output", (), {"latent_dist": _Posterior(self.gain * encode(x))})

    def decode(self, z: torch.Tensor) -> object:
        return type("Output", (), {"sample": decode(z)})


def test_two_autoencoders_of_one_name_share_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("passband.reports.inspection.figure_sections", lambda *_: [])  # drawn elsewhere
    both = [Autoencoder(_Pooling().train(), "pool"), Autoencoder(_Pooling(), "pool")]
    seen: list[tuple[str, int, int]] = []
    page = inspect_autoencoders(
        both,
        pictures(4),
        tmp_path,
        settings=QUICK,
        shown={"images from": "memory"},
        on_measured=lambda *a: seen.append(a),
    )
    document = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    first, second = document["autoencoders"].values()
    assert list(document["autoencoders"]) == ["pool (1)", "pool (2)"]
    assert first == second
    assert first["facts"] == {"parameters": "1", "pixels per latent position": "2 × 2"}
    assert page == tmp_path / "index.html"
    assert "memory" in page.read_text()
    assert seen[-1] == ("pool (2)", 4, 4)
