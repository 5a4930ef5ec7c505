"""Checkpoints of JiT and Spectral Forcing: what is read of them, and what is refused."""

import argparse
import hashlib
import json
import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
import torch

from passband import Flow, SpectralForcing
from passband.integrations.checkpoints.import_folder import FILES
from passband.integrations.checkpoints.jit_shapes import network_config, size_name
from passband.integrations.checkpoints.plain_pickle import UnsafeCheckpointError
from passband.integrations.checkpoints.torch_save import read_torch_save
from passband.integrations.jit import (
    CheckpointFormatError,
    Choices,
    import_jit,
    read_jit,
)
from passband.models import JiT, load_model

SMALL = {"patch_size": 4, "hidden_size": 8, "depth": 2, "num_heads": 2, "num_classes": 3, "bottleneck_dim": 4}
CONTEXT = {"in_context_len": 2, "in_context_start": 1}
LINEAR = SpectralForcing(Flow(data_at=1)).config
OPEN = Choices(context_start=1)


def network(seed=0, **options):
    torch.manual_seed(seed)
    model = JiT(8, **(SMALL | CONTEXT | options)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def entry(model, prefix="net."):
    return {prefix + name: value for name, value in model.state_dict().items()}


def checkpoint(**options):
    """As the published training writes it: the last weights, two averages, the optimizer, the arguments."""
    optimizer = {"state": {0: {"exp_avg": torch.zeros(10)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    entries = {name: entry(network(seed, **options)) for seed, name in enumerate(("model", "model_ema1", "model_ema2"))}
    return {**entries, "optimizer": optimizer, "epoch": 7}


@pytest.fixture
def saved(tmp_path):
    """The file of some content."""

    def save(content, **options):
        torch.save(content, tmp_path / "checkpoint.pth", **options)
        return tmp_path / "checkpoint.pth"

    return save


@pytest.mark.parametrize(("name", "forcing"), [("plain", None), ("sf", LINEAR)])
def test_the_reference_network(shared, saved, tmp_path, name, forcing):
    arrays = np.load(shared / "parity" / f"jit_{name}_dev.npz")
    weights = {f"net.{key[2:]}": torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith("w:")}
    found = import_jit(saved({"model_ema1": weights}), tmp_path / "out", Choices(context_start=2))
    expected = json.loads((shared / "parity" / "jit_config_dev.json").read_text())
    assert found.checkpoint.config.items() >= expected.items()
    model = load_model(tmp_path / "out")
    assert model.recorded_forcing == forcing
    if forcing is not None:
        SpectralForcing.from_config(model.recorded_forcing, Flow(data_at=1)).attach(model)
    out, wanted = model(*(torch.from_numpy(arrays[f"in_{key}"]) for key in "xty")), torch.from_numpy(arrays["out"])
    assert (out - wanted).abs().max() < 1e-5 * wanted.abs().max()


@pytest.mark.parametrize(("weights", "seed"), [(None, 1), ("ema1", 1), ("ema2", 2), ("model", 0)])
def test_the_weights_that_are_asked_for(saved, tmp_path, weights, seed):
    path = saved(checkpoint())
    found = import_jit(path, tmp_path / "out", OPEN._replace(weights=weights))
    model = load_model(tmp_path / "out")
    assert model.config == network().config
    for name, value in network(seed).state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    names = ["model", "model_ema1", "model_ema2"]
    origin = json.loads((tmp_path / "out" / "import.json").read_text())
    assert origin["key"] == found.checkpoint.entry == names[seed]
    assert set(origin["discarded"]) == set(names) - {names[seed]} | {"optimizer", "epoch"}
    assert origin["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert origin["parameters"] == found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(FILES)


def test_a_recorded_training(saved, tmp_path):
    recorded = {"img_size": 8, "P_mean": -0.4, "P_std": 1.0, "t_eps": 0.02, "noise_scale": 1.0, "proj_dropout": 0.2}
    arguments = argparse.Namespace(**recorded, in_context_start=1, data_path="/data", lr=None)
    found = read_jit(saved(checkpoint() | {"args": arguments}))
    assert found.process == {
        "name": "flow",
        "data_at": 1,
        "prediction": "sample",
        "time_scale": 1.0,
        "logit_normal": [-0.4, 1.0],
        "velocity_floor": 0.02,
    }
    assert (found.config["proj_drop"], found.config["in_context_start"]) == (0.2, 1)


def test_the_published_training_where_none_is_recorded(saved):
    found = read_jit(saved(checkpoint()), OPEN)
    assert (found.process["logit_normal"], found.process["velocity_floor"]) == ([-0.8, 0.8], 0.05)
    assert "noise_scale" not in found.process
    scaled = read_jit(saved(checkpoint()), OPEN._replace(noise_scale=2.0))
    assert scaled.process["noise_scale"] == 2.0
    large = {"patch_size": 256, "in_channels": 1, "hidden_size": 4, "num_heads": 1}
    state = {"model": entry(JiT(512, **(SMALL | CONTEXT | large)))}
    assert read_jit(saved(state), OPEN).process["noise_scale"] == 2.0


def test_a_hybrid_head(saved):
    process = read_jit(saved(checkpoint(out_channels=6)), OPEN).process
    assert (process["prediction"], process["hybrid"]) == ("velocity", True)


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 3},
        {"num_heads": 1},
        {"mlp_ratio": 2.0},
        {"mlp_ratio": 2.7},
        {"in_channels": 1},
        {"in_channels": 4},
        {"num_classes": 0},
        {"in_context_len": 0, "in_context_start": 0},
        {"bottleneck_dim": 7},
        {"patch_embedding": "linear"},
        {"patch_embedding": "linear", "in_channels": 1},
        {"patch_size": 2},
    ],
    ids=str,
)
def test_every_shape_is_found(saved, options):
    model = network(**options)
    found = read_jit(saved({"model": entry(model)}), OPEN)
    expected = dict(model.config)
    ratio = expected.pop("mlp_ratio")
    assert int(int(8 * found.config["mlp_ratio"]) * 2 / 3) == int(int(8 * ratio) * 2 / 3)
    assert found.config.items() >= expected.items()
    JiT(**found.config).load_state_dict(found.state)


def test_published_sizes_are_known_by_their_shapes(saved):
    """The block where the class tokens enter is that of the size."""
    with torch.device("meta"):
        shapes = JiT.from_size("B/16", 32, num_classes=2).state_dict()
    state = {f"net.{name}": torch.zeros(1).expand(value.shape) for name, value in shapes.items()}
    with pytest.raises(UnsafeCheckpointError, match="more tensors than the file has room for"):
        read_jit(saved({"model": state}))
    config = network_config({name.removeprefix("net."): value for name, value in state.items()}, {}, None, None)
    assert (size_name(config), config["in_context_start"]) == ("B/16", 4)


def test_forcing_by_name(saved):
    plain, linear = checkpoint(), checkpoint(patch_embedding="linear")
    for content, choice, expected in (
        (plain, "auto", None),
        (linear, "auto", LINEAR),
        (linear, "none", None),
        (plain, "linear", LINEAR),
    ):
        assert read_jit(saved(content), OPEN._replace(forcing=choice)).forcing == expected


def test_an_image_size_tells_patch_and_channels(saved):
    model = network(in_channels=12, patch_embedding="linear", patch_size=2)  # 48 numbers: or 3 channels of 4 x 4
    path = saved({"model": entry(model)})
    assert read_jit(path, OPEN).config["in_channels"] == 3
    assert read_jit(path, OPEN._replace(image_size=8)).config["in_channels"] == 12
    path = saved({"model": entry(model), "args": {"img_size": 8}})
    assert read_jit(path, OPEN).config["patch_size"] == 2
    with pytest.raises(CheckpointFormatError, match=r"48 numbers.* give --image-size, another one than 12"):
        read_jit(path, OPEN._replace(image_size=12))


def test_weights_alone_in_any_precision_with_tables(saved):
    model = network()
    state = {name: value.bfloat16() for name, value in entry(model, "").items()}
    found = read_jit(saved(state | {"feat_rope.freqs_cos": torch.zeros(4)}), OPEN)
    assert (found.entry, found.entries) == (None, ())
    assert set(found.state) == set(model.state_dict())
    assert all(value.dtype == torch.float32 for value in found.state.values())


@pytest.mark.skipif(not pathlib.Path("/proc/self/maps").exists(), reason="maps of files are read as on Linux")
def test_tensors_stay_in_the_file(saved):
    path = saved(checkpoint())
    content = read_torch_save(path, "JiT")
    maps = [line.split() for line in pathlib.Path("/proc/self/maps").read_text().splitlines() if str(path) in line]
    ranges = [tuple(int(end, 16) for end in found[0].split("-")) for found in maps]
    for tensor in (content["optimizer"]["state"][0]["exp_avg"], content["model"]["net.pos_embed"]):
        assert any(start <= tensor.data_ptr() < end for start, end in ranges)  # read when they are looked at


def test_an_address_and_a_hash(saved, tmp_path):
    path = saved(checkpoint())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    out = tmp_path / "out"
    assert import_jit(path.as_uri(), out, OPEN, sha256=digest.upper()).checkpoint.sha256 == digest
    with pytest.raises(CheckpointFormatError, match=f"has the SHA-256 {digest}, expected 000"):
        import_jit(path, out, OPEN, sha256="0" * 64)
    with pytest.raises(ValueError, match="a SHA-256 has 64 hexadecimal digits, got 'abc'"):
        import_jit(path, out, OPEN, sha256="abc")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds something else \('notes.txt'\)"):
        import_jit(path, out, OPEN)


# What is refused: always before anything is written.


def refused(path, out, kind, message, choices=OPEN):
    with pytest.raises(kind, match=message):
        import_jit(path, out, choices)
    assert not out.exists()


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize(
    "content", [Evil(), {"model": Evil()}, {"args": pathlib.PurePosixPath("a")}], ids=["call", "inside", "class"]
)
def test_hostile_files_are_refused(saved, tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    refused(saved(content), tmp_path / "out", UnsafeCheckpointError, "is refused, and nothing in it was run: it asks")
    assert not (tmp_path / "evil").exists()


def test_torn_files(saved, tmp_path):
    path, out = saved(checkpoint()), tmp_path / "out"
    data = path.read_bytes()
    for length in (100, len(data) // 2, len(data) - 10):
        path.write_bytes(data[:length])
        refused(path, out, CheckpointFormatError, "is damaged or cut short")
    at = data.index(b"model_ema1")
    path.write_bytes(data[: at - 20] + bytes(20) + data[at:])
    refused(path, out, CheckpointFormatError, "is damaged|is refused")


def test_other_kinds_of_files(saved, tmp_path):
    out, path = tmp_path / "out", tmp_path / "file"
    for start, message in (
        (b"", "is empty: the download failed"),
        (pickle.dumps({"model": 1}), "a pickle or an older file of torch.save"),
        (b"<html>", "a web page"),
        (b"{}", "JSON text"),
        (b"hello", "is no file of torch.save"),
    ):
        path.write_bytes(start)
        refused(path, out, CheckpointFormatError, message)
    refused(saved({"model": 1}, _use_new_zipfile_serialization=False), out, CheckpointFormatError, "an older file")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "text")
    refused(path, out, CheckpointFormatError, r"none that torch.save writes \(it has no data.pkl\)")
    refused(tmp_path, out, CheckpointFormatError, "is a folder")
    refused(tmp_path / "none.pth", out, FileNotFoundError, "there is no file")


def test_compressed_parts(saved, tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(saved(checkpoint())) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.infolist():
            target.writestr(part.filename, source.read(part))
    refused(path, tmp_path / "out", UnsafeCheckpointError, "has compressed parts")


def without(name):
    content = entry(network())
    return {key: value for key, value in content.items() if key != f"net.{name}"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no dictionary of weights, but a value of type list"),
        ({"state": {}}, r"none of the entries model_ema1, model_ema2, model; it has 'state'"),
        ({}, "none of the entries"),
        ({"model": {}}, r"expected one tensor x_embedder\.proj1\.weight, got 0"),
        ({"model": without("pos_embed")}, "the tensor pos_embed is missing"),
        ({"model": without("blocks.1.mlp.w3.bias")}, r"do not fit.*blocks\.1\.mlp\.w3\.bias"),
        ({"model": without("x") | {"net.more": torch.zeros(1)}}, r"do not fit.*more"),
        ({"model": without("x") | {"other": torch.zeros(1)}}, "the entry 'other' outside the network 'net.'"),
        ({"model": without("x") | {"net.pos_embed": torch.zeros(1, 4, 8).fill_(float("nan"))}}, "NaN or infinity"),
        ({"model": without("x") | {"net.pos_embed": torch.zeros(1, 3, 8)}}, "3 patches, which make no square"),
        ({"model": without("x") | {"net.pos_embed": torch.zeros(4)}}, r"pos_embed has the shape \(4,\)"),
        ({"model": without("x") | {"net.pos_embed": torch.zeros(4).int()}}, r"a tensor of torch.int32"),
        ({"model": without("x") | {"net.pos_embed": "text"}}, "no tensor but a str"),
        ({"model": entry(network(out_channels=5))}, "5 channels at its output and 3 at its input"),
        ({"model": entry(network()), "args": argparse.Namespace(P_std=-1.0)}, "not possible: logit_normal"),
        ({"model": entry(network()), "args": argparse.Namespace(t_eps="a")}, "t_eps = 'a', which is not possible"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_is_no_such_checkpoint(saved, tmp_path, content, message):
    refused(saved(content), tmp_path / "out", CheckpointFormatError, message)


def test_choices_that_do_not_fit(saved, tmp_path):
    path, out = saved({"model": entry(network())}), tmp_path / "out"
    refused(path, out, CheckpointFormatError, r"has no weights 'ema2': give --weights model", Choices("ema2"))
    refused(path, out, ValueError, "unknown weights: got 'ema'.*'ema1', 'ema2', 'model'", Choices("ema"))
    refused(path, out, ValueError, "unknown forcing: got 'yes'", Choices(forcing="yes"))
    refused(path, out, CheckpointFormatError, r"no published size.* give --context-start, 0 \.\.\. 1", Choices())
    refused(path, out, CheckpointFormatError, r"one of the 2 blocks", Choices(context_start=2))
    refused(saved(entry(network())), out, CheckpointFormatError, "leave out --weights", Choices("model"))
