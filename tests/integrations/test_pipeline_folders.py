"""Folders of pipelines: what is broken is told at once, what is saved is whole, variants and shards included."""

import json
import logging
import shutil
import sys
from pathlib import Path

import diffusers
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import passband._files
from passband._checks import MissingExtraError
from passband.integrations.pipelines import PIPELINES, open_pipeline, parts

WEIGHTS = "diffusion_pytorch_model.safetensors"
SIZE = {"height": 16, "width": 16}


@pytest.fixture
def copy(tiny_pipeline, tmp_path):
    """A copy of a tiny pipeline, to be broken."""
    return lambda kind: Path(shutil.copytree(tiny_pipeline(kind), tmp_path / kind))


def change(file, **entries):
    found = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in (found | entries).items() if value != "gone"}))


def as_pickle(folder):
    file = next(folder.glob("*.safetensors"))
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()


def torn(file):
    file.write_bytes(file.read_bytes()[:-20])


BROKEN = {
    "no index": ("ddpm", lambda f: (f / "model_index.json").unlink(), FileNotFoundError, "it has no model_index.json"),
    "index that is no JSON": (
        "ddpm", lambda f: (f / "model_index.json").write_text("{"), ValueError, "model_index.json' cannot be read",
    ),
    "index of another kind": (
        "ddpm", lambda f: (f / "model_index.json").write_text("[]"), ValueError, "holds no JSON object",
    ),
    "class that is not supported": (
        "ddpm", lambda f: change(f / "model_index.json", _class_name="LDMPipeline"), ValueError,
        "holds a LDMPipeline.*supported are DDPMPipeline, DDIMPipeline",
    ),
    "class of its own": (
        "ddpm", lambda f: change(f / "model_index.json", _class_name=["my_code", "MyPipeline"]), ValueError,
        r"holds a \['my_code', 'MyPipeline'\]; supported",
    ),
    "part of its own": (
        "ddpm", lambda f: change(f / "model_index.json", unet=["my_code", "MyUNet"]), ValueError,
        "'unet' of the pipeline is my_code.MyUNet: only classes of diffusers and transformers",
    ),
    "unknown class of a part": (
        "dit", lambda f: change(f / "model_index.json", vae=["diffusers", "AutoencoderOfTomorrow"]), ValueError,
        "has no AutoencoderOfTomorrow",
    ),
    "network of another kind": (
        "ddpm", lambda f: change(f / "model_index.json", unet=["diffusers", "UNet2DConditionModel"]), ValueError,
        "the unet of .* is a UNet2DConditionModel, expected UNet2DModel",
    ),
    "part not named": (
        "ddpm", lambda f: change(f / "model_index.json", scheduler="gone"), ValueError, "names no scheduler",
    ),
    "part not there": ("dit", lambda f: shutil.rmtree(f / "vae"), FileNotFoundError, "has no vae/"),
    "text encoder not there": (
        "sd", lambda f: shutil.rmtree(f / "text_encoder"), FileNotFoundError, "has no text_encoder/",
    ),
    "tokenizer not there": ("sd", lambda f: shutil.rmtree(f / "tokenizer"), FileNotFoundError, "has no tokenizer/"),
    "tokenizer that is broken": (
        "sd", lambda f: (f / "tokenizer" / "tokenizer.json").write_text("{"), ValueError,
        "CLIPTokenizer at .* cannot be loaded",
    ),
    "scheduler that is broken": (
        "sd", lambda f: (f / "scheduler" / "scheduler_config.json").write_text("{"), ValueError,
        "PNDMScheduler at .* cannot be loaded",
    ),
    "pickle": ("ddpm", lambda f: as_pickle(f / "unet"), ValueError, "is a pickle and is not read.*save_pretrained"),
    "pickle of a text encoder": (
        "sd", lambda f: as_pickle(f / "text_encoder"), ValueError, "text_encoder' has no weights in safetensors, only",
    ),
    "no weights": ("ddpm", lambda f: (f / "unet" / WEIGHTS).unlink(), FileNotFoundError, "has no weights in safe"),
    "torn weights": ("ddpm", lambda f: torn(f / "unet" / WEIGHTS), ValueError, f"{WEIGHTS}' is damaged"),
    "torn text encoder": (
        "sd", lambda f: torn(f / "text_encoder" / "model.safetensors"), ValueError, "model.safetensors' is damaged",
    ),
    "configuration that is broken": (
        "ddpm", lambda f: (f / "unet" / "config.json").write_text("{"), ValueError, "UNet2DModel at .* cannot be load",
    ),
    "weights of another configuration": (
        "ddpm", lambda f: change(f / "unet" / "config.json", block_out_channels=[8, 16]), ValueError,
        "UNet2DModel at .* cannot be loaded",
    ),
    "vae of another network": (
        "dit", lambda f: change(f / "transformer" / "config.json", in_channels=8, out_channels=8), ValueError,
        "cannot be loaded|latents of 4 channels, and the transformer takes 8",
    ),
    "scheduler of another family": (
        "sd3",
        lambda f: (
            diffusers.DDPMScheduler().save_pretrained(f / "scheduler"),
            change(f / "model_index.json", scheduler=["diffusers", "DDPMScheduler"]),
        ),
        TypeError, "needs a flow scheduler",
    ),
    "unsupported scheduler": (
        "ddpm",
        lambda f: (
            diffusers.DDPMWuerstchenScheduler().save_pretrained(f / "scheduler"),
            change(f / "model_index.json", scheduler=["diffusers", "DDPMWuerstchenScheduler"]),
        ),
        TypeError, "unsupported scheduler",
    ),
    "no size": ("ddpm", lambda f: change(f / "unet" / "config.json", sample_size=None), ValueError, "no sample_size"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_one_clear_error(copy, name):
    kind, break_it, error, message = BROKEN[name]
    folder = copy(kind)
    break_it(folder)
    with pytest.raises(error, match=message):
        open_pipeline(folder)


def test_a_library_that_the_pipeline_needs_is_not_installed(tiny_pipeline, monkeypatch):
    stand_in = type("StableDiffusionPipeline", (), {"_backends": ["torch", "transformers"]})
    monkeypatch.setattr(diffusers, "StableDiffusionPipeline", stand_in)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"the package 'transformers'.*pip install 'passband\[integrations\]'"):
        open_pipeline(tiny_pipeline("sd"))


def test_no_folder(tmp_path, tiny_pipeline):
    with pytest.raises(FileNotFoundError, match="expected a diffusers pipeline on this machine"):
        open_pipeline("google/ddpm-cat-256")
    with pytest.raises(FileNotFoundError, match=f"there is one in '{tiny_pipeline('ddpm')}'"):
        open_pipeline(tiny_pipeline("ddpm") / "unet")
    shutil.copytree(tiny_pipeline("ddpm"), tmp_path / "run" / "pipeline")
    with pytest.raises(FileNotFoundError, match=f"there is one in '{tmp_path}/run/pipeline'"):
        open_pipeline(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=r"config.json' is a file: .*from_single_file\(FILE\)"):
        open_pipeline(tiny_pipeline("ddpm") / "unet" / "config.json")


def test_missing_weights_are_counted(copy):
    folder = copy("ddpm")
    weights = load_file(folder / "unet" / WEIGHTS)
    name = weights.popitem()[0]
    save_file(weights, folder / "unet" / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"lacks the weights \['{name}'\]"):
        open_pipeline(folder)


def test_networks_with_further_inputs(copy):
    folder = copy("ddpm")
    network = diffusers.UNet2DModel(**dict(open_pipeline(folder).network.config) | {"num_class_embeds": 3})
    network.save_pretrained(folder / "unet")
    with pytest.raises(ValueError, match="takes classes, which a DDPMPipeline does not give it"):
        open_pipeline(folder)
    folder = copy("sd")
    config = dict(open_pipeline(folder).network.config)
    for changed, message in (
        ({"in_channels": 9}, "takes 9: .*inpainting"),
        ({"time_cond_proj_dim": 4}, "it is distilled"),
        ({"out_channels": 6}, "takes 4 channels and returns 6"),
    ):
        diffusers.UNet2DConditionModel.from_config(config | changed).save_pretrained(folder / "unet")
        with pytest.raises(ValueError, match=message):
            open_pipeline(folder)


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("ddpm", (32, 32), "draws images of its network's own size, here 16 x 16"),
        ("dit", (16, 8), "draws images of its network's own size, here 16 x 16"),
        ("sd", (20, 16), "must be multiples of 8"),
        ("sdxl", (0, 16), "must be multiples of 8"),
        ("sd3", (18, 16), "must be multiples of 4"),
        ("sd3", (80, 16), "must be 64 at most"),
        ("flux", (16, 18), "must be multiples of 4"),
    ],
)
def test_sizes_that_do_not_fit(tiny_pipeline, kind, size, message):
    with pytest.raises(ValueError, match=message):
        open_pipeline(tiny_pipeline(kind)).sample_shape(*size)


def test_wrong_questions(tiny_pipeline):
    pixels, classes, text = (open_pipeline(tiny_pipeline(kind)) for kind in ("ddpm", "dit", "sd"))
    with pytest.raises(TypeError, match="a DDPMPipeline takes no prompts: its images depend on the noise alone"):
        pixels.embed(["a"])
    with pytest.raises(TypeError, match="a DiTPipeline takes no prompts: its images depend on classes"):
        classes.unconditional()
    with pytest.raises(TypeError, match="a StableDiffusionPipeline takes no classes"):
        text.class_conditioning(torch.tensor([1]))
    with pytest.raises(TypeError, match="must be a tensor"):
        classes.class_conditioning(torch.tensor([0.5]))
    with pytest.raises(ValueError, match="classes must be 0 to 2, or 3 for none, got 4 to 4"):
        classes.class_conditioning(torch.tensor([4]))
    with pytest.raises(TypeError, match="put it into a list"):
        text.embed("a cat")
    with pytest.raises(ValueError, match="at least one text"):
        text.embed([])
    with pytest.raises(ValueError, match="images of 3 channels"):
        text.encode(torch.zeros(1, 1, 16, 16))
    with pytest.raises(ValueError, match="must have the same shape"):
        text.encode(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="leave noise"):
        pixels.encode(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        ("ddpm", {"seeds": []}, ValueError, "at least one seed"),
        ("ddpm", {"seeds": [0], "prompts": ["a"]}, ValueError, "the noise alone: leave prompts"),
        ("ddpm", {"seeds": [0], "guidance": 2.0}, ValueError, "has no guidance"),
        ("ddpm", {"seeds": [0], "height": 32}, ValueError, "own size"),
        ("dit", {"seeds": [0]}, ValueError, "depend on classes: give classes"),
        ("dit", {"seeds": [0], "classes": [7]}, ValueError, "classes must be 0 to 2"),
        ("sd", {"seeds": [0]}, ValueError, "depend on prompts: give prompts"),
        ("sd", {"seeds": [0], "prompts": "a"}, TypeError, "put it into a list"),
        ("sd", {"seeds": [0, 1], "prompts": ["a"]}, ValueError, "got 1 prompts and 2 seeds"),
    ],
)
def test_drawings_that_cannot_be(tiny_pipeline, kind, options, error, message):
    pipeline = open_pipeline(tiny_pipeline(kind))
    with pytest.raises(error, match=message):
        pipeline.draw(pipeline.network, **options)


# Saving.


def test_what_is_not_trained_is_copied_as_it_is(copy, tmp_path):
    folder = copy("sd")
    checker = folder / "safety_checker"
    checker.mkdir()
    (checker / "config.json").write_text("{}")
    (checker / "model.safetensors").write_bytes(b"never opened")
    left = {"safety_checker/pytorch_model.bin", "unet/diffusion_flax_model.msgpack", "text_encoder/model.onnx"}
    for name in left:
        (folder / name).write_bytes(b"for others")
    change(folder / "model_index.json", safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    pipeline = open_pipeline(folder)
    pipeline.draw(pipeline.network, seeds=[0], prompts=["a"], steps=1, **SIZE)
    saved = pipeline.save(tmp_path / "out", pipeline.network)
    index = json.loads((saved / "model_index.json").read_text())
    assert index["safety_checker"] == ["stable_diffusion", "StableDiffusionSafetyChecker"]
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    kept = {str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()}
    assert names - kept == left
    for name in sorted(kept & names):
        if not name.startswith(("unet/", "scheduler/", "model_index")):
            assert (folder / name).read_bytes() == (saved / name).read_bytes(), name


def test_saving_replaces_no_other_folder(tiny_pipeline, tmp_path):
    pipeline = open_pipeline(tiny_pipeline("ddpm"))
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds something else"):
        pipeline.save(tmp_path, pipeline.network)
    with pytest.raises(FileExistsError, match="is the pipeline that was opened, and is kept"):
        pipeline.save(pipeline.folder, pipeline.network)
    assert open_pipeline(pipeline.folder).class_name == "DDPMPipeline"


def test_a_full_disk_leaves_what_was_there(tiny_pipeline, tmp_path, monkeypatch):
    pipeline = open_pipeline(tiny_pipeline("ddpm"))
    saved = pipeline.save(tmp_path / "out", pipeline.network)
    before = (saved / "unet" / WEIGHTS).read_bytes()
    with torch.no_grad():
        pipeline.network.conv_in.weight.zero_()

    def full(path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(passband._files, "_sync", full)
    with pytest.raises(OSError, match="the disk is full"):
        pipeline.save(saved, pipeline.network)
    assert (saved / "unet" / WEIGHTS).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "20KB"}])
def test_a_variant(tiny_pipeline, tmp_path, shards):
    host = diffusers.DiffusionPipeline.from_pretrained(tiny_pipeline("sd"))
    host.to(torch.float16).save_pretrained(tmp_path / "half", variant="fp16", **shards)
    with pytest.raises(ValueError, match="only of the variant 'fp16': pass variant='fp16'"):
        open_pipeline(tmp_path / "half")
    with pytest.raises(ValueError, match=r"no part of .* has weights of the variant 'bf16'"):
        open_pipeline(tmp_path / "half", variant="bf16")
    pipeline = open_pipeline(tmp_path / "half", variant="fp16")
    assert pipeline.network.dtype == torch.float32
    pipeline.embed(["a"])
    assert pipeline.pipeline.text_encoder.dtype == torch.float32
    drawn = pipeline.draw(pipeline.network, seeds=[0], prompts=["a"], steps=2, **SIZE)
    saved = pipeline.save(tmp_path / "out", pipeline.network)
    plain = open_pipeline(saved)
    assert torch.equal(plain.draw(plain.network, seeds=[0], prompts=["a"], steps=2, **SIZE), drawn)
    diffusers.DiffusionPipeline.from_pretrained(saved)


def test_a_variant_beside_plain_weights(copy, tmp_path):
    folder = copy("dit")
    averaged = open_pipeline(folder)
    with torch.no_grad():
        for parameter in averaged.network.parameters():
            parameter.mul_(0.9)
    averaged.network.save_pretrained(folder / "transformer", variant="ema")
    averaged.pipeline.vae.save_pretrained(folder / "vae", variant="other")
    plain, ema = open_pipeline(folder), open_pipeline(folder, variant="ema")
    assert torch.equal(ema.network.proj_out_2.weight, averaged.network.proj_out_2.weight)
    assert not torch.equal(plain.network.proj_out_2.weight, ema.network.proj_out_2.weight)
    for pipeline in (plain, ema):
        saved = pipeline.save(tmp_path / "out", pipeline.network)
        assert sorted(path.name for path in (saved / "vae").iterdir()) == ["config.json", WEIGHTS]


def test_opening_says_nothing(tiny_pipeline, capfd):
    pipeline = open_pipeline(tiny_pipeline("flux"))
    pipeline.draw(pipeline.network, seeds=[0], prompts=["a"], steps=1, **SIZE)
    assert "Loading" not in capfd.readouterr().err
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_a_missing_shard(tiny_pipeline, tmp_path):
    host = diffusers.DiffusionPipeline.from_pretrained(tiny_pipeline("ddpm"))
    host.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert open_pipeline(tmp_path / "sharded").class_name == "DDPMPipeline"
    shard = max((tmp_path / "sharded" / "unet").glob("*-of-*.safetensors"))
    shard.unlink()
    with pytest.raises(ValueError, match=f"lacks {shard.name}, which {WEIGHTS}.index.json names"):
        open_pipeline(tmp_path / "sharded")


def test_every_class_is_one_of_diffusers():
    for name in PIPELINES:
        assert issubclass(getattr(diffusers, name), diffusers.DiffusionPipeline)


def test_advice_to_install_torchvision_is_left_out_while_a_class_is_imported(monkeypatch):
    log, heard = logging.getLogger("transformers.utils.import_utils"), []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    monkeypatch.setattr(log, "handlers", [handler])

    class Library:
        __version__ = "1"

        def __getattr__(self, name):
            log.warning("`ImageProcessor` requires torchvision (not installed)")
            log.warning("something else")
            return type(name, (), {})

    monkeypatch.setattr(parts, "import_extra", lambda name, extra: Library())
    assert parts.class_of("transformers", "Anything").__name__ == "Anything"
    log.warning("requires torchvision, outside")
    assert heard == ["something else", "requires torchvision, outside"]
