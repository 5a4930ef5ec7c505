"""Diffusers pipelines opened for training: what their networks are given, encoded, drawn and saved."""

import inspect
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from passband.forcing import SpectralForcing, attached
from passband.integrations.pipelines import open_pipeline
from passband.process import VP, Flow
from passband.sampling import predict

KINDS = ["ddpm", "dit", "sd", "sdxl", "sd3", "flux"]
TEXT = ["sd", "sdxl", "sd3", "flux"]
LATENT = ["dit", *TEXT]
PROMPTS = ["a cat, 1", "dogs."]


@pytest.fixture(scope="module")
def opened(tiny_pipeline):
    """Pipelines by kind; what a test changes in them it puts back."""
    found = {}

    def get(kind):
        if kind not in found:
            found[kind] = open_pipeline(tiny_pipeline(kind))
        return found[kind]

    return get


def asked(pipeline, count=2):
    """The condition of images to draw."""
    if pipeline.condition == "none":
        return {}
    return {"prompts": PROMPTS[:count]} if pipeline.condition == "text" else {"classes": [2, 0][:count]}


def unguided(pipeline):
    return {} if pipeline.condition == "none" else {"guidance": 1.0}


def conditioning(pipeline, count=2):
    if pipeline.condition == "none":
        return {}
    if pipeline.condition == "text":
        return pipeline.embed(PROMPTS[:count])
    return pipeline.class_conditioning(torch.tensor([2, 0][:count]))


class Calls:
    """What a network is called with, by the names of its arguments, and what it returns."""

    def __init__(self, network):
        self.network, self.inputs, self.outputs = network, [], []

    def __enter__(self):
        self.handle = self.network.register_forward_hook(self.note, with_kwargs=True)
        return self

    def __exit__(self, *_):
        self.handle.remove()

    def note(self, module, args, kwargs, output):
        bound = inspect.signature(module.forward).bind(*args, **kwargs).arguments
        given = {}
        for name, value in bound.items():
            for key, item in value.items() if isinstance(value, dict) else [(name, value)]:
                if isinstance(item, torch.Tensor):
                    given[key] = item.detach().clone()
        self.inputs.append(given)
        self.outputs.append((output[0] if isinstance(output, tuple) else output.sample).detach())


def noisy_and_time(kind, pipeline, given):
    """x and t of our model, from what the pipeline gave to the network."""
    if kind == "flux":
        host = pipeline.pipeline
        x = host._unpack_latents(given["hidden_states"], 16, 16, host.vae_scale_factor)
        return x, given["timestep"] * 1000
    x = given["hidden_states" if kind in ("dit", "sd3") else "sample"]
    return x, given["timestep"].expand(len(x))


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_is_called_as_the_pipeline_calls_it(opened, kind):
    pipeline = opened(kind)
    with Calls(pipeline.network) as theirs:
        pipeline.draw(
            pipeline.network, seeds=[3, 4], steps=3, height=16, width=16, **asked(pipeline), **unguided(pipeline)
        )
    model, given = pipeline.model(pipeline.network), conditioning(pipeline)
    for call in (0, -1):
        x, t = noisy_and_time(kind, pipeline, theirs.inputs[call])
        with Calls(pipeline.network) as ours, torch.no_grad():
            output = model(x, t, **given)
        assert output.shape == x.shape
        wanted, got = theirs.inputs[call], ours.inputs[0]
        assert wanted.keys() == got.keys()
        for name, value in wanted.items():
            assert torch.allclose(got[name].double(), value.double().expand(got[name].shape), rtol=1e-6), name
        assert torch.allclose(ours.outputs[0], theirs.outputs[call], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_opened(opened, kind, tiny_pipeline):
    pipeline = opened(kind)
    assert pipeline.folder == tiny_pipeline(kind)
    assert pipeline.class_name == json.loads((pipeline.folder / "model_index.json").read_text())["_class_name"]
    assert pipeline.condition == {"ddpm": "none", "dit": "classes"}.get(kind, "text")
    assert pipeline.network_folder == ("unet" if kind in ("ddpm", "sd", "sdxl") else "transformer")
    assert pipeline.sample_shape(16, 16) == ((3, 16, 16) if kind == "ddpm" else (4, 8, 8))
    assert pipeline.size == ((256, 256) if kind == "flux" else (16, 16))
    assert (pipeline.image_channels, pipeline.classes) == (3, 3 if kind == "dit" else 0)
    assert type(pipeline.process) is (Flow if kind in ("sd3", "flux") else VP)
    assert pipeline.process.prediction == ("velocity" if kind in ("sd3", "flux") else "epsilon")
    assert not any(parameter.requires_grad for parameter in pipeline.network.parameters())
    assert {parameter.dtype for parameter in pipeline.network.parameters()} == {torch.float32}
    ours = list(pipeline.model(pipeline.network).parameters())
    assert all(a is b for a, b in zip(ours, pipeline.network.parameters(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_training_reaches_the_network(opened, kind):
    pipeline = opened(kind)
    network = pipeline.network.requires_grad_(True).train()
    try:
        clean = pipeline.encode(torch.rand(2, 3, 16, 16) * 2 - 1)
        t = pipeline.process.sample_times(2)
        noise = torch.randn(clean.shape)
        noisy = pipeline.process.add_noise(clean, noise, t)
        pred = predict(pipeline.model(network), pipeline.process, noisy, t, conditioning(pipeline))
        (pred - pipeline.process.target(clean, noise, t)).square().mean().backward()
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
        assert pipeline.network.training
    finally:
        network.requires_grad_(False).eval().zero_grad()


@pytest.mark.parametrize("kind", LATENT)
def test_latents_are_scaled_as_the_pipeline_scales_them(opened, kind):
    pipeline, images = opened(kind), torch.rand(2, 3, 16, 16) * 2 - 1
    vae = pipeline.pipeline.vae
    with torch.no_grad():
        posterior = vae.encode(images).latent_dist
    shift = 0.1 if kind in ("sd3", "flux") else 0.0
    latents, noise = pipeline.encode(images), torch.randn(2, 4, 8, 8)
    assert torch.allclose(latents, (posterior.mean - shift) * 0.5, atol=1e-6)
    drawn = pipeline.encode(images, noise)
    assert torch.allclose(drawn, (posterior.mean + posterior.std * noise - shift) * 0.5, atol=1e-6)
    latents.requires_grad_(True)
    decoded = pipeline.decode(latents)
    assert torch.allclose(decoded, vae.decode(posterior.mean).sample, atol=1e-5)
    decoded.sum().backward()
    assert latents.grad.any()
    assert all(parameter.grad is None for parameter in vae.parameters())


@pytest.mark.parametrize("kind", TEXT)
def test_latents_decode_to_the_pipelines_images(opened, kind):
    pipeline = opened(kind)
    drawn = pipeline.draw(pipeline.network, seeds=[5], steps=2, height=16, width=16, **asked(pipeline, 1))
    pipeline.embed(PROMPTS)  # loads the text encoders
    host = pipeline.pipeline
    latents = host(
        PROMPTS[0], height=16, width=16, num_inference_steps=2, output_type="latent",
        generator=torch.Generator().manual_seed(5),
    ).images  # fmt: skip
    if kind == "flux":
        latents = host._unpack_latents(latents, 16, 16, host.vae_scale_factor)
    assert torch.allclose(pipeline.decode(latents).clamp(-1, 1), drawn, atol=1e-5)


@pytest.mark.parametrize("kind", ["sdxl"])
def test_latents_with_statistics_per_channel(opened, kind):
    pipeline = opened(kind)
    config = pipeline.pipeline.vae.config
    changed = {"latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [1.0, 2.0, 0.5, 0.8]}
    before = {name: config.get(name) for name in changed}
    pipeline.pipeline.vae.register_to_config(**changed)
    try:
        test_latents_decode_to_the_pipelines_images(opened, kind)
        images = torch.rand(1, 3, 16, 16)
        with torch.no_grad():
            mean = pipeline.pipeline.vae.encode(images).latent_dist.mean
        centre, spread = (torch.tensor(value).reshape(1, 4, 1, 1) for value in changed.values())
        assert torch.allclose(pipeline.encode(images), (mean - centre) * 0.5 / spread, atol=1e-6)
    finally:
        pipeline.pipeline.vae.register_to_config(**before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_pipeline_draws_the_same_in_diffusers(opened, kind, tmp_path):
    from diffusers import DiffusionPipeline

    pipeline = opened(kind)
    network = open_pipeline(pipeline.folder).network
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.05)
    options = asked(pipeline, 1)
    drawn = pipeline.draw(network, seeds=[7], steps=2, height=16, width=16, **options, **unguided(pipeline))
    before = pipeline.draw(pipeline.network, seeds=[7], steps=2, height=16, width=16, **options, **unguided(pipeline))
    assert not torch.allclose(drawn, before, atol=1e-3)
    assert pipeline.save(tmp_path / "out", network) == tmp_path / "out"
    host = DiffusionPipeline.from_pretrained(tmp_path / "out")
    host.set_progress_bar_config(disable=True)
    asks = {"generator": [torch.Generator().manual_seed(7)], "num_inference_steps": 2, "output_type": "np"}
    if pipeline.condition == "text":
        asks |= {"prompt": PROMPTS[:1], "height": 16, "width": 16, "guidance_scale": 1.0}
    if pipeline.condition == "classes":
        asks |= {"class_labels": [2], "guidance_scale": 1.0}
    images = torch.from_numpy(host(**asks).images).permute(0, 3, 1, 2) * 2 - 1
    assert torch.equal(images, drawn)
    pipeline.save(tmp_path / "out", network)  # a pipeline that is there gives way


@pytest.mark.parametrize("kind", KINDS)
def test_drawing_leaves_everything_as_it_was(opened, kind):
    pipeline, network = opened(kind), open_pipeline(opened(kind).folder).network.train()
    next(network.children()).eval()
    modes = [module.training for module in network.modules()]
    state = torch.get_rng_state()
    options = {"steps": 2, "height": 16, "width": 16}
    images = pipeline.draw(network, seeds=[1, 2], **options, **asked(pipeline))
    assert images.shape == (2, 3, 16, 16)
    assert images.abs().max() <= 1
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in network.modules()] == modes
    assert getattr(pipeline.pipeline, pipeline.network_folder) is pipeline.network
    alone = {name: value[1:] for name, value in asked(pipeline).items()}
    assert torch.allclose(pipeline.draw(network, seeds=[2], **options, **alone), images[1:], atol=1e-4)


@pytest.mark.parametrize("kind", TEXT)
def test_guidance_is_against_the_unconditional(opened, kind):
    pipeline = opened(kind)
    empty = pipeline.unconditional()
    assert {len(rows) for rows in empty.values()} == {1}
    if kind == "flux":  # guided by an input of its network
        assert torch.equal(empty["encoder_hidden_states"], pipeline.embed([""])["encoder_hidden_states"])
        return
    with Calls(pipeline.network) as calls:
        pipeline.draw(pipeline.network, seeds=[1, 2], prompts=PROMPTS, guidance=3.0, steps=2, height=16, width=16)
    given = pipeline.embed(PROMPTS)
    for name, rows in empty.items():
        assert torch.allclose(calls.inputs[0][name][:2], rows.expand(2, *rows.shape[1:]), atol=1e-6)
        assert torch.allclose(calls.inputs[0][name][2:], given[name], atol=1e-6)


@pytest.mark.parametrize("kind", TEXT)
def test_text_encoders_come_and_go(opened, kind):
    pipeline = opened(kind)
    together = pipeline.embed([*PROMPTS, ""])
    alone = pipeline.embed(PROMPTS[1:])
    assert all(torch.allclose(together[name][1:2], rows, atol=1e-5) for name, rows in alone.items())
    assert not any(rows.requires_grad for rows in together.values())
    drawn = pipeline.draw(pipeline.network, seeds=[1], prompts=PROMPTS[:1], steps=2, height=16, width=16)
    assert pipeline.pipeline.text_encoder is not None
    pipeline.drop_text_encoders()
    assert pipeline.pipeline.text_encoder is None
    again = pipeline.draw(pipeline.network, seeds=[1], prompts=PROMPTS[:1], steps=2, height=16, width=16)
    assert torch.equal(drawn, again)
    assert pipeline.pipeline.text_encoder is None
    assert all(torch.equal(rows, together[name]) for name, rows in pipeline.embed([*PROMPTS, ""]).items())


def test_many_prompts_are_embedded_in_parts(opened):
    pipeline = opened("sd")
    prompts = [f"cat {i}" for i in range(20)]
    rows = pipeline.embed(prompts)["encoder_hidden_states"]
    assert len(rows) == 20
    assert torch.allclose(rows[17:18], pipeline.embed(prompts[17:18])["encoder_hidden_states"], atol=1e-5)


def test_a_ddim_pipeline(opened, tmp_path):
    """Its constructor turns any scheduler into DDIM's."""
    folder = Path(shutil.copytree(opened("ddpm").folder, tmp_path / "ddim"))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "DDIMPipeline"}))
    pipeline = open_pipeline(folder)
    assert pipeline.process.prediction == "epsilon"
    drawn = pipeline.draw(pipeline.network, seeds=[1], steps=2)
    assert not torch.equal(drawn, opened("ddpm").draw(pipeline.network, seeds=[1], steps=2))
    saved = open_pipeline(pipeline.save(tmp_path / "out", pipeline.network))
    assert torch.equal(saved.draw(saved.network, seeds=[1], steps=2), drawn)
    index = json.loads((tmp_path / "out" / "model_index.json").read_text())
    assert (index["_class_name"], index["scheduler"]) == ("DDIMPipeline", ["diffusers", "DDIMScheduler"])


def test_a_recorded_forcing_is_on(opened, tmp_path):
    pipeline = open_pipeline(opened("ddpm").folder)
    plain = pipeline.draw(pipeline.network, seeds=[1], steps=2)
    SpectralForcing(pipeline.process).attach(pipeline.network)
    forced = pipeline.draw(pipeline.network, seeds=[1], steps=2)
    assert not torch.allclose(forced, plain, atol=1e-2)
    saved = open_pipeline(pipeline.save(tmp_path / "out", pipeline.network))
    assert attached(saved.network) is not None
    assert torch.equal(saved.draw(saved.network, seeds=[1], steps=2), forced)


# DiT.


def test_labels_are_not_dropped_by_the_network_itself(opened):
    pipeline = opened("dit")
    network = pipeline.network.train()
    x, t = torch.randn(8, 4, 8, 8), torch.full((8,), 500)
    try:
        outputs = [pipeline.model(network)(x, t, **pipeline.class_conditioning(torch.full((8,), 1))) for _ in range(4)]
        assert all(torch.equal(outputs[0], other) for other in outputs[1:])
        dropped = pipeline.model(network)(x, t, **pipeline.class_conditioning(torch.full((8,), pipeline.classes)))
        assert not torch.allclose(outputs[0], dropped, atol=1e-3)
    finally:
        network.eval()


def test_the_variance_half_is_left_out(opened):
    pipeline = opened("dit")
    x, t, labels = torch.randn(2, 4, 8, 8), torch.tensor([10, 900]), torch.tensor([0, 3])
    mean = pipeline.model(pipeline.network)(x, t, class_labels=labels)
    whole = pipeline.network(x, timestep=t, class_labels=labels).sample
    assert whole.shape == (2, 8, 8, 8)
    assert torch.equal(mean, whole[:, :4])


def test_guidance_takes_the_networks_own_null_class(opened):
    pipeline = opened("dit")
    with Calls(pipeline.network) as calls:
        guided = pipeline.draw(pipeline.network, seeds=[1], classes=[1], guidance=4.0, steps=2)
    assert all(given["class_labels"].tolist() == [1, pipeline.classes] for given in calls.inputs)
    assert not pipeline.network._forward_pre_hooks
    assert not torch.allclose(guided, pipeline.draw(pipeline.network, seeds=[1], classes=[1], guidance=1.0, steps=2))


def test_an_image_is_the_same_in_every_batch_with_a_scheduler_that_draws(opened, tmp_path):
    from diffusers import DDPMScheduler

    folder = Path(shutil.copytree(opened("dit").folder, tmp_path / "dit"))
    DDPMScheduler().save_pretrained(folder / "scheduler")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", "DDPMScheduler"]}))
    pipeline = open_pipeline(folder)
    both = pipeline.draw(pipeline.network, seeds=[1, 2], classes=[0, 1], steps=4)
    assert torch.equal(both[1:], pipeline.draw(pipeline.network, seeds=[2], classes=[1], steps=4))


# XL, SD3 and Flux.


def test_sizes_of_an_image_are_its_own_unless_given(opened):
    pipeline = opened("sdxl")
    x, t, given = torch.randn(2, 4, 8, 12), torch.tensor([10.0, 20.0]), pipeline.embed(PROMPTS)
    model, own = pipeline.model(pipeline.network), torch.tensor([[16.0, 24.0, 0.0, 0.0, 16.0, 24.0]]).expand(2, -1)
    output = model(x, t, **given)
    assert torch.equal(output, model(x, t, **given, time_ids=own))
    assert not torch.allclose(output, model(x, t, **given, time_ids=2 * own))


def without_t5(folder):
    """The pipeline, its third text encoder left out."""
    index = json.loads((folder / "model_index.json").read_text())
    for name in ("text_encoder_3", "tokenizer_3"):
        shutil.rmtree(folder / name)
        index[name] = [None, None]
    (folder / "model_index.json").write_text(json.dumps(index))
    return open_pipeline(folder)


def test_t5_may_be_absent(opened, tmp_path):
    pipeline = without_t5(Path(shutil.copytree(opened("sd3").folder, tmp_path / "sd3")))
    tokens, whole = (p.embed(PROMPTS)["encoder_hidden_states"] for p in (pipeline, opened("sd3")))
    assert torch.equal(tokens[:, :16], whole[:, :16])
    assert not tokens[:, 16:].any()
    assert whole[:, 16:].any()
    options = {"seeds": [1], "prompts": PROMPTS[:1], "steps": 2, "height": 16, "width": 16}
    drawn = pipeline.draw(pipeline.network, **options)
    pipeline.save(tmp_path / "out", pipeline.network)
    again = open_pipeline(tmp_path / "out")
    assert torch.equal(again.draw(again.network, **options), drawn)


def test_guidance_as_an_input_of_the_network(opened):
    pipeline = opened("flux")
    x, t, given = torch.randn(2, 4, 8, 8), torch.tensor([100.0, 900.0]), pipeline.embed(PROMPTS)
    model = pipeline.model(pipeline.network)
    with Calls(pipeline.network) as calls:
        trained = model(x, t, **given)
        other = model(x, t, **given, guidance=torch.tensor([3.5, 3.5]))
    assert [call["guidance"].tolist() for call in calls.inputs] == [[1.0, 1.0], [3.5, 3.5]]
    assert not torch.allclose(trained, other)


def test_a_network_without_guidance_is_given_none(opened, tmp_path):
    from diffusers import FluxTransformer2DModel

    folder = Path(shutil.copytree(opened("flux").folder, tmp_path / "flux"))
    config = dict(opened("flux").network.config) | {"guidance_embeds": False}
    FluxTransformer2DModel.from_config(config).save_pretrained(folder / "transformer")
    pipeline = open_pipeline(folder)
    with Calls(pipeline.network) as calls:
        pipeline.model(pipeline.network)(torch.randn(1, 4, 8, 8), torch.tensor([500.0]), **pipeline.embed(["a"]))
    assert "guidance" not in calls.inputs[0]


@pytest.mark.parametrize("shape", [(8, 8), (4, 12)])
def test_packing_is_the_pipelines(opened, shape):
    from passband.integrations.pipelines.transformers import packed, positions, unpacked

    host, x = opened("flux").pipeline, torch.randn(2, 4, *shape)
    tokens = host._pack_latents(x, 2, 4, *shape)
    assert torch.equal(packed(x), tokens)
    assert torch.equal(unpacked(tokens, *shape), x)
    ids = host._prepare_latent_image_ids(2, shape[0] // 2, shape[1] // 2, "cpu", torch.float32)
    assert torch.equal(positions(x), ids)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_in_half_precision(opened, kind):
    pipeline = opened(kind)
    network = open_pipeline(pipeline.folder).network.to(torch.bfloat16)
    x, t = torch.randn(2, *pipeline.sample_shape(16, 16)), torch.tensor([100.0, 900.0])
    pred = predict(pipeline.model(network), pipeline.process, x, t, conditioning(pipeline))
    full = predict(pipeline.model(pipeline.network), pipeline.process, x, t, conditioning(pipeline))
    assert pred.dtype == torch.bfloat16
    assert (pred.float() - full).norm() < 0.05 * full.norm()
    options = {"seeds": [1], "steps": 2, "height": 16, "width": 16, **asked(pipeline, 1), **unguided(pipeline)}
    drawn, wanted = (pipeline.draw(net, **options) for net in (network, pipeline.network))
    assert 0 < (drawn - wanted).norm() < 0.1 * wanted.norm()
    assert not network._forward_pre_hooks
    assert not network._forward_hooks


def test_the_model_is_a_module_of_its_network_alone(opened):
    for kind in KINDS:
        model = opened(kind).model(opened(kind).network)
        assert isinstance(model, nn.Module)
        assert {name.partition(".")[0] for name in model.state_dict()} == {"network"}
