"""A text-to-image model in parts: what it draws depends on, what a folder keeps, and what other models look like."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import passband
from passband import EDM, VP, Flow, SpectralForcing
from passband.forcing import ConstantFront, LinearFront, attached, detach
from passband.integrations.text_to_image import (
    GeneratorSettings,
    TextToImage,
    load_generator,
    pixels,
)
from passband.process import (
    RescaledVP,
    VEPreconditioned,
    VPPreconditioned,
    cosine_alphas_cumprod,
    process_from_record,
    process_record,
)

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "text_to_image.py"
PROMPTS = ["a red circle on a blue background, left", "a white square on a black background, top"]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("text_to_image_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(example):
    """A tiny model with Spectral Forcing, trained for two steps; not to be changed."""
    torch.manual_seed(0)
    process = Flow(1, "sample", time_scale=1000, logit_normal=(-0.8, 0.8))
    model = example.make_model(process, width=32)
    SpectralForcing(process, LinearFront(0.1)).attach(model.unet)
    before = model.unet.conv_in.weight.clone(), model.text_encoder.embeddings.token_embedding.weight.clone()
    example.train(model, 2, batch_size=4)
    after = model.unet.conv_in.weight, model.text_encoder.embeddings.token_embedding.weight
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    model.unet.eval()
    model.text_encoder.eval()
    return model


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """Its folder; not to be changed."""
    folder = tmp_path_factory.mktemp("text") / "model"
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "model"))


def test_the_examples_oracle_describes_every_true_picture(example):
    scenes = example.scenes()
    assert len(set(map(example.caption, scenes))) == len(scenes) == 450
    generator = torch.Generator().manual_seed(0)
    for scene in scenes:
        jitter = (torch.rand(2, generator=generator) - 0.5) * 0.15
        colour, _, ground, place = scene
        assert example.described(example.draw(scene, jitter)) == (colour, ground, place)


def test_a_folder_keeps_the_model_and_its_forcing(model, saved):
    loaded = TextToImage.from_pretrained(saved)
    assert not loaded.unet.training
    assert not loaded.text_encoder.training
    assert (
        attached(loaded.unet).config == attached(model.unet).config == SpectralForcing(Flow(1), LinearFront(0.1)).config
    )
    options = {"seeds": [3, 4], "steps": 2, "guidance": 2.0}
    ours = model(PROMPTS, **options)
    assert torch.equal(loaded(PROMPTS, **options), ours)
    detach(loaded.unet)
    with pytest.raises(ValueError, match="trained with Spectral Forcing"):
        loaded(PROMPTS, **options)
    assert not torch.allclose(loaded(PROMPTS, unforced_ok=True, **options), ours, atol=1e-3)
    SpectralForcing(loaded.process, ConstantFront(0.5)).attach(loaded.unet)
    assert not torch.allclose(loaded(PROMPTS, **options), ours, atol=1e-3)


def test_the_folder_is_in_diffusers_layout(saved):
    files = {str(file.relative_to(saved)) for file in saved.rglob("*") if file.is_file()}
    assert files >= {
        "process.json", "tokenizer/tokenizer.json", "text_encoder/config.json", "text_encoder/model.safetensors",
        "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
    }  # fmt: skip
    names = load_file(saved / "unet" / "diffusion_pytorch_model.safetensors")
    from diffusers import UNet2DConditionModel

    plain = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(saved / "unet", local_files_only=True))
    assert set(names) == set(plain.state_dict())


def test_a_model_without_forcing_is_loaded_without(example, tmp_path):
    example.make_model(Flow(1, "sample"), width=32).save_pretrained(tmp_path / "plain")
    assert attached(TextToImage.from_pretrained(tmp_path / "plain").unet) is None


def test_an_image_depends_on_its_prompt_and_seed_alone(model):
    options = {"steps": 2, "guidance": 1.5}
    prompts = [PROMPTS[0], PROMPTS[1], PROMPTS[0], PROMPTS[0]]
    images = model(prompts, [1, 2, 3, 1], **options)
    alone = model(PROMPTS[1:], [2], **options)
    assert torch.allclose(images[1:2], alone, atol=1e-4)
    assert torch.allclose(images[0], images[3], atol=1e-4)
    assert not torch.allclose(images[0], images[2], atol=1e-2)
    assert not torch.allclose(model(PROMPTS, [1, 1], **options)[1], images[0], atol=1e-4)
    assert torch.allclose(model(prompts, [1, 2, 3, 1], batch_size=3, **options), images, atol=1e-4)


class Constant(nn.Module):
    """A U-Net that predicts the mean of its tokens."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(sample_size=4, in_channels=3, cross_attention_dim=1)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, sample, timestep, encoder_hidden_states):
        return self.scale * encoder_hidden_states.mean((1, 2))[:, None, None, None].expand_as(sample)


class Lengths(nn.Module):
    """A text encoder whose token is the number of characters."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(last_hidden_state=self.scale * input_ids[..., None].float())


class Characters:
    model_max_length = 1

    def __call__(self, prompts, **options):
        ids = torch.tensor([[len(prompt)] for prompt in prompts])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_guidance_is_against_the_empty_prompt_and_within_its_interval():
    model = TextToImage(Constant(), Lengths(), Characters(), Flow(1, "sample"))
    drawn = [model(["ab", "abcd"], [0, 1], guidance=3.0, steps=2, interval=i).mean((1, 2, 3)) for i in [(0, 1), (0, 0)]]
    assert [x.tolist() for x in drawn] == [[6.0, 12.0], [2.0, 4.0]]  # 0 + 3 (n - 0), and n in the last step
    assert model([""], [0], guidance=3.0, steps=2).abs().max() == 0
    assert model(["a"], [0], steps=1, size=(2, 6)).shape == (1, 3, 2, 6)


@pytest.mark.parametrize(
    "process",
    [
        Flow(0, "velocity", time_scale=1000), Flow(1, "sample", logit_normal=(-0.8, 0.8)), VP("v_prediction"),
        VP(alphas_cumprod=cosine_alphas_cumprod(100)), VP(alphas_cumprod=torch.linspace(0.99, 0.01, 10)),
        EDM(sigma_data=0.7, p_mean=-0.5), VPPreconditioned(beta_d=15.0), VEPreconditioned(sigma_max=50.0),
    ],
)  # fmt: skip
def test_a_process_survives_json(process):
    again = process_from_record(json.loads(json.dumps(process_record(process))))
    assert type(again) is type(process)
    assert again.prediction == process.prediction
    assert again.sigma_data == process.sigma_data
    t = process.time_at(torch.tensor([0.1, 1.0, 5.0], dtype=torch.float64))
    assert torch.allclose(torch.stack(again.level(t)), torch.stack(process.level(t)), rtol=1e-12)
    draws = [p.sample_times(5, generator=torch.Generator().manual_seed(0)) for p in (process, again)]
    assert torch.equal(*draws)


def test_a_process_of_another_kind_has_no_record():
    with pytest.raises(TypeError, match="cannot record a process of class RescaledVP"):
        process_record(RescaledVP())


@pytest.mark.parametrize("name", ["unet", "text_encoder", "tokenizer", "process.json"])
def test_a_missing_part_is_named(copy, name):
    part = copy / name
    shutil.rmtree(part) if part.is_dir() else part.unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {name}"):
        TextToImage.from_pretrained(copy)


def test_pickled_weights_are_not_read(copy):
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(ValueError, match=r"unet' cannot be read"):
        TextToImage.from_pretrained(copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "process.json' cannot be read"),
        ("[]", "expected a JSON object"),
        ('{"name": "flaw"}', "did you mean 'flow'"),
    ],
)
def test_a_broken_process_is_named(copy, text, message):
    (copy / "process.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        TextToImage.from_pretrained(copy)


def test_parts_of_different_models_do_not_fit(example, copy):
    other = example.make_model(Flow(1, "sample"), width=64)
    shutil.rmtree(copy / "text_encoder")
    other.text_encoder.save_pretrained(copy / "text_encoder")
    with pytest.raises(ValueError, match="gives tokens of width 64, and the U-Net takes 32"):
        TextToImage.from_pretrained(copy)


def test_an_encoder_of_no_known_architecture(copy):
    file = copy / "text_encoder" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": ["os"]}))
    with pytest.raises(ValueError, match="'os', which is no model of transformers"):
        TextToImage.from_pretrained(copy)


def test_saving_replaces_no_other_folder(model, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds something else"):
        model.save_pretrained(tmp_path)
    assert (tmp_path / "thesis.txt").is_file()


def test_one_seed_per_prompt(model):
    with pytest.raises(ValueError, match="2 prompts and 1 seeds"):
        model(PROMPTS, [0])
    with pytest.raises(TypeError, match="must be a list of texts"):
        model("a cat", range(5))


def test_a_folder_is_a_generator(model, saved):
    drawn = load_generator(saved, GeneratorSettings(steps=2, guidance=2.0, resolution=16))(PROMPTS, [0, 1])
    assert torch.equal(drawn, pixels(model(PROMPTS, [0, 1], steps=2, guidance=2.0, size=16), 2))
    assert drawn.shape == (2, 3, 16, 16)


def test_a_function_is_a_generator(tmp_path, monkeypatch):
    (tmp_path / "painter_of_tests.py").write_text(
        "import torch\ndef paint(prompts, seeds):\n"
        "    assert type(prompts) is list and type(seeds) is list\n"
        "    values = [len(p) + s for p, s in zip(prompts, seeds)]\n"
        "    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    drawn = load_generator("painter_of_tests:paint")(("a", "bb"), (5, 10))
    assert drawn.shape == (2, 3, 2, 2)
    assert drawn[:, 0, 0, 0].tolist() == [6, 12]
    with pytest.raises(ValueError, match="steps: a function of your own has its settings itself"):
        load_generator("painter_of_tests:paint", GeneratorSettings(steps=2))
    with pytest.raises(ValueError, match=r"has no 'pain' \(did you mean 'paint'\?\)"):
        load_generator("painter_of_tests:pain")
    with pytest.raises(ValueError, match="is no function but a module"):
        load_generator("painter_of_tests:torch")
    sys.modules.pop("painter_of_tests")


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("no/such/folder", FileNotFoundError, "there is no folder"),
        ("no_such_module_here:paint", ValueError, "cannot import 'no_such_module_here'"),
        (".", FileNotFoundError, "holds no text-to-image model"),
    ],
)
def test_no_generator(source, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        load_generator(source)


def test_pixels_of_every_kind():
    floats = torch.tensor([-1.0, 0.0, 1.0])[None, :, None, None].expand(1, 3, 2, 2)
    expected = [0, 128, 255]
    assert pixels(floats, 1)[0, :, 0, 0].tolist() == expected
    assert pixels(floats.double(), 1)[0, :, 1, 1].tolist() == expected
    assert pixels(torch.tensor(expected, dtype=torch.uint8)[None, :, None, None], 1).flatten().tolist() == expected
    pictures = [Image.new("RGB", (3, 2), (1, 2, 3)), Image.new("RGB", (3, 2))]
    assert pixels(pictures, 2)[:, :, 0, 0].tolist() == [[1, 2, 3], [0, 0, 0]]
    assert pixels(pictures, 2).shape == (2, 3, 2, 3)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(1, 3, 2, 2), ValueError, "must return 2 images"),
        (torch.zeros(2, 4, 2, 2), ValueError, r"got shape \(2, 4, 2, 2\)"),
        (torch.zeros(2, 3, 2, 2, dtype=torch.int64), TypeError, r"got torch.int64"),
        ("images", TypeError, "got str"),
        (torch.full((2, 3, 2, 2), torch.nan), ValueError, "are not finite"),
        ([Image.new("RGB", (2, 2)), Image.new("RGB", (3, 2))], ValueError, "of different sizes"),
    ],
)
def test_what_is_no_image(images, error, message):
    with pytest.raises(error, match=message):
        pixels(images, 2)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="did you mean 'heun'"):
        GeneratorSettings(solver="hein")


def tiny_pipeline(example):
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    characters = [chr(c) for c in range(97, 123)]
    words = [*characters, *(c + "</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=8)
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
            max_position_embeddings=8, bos_token_id=len(words) - 2, eos_token_id=len(words) - 1,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(4,), down_block_types=("CrossAttnDownBlock2D",), layers_per_block=1,
        up_block_types=("CrossAttnUpBlock2D",), norm_num_groups=2, attention_head_dim=1, cross_attention_dim=8,
    )  # fmt: skip
    vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, latent_channels=4, sample_size=8)
    scheduler = DDIMScheduler(clip_sample=False, steps_offset=1)
    return StableDiffusionPipeline(
        vae, encoder, tokenizer, unet, scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip


def test_a_diffusers_pipeline_is_a_generator(example, tmp_path):
    pipeline = tiny_pipeline(example)
    pipeline.save_pretrained(tmp_path / "pipeline")
    generate = load_generator(tmp_path / "pipeline", GeneratorSettings(steps=2, guidance=1.0, resolution=8))
    drawn = generate(["abc", "xyz"], [0, 1])
    assert drawn.shape == (2, 3, 8, 8)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(1)
    alone = pipeline("xyz", num_inference_steps=2, guidance_scale=1.0, height=8, width=8, generator=noise).images
    assert (pixels(alone, 1).int() - drawn[1:].int()).abs().max() <= 1
    with pytest.raises(ValueError, match="a diffusers pipeline has no solver"):
        load_generator(tmp_path / "pipeline", GeneratorSettings(solver="heun"))


def test_the_three_lines_are_public():
    assert {"Flow", "SpectralForcing"} <= set(passband.__all__)
