import json
import os
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch

import passband
from passband._checks import MissingExtraError
from passband.models import EDMUNet, Saveable, load_model, registered, save_model, saving


def network(seed=0, **options):
    torch.manual_seed(seed)
    small = {"model_channels": 8, "channel_mult": (1, 2), "num_blocks": 1, "embedding_type": "fourier"}
    return EDMUNet(8, 1, **(small | options))


def same(one, other):
    assert one.config == other.config
    assert list(one.state_dict()) == list(other.state_dict())
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_is_loaded(tmp_path):
    model = network(label_dim=3, resample_filter=(1, 3, 3, 1))
    save_model(model, tmp_path / "run" / "network")
    loaded = load_model(tmp_path / "run" / "network")
    assert same(model, loaded)
    assert not loaded.training
    assert names(tmp_path / "run" / "network") == ["config.json", "model.safetensors"]


def test_as_diffusers_models_are_saved(tmp_path):
    model = network()
    model.save_pretrained(tmp_path)
    assert same(model, EDMUNet.from_pretrained(tmp_path))


def test_config_says_what_it_is(tmp_path):
    model = network()
    save_model(model, tmp_path, extra={"source": "a file"})
    config = json.loads((tmp_path / "config.json").read_text())
    facts = {"_class_name": "EDMUNet", "_passband_version": passband.__version__, "_extra": {"source": "a file"}}
    assert config == facts | model.config
    assert same(model, load_model(tmp_path))


def test_memory_layout_does_not_matter(tmp_path):
    model = network()
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    model.to(memory_format=torch.channels_last)
    save_model(model, tmp_path)
    assert all(torch.equal(value, expected[name]) for name, value in load_model(tmp_path).state_dict().items())


def test_half_precision_comes_back_in_float32(tmp_path):
    model = network().bfloat16()
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
    assert same(model.float(), loaded)


def test_loading_leaves_the_random_state(tmp_path):
    save_model(network(), tmp_path)
    before = torch.get_rng_state()
    load_model(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_loaded_can_be_changed_and_saved_over(tmp_path):
    save_model(network(), tmp_path)
    model = load_model(tmp_path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    save_model(model, tmp_path)
    assert same(model, load_model(tmp_path))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_save_that_fails_leaves_the_old_network(tmp_path, monkeypatch):
    model = network(seed=1)
    save_model(model, tmp_path)

    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half of")
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OSError, match="no space left"):
        save_model(network(seed=2), tmp_path)
    assert same(model, load_model(tmp_path))
    assert names(tmp_path) == ["config.json", "model.safetensors"]


def test_files_are_for_others_to_read(tmp_path):
    save_model(network(), tmp_path)
    plain = tmp_path / "plain"
    plain.write_text("")
    assert {path.stat().st_mode for path in tmp_path.iterdir()} == {plain.stat().st_mode}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file(tmp_path, name):
    save_model(network(), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing; expected a folder"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b'{"_class_name": 3}'])
def test_a_damaged_configuration(tmp_path, content):
    save_model(network(), tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json' (is damaged|names the class)"):
        load_model(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights(tmp_path, share):
    save_model(network(), tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"model\.safetensors' is damaged"):
        load_model(tmp_path)


def change_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "EDMUnet"}, r"names the class 'EDMUnet' \(did you mean 'EDMUNet'\?\); expected one of"),
        ({"_class_name": "os.system"}, "names the class 'os.system'"),
        ({"depth": 3}, "holds 'depth', which EDMUNet does not know"),
        ({"dropout": 2}, "does not describe EDMUNet: dropout is a share"),
        ({"img_channels": None}, "does not describe EDMUNet: img_channels must be an int"),
        ({"model_channels": 16}, r"does not fit config.json .* has shape .* expected .*; and \d+ more"),
        ({"label_dim": 3}, "map_label.weight is missing; map_label.bias is missing"),
        ({"attn_resolutions": [8]}, "is missing"),
        ({"embedding_type": "positional"}, "map_noise.freqs is not in the network"),
    ],
)
def test_files_that_do_not_fit(tmp_path, changes, message):
    save_model(network(), tmp_path)
    change_config(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path)


def test_other_dropout_may_be_written_into_the_configuration(tmp_path):
    save_model(network(), tmp_path)
    change_config(tmp_path, dropout=0.25)
    assert load_model(tmp_path).enc["8x8_block0"].dropout == 0.25


class Hostile:
    def __reduce__(self):
        return Path.touch, (Path(os.environ["PASSBAND_TEST_TOUCHED"]),)


def test_a_pickle_in_disguise_is_refused_unread(tmp_path, monkeypatch):
    save_model(network(), tmp_path)
    monkeypatch.setenv("PASSBAND_TEST_TOUCHED", str(tmp_path / "touched"))
    for protocol in range(6):
        (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Hostile(), protocol))
        with pytest.raises(ValueError, match="is damaged"):
            load_model(tmp_path)
    torch.save(Hostile(), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="is damaged"):
        load_model(tmp_path)
    assert not (tmp_path / "touched").exists()


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(saving, "_MODELS", dict(saving._MODELS))


class Line(Saveable):
    def __init__(self, slope: float = 1.0) -> None:
        super().__init__()
        self.config = {"slope": slope}
        self.weight = torch.nn.Parameter(torch.tensor(slope))


def test_another_model_registers_itself(tmp_path, registry):
    assert registered(Line) is Line
    Line(3.0).save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert type(loaded) is Line
    assert loaded.weight.item() == 3.0
    with pytest.raises(ValueError, match="is Line, expected EDMUNet"):
        EDMUNet.from_pretrained(tmp_path)


def test_a_name_is_registered_once(registry):
    other = type("EDMUNet", (Saveable,), {"__module__": "elsewhere"})
    with pytest.raises(ValueError, match=r"'EDMUNet' is registered already, by passband\.models\.edm_unet"):
        registered(other)
    assert registered(EDMUNet) is EDMUNet


def test_an_unregistered_model_is_not_saved(tmp_path):
    with pytest.raises(TypeError, match="cannot save a Line: expected a network of one of 'DiffWave', 'EDMUNet'"):
        save_model(Line(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_json_does_not_hold(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_model(network(), tmp_path, extra={"weights": torch.zeros(1)})
    assert list(tmp_path.iterdir()) == []


def test_without_safetensors(tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="safetensors")

    monkeypatch.setattr("importlib.import_module", missing)
    for call in (lambda: save_model(network(), tmp_path), lambda: load_model(tmp_path)):
        with pytest.raises(MissingExtraError, match=r"pip install 'passband\[train\]'"):
            call()
