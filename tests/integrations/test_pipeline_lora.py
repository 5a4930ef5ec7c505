"""Adapters of a pipeline's network: what trains, what is saved, and what other programs make of it."""

import json
import math
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from passband._checks import MissingExtraError
from passband.integrations.pipelines import open_pipeline

KINDS = ["ddpm", "dit", "sd", "sdxl", "sd3", "flux"]
SIZE = {"height": 16, "width": 16}


def draw(pipeline, network):
    options = {"none": {}, "classes": {"classes": [1], "guidance": 1.0}, "text": {"prompts": ["a dog"]}}
    return pipeline.draw(network, seeds=[3], steps=2, **SIZE, **options[pipeline.condition])


def adapted(folder, **options):
    """A pipeline with adapters that do something."""
    pipeline = open_pipeline(folder)
    network = pipeline.add_lora(pipeline.network, **({"rank": 2} | options))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in pipeline.lora_parameters(network):
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return pipeline


def in_diffusers(pipeline, folder):
    """What diffusers, or peft for it, draws with saved adapters."""
    from diffusers import DiffusionPipeline

    host = DiffusionPipeline.from_pretrained(pipeline.folder)
    host.set_progress_bar_config(disable=True)
    options = {"generator": [torch.Generator().manual_seed(3)], "num_inference_steps": 2, "output_type": "np"}
    if pipeline.condition == "text":
        host.load_lora_weights(folder)
        options |= {"prompt": ["a dog"], **SIZE}
    else:
        import peft

        peft.PeftModel.from_pretrained(getattr(host, pipeline.network_folder), folder)
        options |= {"class_labels": [1], "guidance_scale": 1.0} if pipeline.condition == "classes" else {}
    return torch.from_numpy(host(**options).images).permute(0, 3, 1, 2) * 2 - 1


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_start_as_the_identity_and_train_alone(tiny_pipeline, kind):
    pipeline = open_pipeline(tiny_pipeline(kind))
    before, names = draw(pipeline, pipeline.network), [name for name, _ in pipeline.network.named_parameters()]
    state = torch.get_rng_state()
    network = pipeline.add_lora(pipeline.network.requires_grad_(True), rank=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert network is pipeline.network
    assert torch.equal(draw(pipeline, network), before)
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in network.named_parameters() if ".lora_" in name}
    assert len(trained) == len(pipeline.lora_parameters(network)) > 0
    assert len(list(network.parameters())) == len(names) + len(trained)


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_draw_the_same_everywhere(tiny_pipeline, kind, tmp_path):
    pipeline, plain = adapted(tiny_pipeline(kind), alpha=6), open_pipeline(tiny_pipeline(kind))
    drawn = draw(pipeline, pipeline.network)
    assert not torch.allclose(drawn, draw(plain, plain.network), atol=1e-2)
    names = plain.network.state_dict().keys()

    folder = pipeline.save_lora(tmp_path / "lora", pipeline.network)
    assert (folder / "pytorch_lora_weights.safetensors").is_file() == (pipeline.condition == "text")
    assert torch.equal(in_diffusers(pipeline, folder), drawn)
    loaded = plain.load_lora(plain.network, folder)
    assert loaded is plain.network
    assert torch.equal(draw(plain, loaded), drawn)
    assert all(p.requires_grad == (".lora_" in name) for name, p in loaded.named_parameters())

    saved = open_pipeline(pipeline.save(tmp_path / "out", pipeline.network))  # folded in
    assert type(saved.network) is type(plain.network)
    assert saved.network.state_dict().keys() == names
    assert torch.allclose(draw(saved, saved.network), drawn, atol=1e-4)
    assert torch.equal(draw(pipeline, pipeline.network), drawn)  # which is left as it was


def test_a_folded_network_is_as_fresh_as_any_other(tiny_pipeline, tmp_path):
    pipeline = adapted(tiny_pipeline("ddpm"))
    merged = pipeline.merged(pipeline.network)
    assert not any(parameter.requires_grad for parameter in merged.parameters())
    again = pipeline.add_lora(merged, rank=1)
    assert len(pipeline.lora_parameters(again)) == len(pipeline.lora_parameters(pipeline.network))
    for _ in range(2):  # what is there gives way
        assert pipeline.save_lora(tmp_path / "lora", again) == tmp_path / "lora"


def test_alpha_over_rank_is_the_scale(tiny_pipeline):
    scales = {alpha: adapted(tiny_pipeline("sd"), alpha=alpha) for alpha in (None, 2, 4)}
    changes = {}
    for alpha, pipeline in scales.items():
        merged, name = (
            pipeline.merged(pipeline.network),
            "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight",
        )
        plain = load_file(pipeline.folder / "unet" / "diffusion_pytorch_model.safetensors")[name]
        changes[alpha] = merged.state_dict()[name] - plain
    assert torch.allclose(changes[None], changes[2], atol=1e-6)
    assert torch.allclose(2 * changes[2], changes[4], atol=1e-6)


def test_the_seed_decides_the_first_weights(tiny_pipeline):
    first = {}
    for seed in (0, 0, 1):
        pipeline = open_pipeline(tiny_pipeline("ddpm"))
        torch.rand(1)  # whatever PyTorch's own state is
        weights = pipeline.lora_parameters(pipeline.add_lora(pipeline.network, rank=2, seed=seed))
        first.setdefault(seed, []).append(weights[0])
    assert torch.equal(*first[0])
    assert not torch.equal(first[0][0], first[1][0])


def test_the_seed_is_no_accelerators(tiny_pipeline, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    pipeline, state = open_pipeline(tiny_pipeline("ddpm")), torch.get_rng_state()
    pipeline.add_lora(pipeline.network, rank=2, seed=3)
    assert not seeded
    assert torch.equal(torch.get_rng_state(), state)


def test_layers_by_name(tiny_pipeline):
    pipeline = open_pipeline(tiny_pipeline("sd"))
    network = pipeline.add_lora(pipeline.network, rank=1, targets=["conv1", "ff.net.2"])
    names = {name.partition(".lora_")[0] for name, _ in network.named_parameters() if ".lora_" in name}
    assert any(name.endswith("conv1") for name in names)
    assert any(name.endswith("ff.net.2") for name in names)
    assert all(name.endswith(("conv1", "ff.net.2")) for name in names)


def test_convolutions_are_saved_and_folded_in_too(tiny_pipeline, tmp_path):
    pipeline = adapted(tiny_pipeline("sd"), targets=["conv1", "to_q"], alpha=1)
    drawn = draw(pipeline, pipeline.network)
    assert torch.allclose(draw(pipeline, pipeline.merged(pipeline.network)), drawn, atol=1e-4)
    folder = pipeline.save_lora(tmp_path / "lora", pipeline.network)
    assert torch.equal(in_diffusers(pipeline, folder), drawn)


def test_adapters_are_in_float32_on_a_network_that_is_not(tiny_pipeline):
    pipeline = open_pipeline(tiny_pipeline("flux"))
    network = pipeline.add_lora(pipeline.network.to(torch.bfloat16), rank=2)
    assert {parameter.dtype for parameter in pipeline.lora_parameters(network)} == {torch.float32}
    output = pipeline.model(network)(
        torch.randn(1, 4, 8, 8, dtype=torch.bfloat16), torch.tensor([500.0]), **pipeline.embed(["a"])
    )
    assert output.dtype == torch.bfloat16
    assert draw(pipeline, network).isfinite().all()
    folded = pipeline.merged(network)
    assert {parameter.dtype for parameter in folded.parameters()} == {torch.bfloat16}


def test_files_of_other_programs(tiny_pipeline, tmp_path):
    """Without metadata, where alpha is the rank of each layer, which may differ."""
    pipeline = adapted(tiny_pipeline("sd"))
    folder = pipeline.save_lora(tmp_path / "lora", pipeline.network)
    file = folder / "pytorch_lora_weights.safetensors"
    weights = load_file(file)
    layer = next(name for name in weights if name.endswith("to_q.lora_A.weight")).removesuffix("lora_A.weight")
    for end, dim in (("lora_A.weight", 0), ("lora_B.weight", 1)):
        weights[layer + end] = weights[layer + end].narrow(dim, 0, 1).contiguous()
    save_file(weights, file)
    plain = open_pipeline(pipeline.folder)
    drawn = draw(plain, plain.load_lora(plain.network, folder))
    assert torch.equal(drawn, in_diffusers(plain, folder))
    assert not torch.equal(drawn, draw(pipeline, pipeline.network))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rank": 0}, ValueError, "rank must be at least 1"),
        ({"rank": 2.5}, TypeError, "rank must be an int"),
        ({"rank": 2, "alpha": 0}, ValueError, "alpha above 0"),
        ({"rank": 2, "alpha": math.nan}, ValueError, "alpha above 0"),
        ({"rank": 2, "dropout": 1.0}, ValueError, r"dropout in \[0, 1\)"),
        ({"rank": 2, "targets": ["to_z"]}, ValueError, r"no layers of the names \['to_z'\].*such as 'conv"),
        ({"rank": 2, "targets": "to_q"}, TypeError, "put it into a list"),
    ],
)
def test_options_out_of_range(tiny_pipeline, options, error, message):
    pipeline = open_pipeline(tiny_pipeline("ddpm"))
    with pytest.raises(error, match=message):
        pipeline.add_lora(pipeline.network, **options)
    assert not pipeline.lora_parameters(pipeline.network)


def test_a_network_without_adapters_or_with_some(tiny_pipeline, tmp_path):
    pipeline = open_pipeline(tiny_pipeline("ddpm"))
    with pytest.raises(ValueError, match="has no adapters: add them first"):
        pipeline.save_lora(tmp_path / "lora", pipeline.network)
    with pytest.raises(ValueError, match="has no adapters: add them first"):
        pipeline.merged(pipeline.network)
    network = pipeline.add_lora(pipeline.network, rank=1)
    with pytest.raises(ValueError, match="has adapters already"):
        pipeline.add_lora(network, rank=1)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds something else"):
        pipeline.save_lora(tmp_path / "notes", network)


def test_adapters_that_cannot_be_loaded(tiny_pipeline, tmp_path):
    pipeline = adapted(tiny_pipeline("sd"))
    folder = pipeline.save_lora(tmp_path / "lora", pipeline.network)
    file = folder / "pytorch_lora_weights.safetensors"
    whole = file.read_bytes()
    plain = open_pipeline(pipeline.folder)
    with pytest.raises(FileNotFoundError, match="there are no adapters"):
        plain.load_lora(plain.network, tmp_path)
    file.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match=r"pytorch_lora_weights.safetensors' is damaged"):
        plain.load_lora(plain.network, folder)
    file.write_bytes(whole)
    weights = load_file(file)
    wide = {name: torch.zeros(2, 9) if "lora_A" in name else value for name, value in weights.items()}
    lacking = {name: value for name, value in weights.items() if name != next(iter(weights))}
    strange = {f"unet.other.{name}": value for name, value in weights.items()}
    for changed, message in (
        (wide, r"has shape \(2, 9\)"),
        (lacking, "is on one side only|of another network"),
        (strange, "of another network"),
        ({"lora_unet_down.alpha": torch.ones(1)}, "no lora_A in its names"),
    ):
        save_file(changed, file)
        with pytest.raises(ValueError, match=message):
            plain.load_lora(plain.network, folder)
        assert not plain.lora_parameters(plain.network)
    other = open_pipeline(tiny_pipeline("sd3"))
    file.write_bytes(whole)
    with pytest.raises(ValueError, match="of another network than this SD3Transformer2DModel"):
        other.load_lora(other.network, folder)
    plain.load_lora(plain.network, folder)  # nothing stayed behind


def test_peft_is_asked_for(tiny_pipeline, monkeypatch):
    pipeline = open_pipeline(tiny_pipeline("ddpm"))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'passband\[lora\]'"):
        pipeline.add_lora(pipeline.network, rank=2)


def test_the_configuration_holds_what_every_version_knows(tiny_pipeline, tmp_path):
    pipeline = adapted(tiny_pipeline("ddpm"), alpha=4)
    folder = pipeline.save_lora(tmp_path / "lora", pipeline.network)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config.keys() == {"peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "target_modules"}
    (folder / "adapter_config.json").write_text("{")
    plain = open_pipeline(pipeline.folder)
    with pytest.raises(ValueError, match=r"adapter_config.json' cannot be read"):
        plain.load_lora(plain.network, folder)
    shutil.rmtree(folder)
