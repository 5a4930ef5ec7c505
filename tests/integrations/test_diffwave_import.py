"""Checkpoints of DiffWave: what is read of them, what is written, and what is refused."""

import hashlib
import json
import os
import pathlib
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

from passband import VP, Flow
from passband.integrations.checkpoints.import_folder import FILES, MEL_FILE
from passband.integrations.checkpoints.plain_pickle import CheckpointFormatError, UnsafeCheckpointError
from passband.integrations.diffwave import export_diffwave, import_diffwave, read_diffwave
from passband.models import DiffWave, load_model, save_model
from passband.process import cosine_alphas_cumprod, linear_alphas_cumprod, process_from_record
from passband.sampling import FAST_SCHEDULE

SMALL = {"residual_layers": 3, "residual_channels": 4, "dilation_cycle_length": 2, "n_mels": 6}
PROCESS = VP(alphas_cumprod=linear_alphas_cumprod(50, 1e-4, 0.05))
MEL = {"sample_rate": 16000, "n_mels": 6}


class AttrDict(dict):
    """The published code's: its attributes are its items. A file names it in a module that is not there."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.__dict__ = self


AttrDict.__module__ = "diffwave.params"


def network(seed=0, **options):
    torch.manual_seed(seed)
    model = DiffWave(**(SMALL | options)).eval()
    torch.nn.init.normal_(model.output_projection.weight, std=0.3)
    return model


def parameters(**changes):
    """As the published training records them."""
    recorded = {
        "batch_size": 16, "learning_rate": 2e-4, "max_grad_norm": None, "sample_rate": 16000, "n_mels": 6,
        "n_fft": 1024, "hop_samples": 256, "crop_mel_frames": 62, "residual_layers": 3, "residual_channels": 4,
        "dilation_cycle_length": 2, "unconditional": False, "noise_schedule": np.linspace(1e-4, 0.05, 50).tolist(),
        "inference_noise_schedule": [0.0001, 0.001, 0.01, 0.05, 0.2, 0.5], "audio_len": 110250,
    }  # fmt: skip
    return {name: value for name, value in (recorded | changes).items() if value is not ...}


def checkpoint(model=None, **changes):
    model = model or network()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4).state_dict()
    optimizer["state"] = {0: {"step": torch.tensor(7.0), "exp_avg": torch.ones(4)}}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return {"step": 1000, "model": state, "optimizer": optimizer, "params": parameters(**changes), "scaler": {}}


def equal(a, b):
    """Whether two contents are the same, tensors bit for bit and names in their order."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[name], b[name]) for name in a)
    return type(a) is type(b) and a == b


@pytest.fixture
def saved(tmp_path):
    """The file of some content."""

    def save(content, **options):
        torch.save(content, tmp_path / "weights.pt", **options)
        return tmp_path / "weights.pt"

    return save


def test_the_reference_network(shared, saved, tmp_path):
    arrays = np.load(shared / "parity" / "diffwave_dev.npz")
    config = json.loads((shared / "parity" / "diffwave_config_dev.json").read_text())
    weights = {key[2:]: torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith("w:")}
    known = {name: config[name] for name in config if name in parameters()}
    import_diffwave(saved({"step": 1, "model": weights, "params": parameters() | known}), tmp_path / "out")
    model = load_model(tmp_path / "out")
    given = (torch.from_numpy(arrays[f"in_{key}"]) for key in ("audio", "t", "spectrogram"))
    out, wanted = model(*given), torch.from_numpy(arrays["out"])
    assert (out.reshape(wanted.shape) - wanted).abs().max() < 1e-5 * wanted.abs().max()
    with pytest.raises(FileExistsError, match="is a folder: give the name of the file"):
        export_diffwave(tmp_path / "out", tmp_path / "out", replace=True)
    export_diffwave(tmp_path / "out", tmp_path / "again.pt")
    assert equal(torch.load(tmp_path / "again.pt", weights_only=True)["model"], weights)


def test_a_whole_checkpoint(saved, tmp_path):
    path, out = saved(checkpoint()), tmp_path / "out"
    found = import_diffwave(path, out)
    model = load_model(out)
    assert model.config == network().config
    assert equal(dict(model.state_dict()), dict(network().state_dict()))
    process = json.loads((out / "process.json").read_text())
    assert process == {
        "name": "vp", "prediction": "epsilon", "schedule": "linear", "steps": 50, "beta_start": 1e-4, "beta_end": 0.05
    }  # fmt: skip
    times = torch.arange(50.0, dtype=torch.float64)
    levels = (process_from_record(process).level(times).alpha, PROCESS.level(times).alpha)
    assert torch.allclose(*levels, rtol=1e-12)
    assert json.loads((out / "mel.json").read_text()) == {
        "sample_rate": 16000, "n_fft": 1024, "win_length": None, "hop_length": 256, "n_mels": 6, "f_min": 20.0,
        "f_max": None, "scale": "htk", "area_norm": False,
    }  # fmt: skip
    origin = json.loads((out / "import.json").read_text())
    assert origin["parameters"] == found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (origin["step"], origin["params"]) == (1000, parameters())
    assert set(origin["discarded"]) == {"optimizer", "scaler"}
    assert origin["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sorted(file.name for file in out.iterdir()) == sorted((*FILES, MEL_FILE))


@pytest.mark.parametrize("older", [False, True], ids=["archive", "older"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_forms_of_files(saved, monkeypatch, older, prefix):
    """Parameters of the published class, which is not there; a wrapper's names; both forms of torch.save."""
    module = types.ModuleType("diffwave.params")
    module.AttrDict = AttrDict
    content = checkpoint()
    content["params"] = AttrDict(content["params"], inner=AttrDict(a=1))
    content["model"] = {prefix + name: value for name, value in content["model"].items()}
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "diffwave", types.ModuleType("diffwave"))
        patch.setitem(sys.modules, "diffwave.params", module)
        path = saved(content, _use_new_zipfile_serialization=not older)
    found = read_diffwave(path)
    assert "diffwave" not in sys.modules
    assert found.params == parameters()
    assert equal(found.state, dict(network().state_dict()))


def test_what_a_file_leaves_out_is_as_published(saved):
    model = network(dilation_cycle_length=10)
    found = read_diffwave(saved({"model": model.state_dict()}))
    assert (found.config, found.step, found.params) == (model.config, None, {})
    assert (found.mel["sample_rate"], found.process["steps"], found.process["beta_end"]) == (22050, 50, 0.05)
    alone = read_diffwave(saved({name: value.half() for name, value in model.state_dict().items()}))
    assert (alone.config, alone.entries) == (model.config, ())
    assert all(value.dtype == torch.float32 for value in alone.state.values())
    table = {"diffusion_embedding.embedding": torch.zeros(50, 128)}
    assert set(read_diffwave(saved({"model": {**model.state_dict(), **table}})).state) == set(model.state_dict())


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, {}),
        ({"unconditional": True}, {"unconditional": True}),
        ({"upsample_factors": [4, 8, 2]}, {"hop_samples": 64, "n_fft": 256}),
        ({"residual_layers": 5, "residual_channels": 2}, {"residual_layers": 5, "residual_channels": 2}),
        ({"n_mels": 11}, {"n_mels": 11}),
    ],
    ids=str,
)
def test_every_size_is_found_and_comes_back(saved, tmp_path, options, changes):
    """import, export and import again: the same content, the same folder."""
    model = network(**options)
    content = checkpoint(model, **changes)
    path = saved(content)
    assert read_diffwave(path).config == model.config
    import_diffwave(path, tmp_path / "out")
    result = export_diffwave(tmp_path / "out", tmp_path / "back.pt")
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert list(back) == ["step", "model", "optimizer", "params", "scaler"]
    assert all(equal(back[name], content[name]) for name in ("step", "model", "params", "scaler"))
    assert result.params == content["params"]
    import_diffwave(tmp_path / "back.pt", tmp_path / "out2")
    for name in ("config.json", "model.safetensors", "process.json", "mel.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "out2" / name).read_bytes(), name


def test_an_export_is_the_same_file_each_time(tmp_path):
    for name in ("a.pt", "b.pt"):
        export_diffwave(network(), tmp_path / name, process=PROCESS, mel=MEL)
    import_diffwave(tmp_path / "a.pt", tmp_path / "out")
    export_diffwave(tmp_path / "out", tmp_path / "c.pt")
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes() == (tmp_path / "c.pt").read_bytes()


def test_a_network_of_ours(tmp_path):
    model = network().bfloat16()
    result = export_diffwave(model, tmp_path / "new" / "x.pt", process=PROCESS, mel=MEL, step=5)
    content = torch.load(result.path, weights_only=True)
    assert content["step"] == result.step == 5
    assert result.differs == ()
    assert (content["params"]["noise_schedule"], content["params"]["inference_noise_schedule"]) == (
        pytest.approx(np.linspace(1e-4, 0.05, 50).tolist()),
        list(FAST_SCHEDULE),
    )
    assert type(content["params"]) is dict
    assert all(value.dtype == torch.float32 for value in content["model"].values())
    optimizer = torch.optim.Adam(network().parameters())
    optimizer.load_state_dict(content["optimizer"])  # as the published training resumes
    assert optimizer.param_groups[0]["lr"] == 2e-4
    import_diffwave(result.path, tmp_path / "out")
    assert equal(load_model(tmp_path / "out").state_dict(), model.float().state_dict())


def test_what_the_published_code_does_not_know_is_kept_and_said(tmp_path):
    mel = MEL | {"win_length": 800, "f_min": 0.0, "f_max": 7000.0, "scale": "slaney", "area_norm": True}
    result = export_diffwave(network(), tmp_path / "x.pt", process=VP(), mel=mel)
    assert result.params["inference_noise_schedule"] == result.params["noise_schedule"]
    assert len(result.differs) == 5
    assert "its spectrograms have win_length = 1024, ours 800" in result.differs
    import_diffwave(tmp_path / "x.pt", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "mel.json").read_text())
    assert found == mel | {"n_fft": 1024, "hop_length": 256}
    record = json.loads((tmp_path / "out" / "process.json").read_text())
    assert (record["steps"], record["beta_start"], record["beta_end"]) == (1000, 1e-4, 0.02)
    odd = network(upsample_factors=[8, 4])
    result = export_diffwave(odd, tmp_path / "y.pt", process=PROCESS, mel=MEL | {"hop_length": 32, "n_fft": 256})
    assert "by 16 x 16, this network by 8 x 4: it cannot load it" in result.differs[-1]
    half = MEL | {"f_max": 8000.0}
    assert export_diffwave(network(), tmp_path / "z.pt", process=PROCESS, mel=half).differs == ()
    chosen = export_diffwave(tmp_path / "out", tmp_path / "v.pt", inference_schedule=(0.01, 0.2, 0.9), step=2)
    assert (chosen.params["inference_noise_schedule"], chosen.step) == ([0.01, 0.2, 0.9], 2)


def test_files_that_are_there_stay(tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="is there already: choose another name, or replace it"):
        export_diffwave(network(), path, process=PROCESS, mel=MEL)
    with pytest.raises(FileExistsError):
        export_diffwave(network(), tmp_path, process=PROCESS, mel=MEL, replace=True)
    assert path.read_bytes() == b"mine"
    export_diffwave(network(), path, process=PROCESS, mel=MEL, replace=True)
    assert read_diffwave(path).config == network().config


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"mel": None}, ValueError, "needs the network's process and mel"),
        ({"process": None}, ValueError, "needs the network's process and mel"),
        ({"process": Flow(1)}, ValueError, "predict the noise of a VP process, got Flow"),
        ({"process": VP("v_prediction")}, ValueError, "predict the noise of a VP process"),
        ({"process": VP(alphas_cumprod=cosine_alphas_cumprod(50))}, ValueError, "betas are not linear"),
        ({"mel": MEL | {"n_mels": 8}}, ValueError, "takes 6 bands and 256 samples a frame, and mel says 8 and 256"),
        ({"mel": MEL | {"hop_length": 128}}, ValueError, "and mel says 6 and 128"),
        ({"inference_schedule": (0.5, 0.9)}, ValueError, "choose betas whose products stay within"),
    ],
    ids=str,
)
def test_what_cannot_be_exported(tmp_path, options, kind, message):
    with pytest.raises(kind, match=message):
        export_diffwave(network(), tmp_path / "x.pt", **({"process": PROCESS, "mel": MEL} | options))
    assert not (tmp_path / "x.pt").exists()


def test_folders_that_cannot_be_exported(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no imported DiffWave at .*process.json is missing"):
        export_diffwave(tmp_path, tmp_path / "x.pt")
    folder = tmp_path / "other"
    export_diffwave(network(), tmp_path / "x.pt", process=PROCESS, mel=MEL)
    import_diffwave(tmp_path / "x.pt", folder)
    (folder / "mel.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"mel\.json' is damaged"):
        export_diffwave(folder, tmp_path / "y.pt")


def test_an_address_and_a_hash(saved, tmp_path):
    path, out = saved(checkpoint()), tmp_path / "out"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert import_diffwave(path.as_uri(), out, sha256=digest.upper()).checkpoint.sha256 == digest
    import_diffwave(path, out)  # an earlier import is replaced
    with pytest.raises(CheckpointFormatError, match=f"has the SHA-256 {digest}, expected 000"):
        import_diffwave(path, out, sha256="0" * 64)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds something else \('notes.txt'\)"):
        import_diffwave(path, out)


# What is refused: always before anything is written.


def refused(path, out, kind, message):
    with pytest.raises(kind, match=message):
        import_diffwave(path, out)
    assert not out.exists()


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


class EvilParams(dict):
    """An AttrDict that asks for a call when its state is set."""

    def __reduce__(self):
        return AttrDict, (Evil(),)


@pytest.mark.parametrize("older", [False, True], ids=["archive", "older"])
@pytest.mark.parametrize(
    "content",
    [Evil(), {"model": Evil()}, {"params": pathlib.PurePosixPath("a")}, {"params": EvilParams()}],
    ids=["call", "inside", "class", "params"],
)
def test_hostile_files_are_refused(saved, tmp_path, monkeypatch, content, older):
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("diffwave.params")
    module.AttrDict = AttrDict
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "diffwave", types.ModuleType("diffwave"))
        patch.setitem(sys.modules, "diffwave.params", module)
        path = saved(content, _use_new_zipfile_serialization=not older)
    refused(path, tmp_path / "out", UnsafeCheckpointError, "is refused, and nothing in it was run: it asks")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("older", [False, True], ids=["archive", "older"])
def test_torn_files(saved, tmp_path, older):
    path, out = saved(checkpoint(), _use_new_zipfile_serialization=not older), tmp_path / "out"
    data = path.read_bytes()
    for length in (100, len(data) // 2, len(data) - 10):
        path.write_bytes(data[:length])
        refused(path, out, CheckpointFormatError, "is damaged")
    at = data.index(b"residual_layers")
    path.write_bytes(data[: at - 20] + bytes(20) + data[at:])
    refused(path, out, CheckpointFormatError, "is damaged|is refused")


def test_other_kinds_of_files(saved, tmp_path):
    out, path = tmp_path / "out", tmp_path / "file"
    for start, message in (
        (b"", "is empty: the download failed"),
        (pickle.dumps({"model": 1}), "is a pickle"),
        (b"<html>", "a web page"),
        (b"{}", "JSON text"),
        (b"hello", "is no file of torch.save; give a checkpoint of DiffWave"),
    ):
        path.write_bytes(start)
        refused(path, out, CheckpointFormatError, message)
    with zipfile.ZipFile(saved(checkpoint())) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.infolist():
            target.writestr(part.filename, source.read(part))
    refused(path, out, UnsafeCheckpointError, "has compressed parts")
    refused(tmp_path, out, CheckpointFormatError, "is a folder")
    refused(tmp_path / "none.pt", out, FileNotFoundError, "there is no file")


def test_a_small_file_of_large_tensors(saved, tmp_path):
    state = {name: torch.zeros(1).expand(value.shape) for name, value in network().state_dict().items()}
    refused(saved({"model": state}), tmp_path / "out", UnsafeCheckpointError, "more tensors than the file has room for")


def damaged(name, value=...):
    state = dict(network().state_dict()) | {name: value}
    return {"model": {name: value for name, value in state.items() if value is not ...}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no dictionary of weights, but a value of type list"),
        ({"state": {}}, "has no entry 'model' with weights; it has 'state'"),
        ({}, "has no entry 'model' with weights; it has none"),
        ({"model": {}}, r"expected one tensor input_projection\.weight, got 0"),
        (damaged("residual_layers.0.conditioner_projection.weight"), "conditioner_projection.weight is missing"),
        (damaged("residual_layers.1.dilated_conv.bias"), r"do not fit.*residual_layers\.1\.dilated_conv\.bias"),
        (damaged("more", torch.zeros(1)), "do not fit a DiffWave.*more"),
        (damaged("skip_projection.bias", torch.full((4,), torch.nan)), "NaN or infinity"),
        (damaged("skip_projection.bias", torch.zeros(4).int()), r"a tensor of torch.int32"),
        (damaged("skip_projection.bias", "text"), "no tensor but a str"),
        (damaged("input_projection.weight", torch.zeros(4)), r"has the shape \(4,\), expected 3 sizes"),
        (checkpoint(residual_layers=30), "says residual_layers = 30, and its weights are those of 3"),
        (checkpoint(residual_channels=64), "says residual_channels = 64, and its weights are those of 4"),
        (checkpoint(n_mels=80), "says n_mels = 80, and its weights are those of 6"),
        (checkpoint(hop_samples=300), "says hop_samples = 300, and its weights are those of 256"),
        (checkpoint(unconditional=True), "says unconditional = True, and its weights are those of False"),
        (checkpoint(dilation_cycle_length=60), "says dilation_cycle_length = 60, which is not possible"),
        (checkpoint(sample_rate="fast"), "says sample_rate = 'fast', which is not possible"),
        (checkpoint(n_fft=256), "spectrogram that is not possible: win_length must be at most n_fft"),
        (checkpoint(noise_schedule=[0.1, 2.0]), "no noise_schedule of numbers between 0 and 1"),
        (checkpoint(noise_schedule="a"), "no noise_schedule of numbers between 0 and 1"),
        (checkpoint(noise_schedule=[0.1, 0.2, 0.5]), "a noise_schedule that is not linear"),
        (checkpoint() | {"params": [1]}, "has under 'params' no dictionary but a value of type list"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_is_no_such_checkpoint(saved, tmp_path, content, message):
    refused(saved(content), tmp_path / "out", CheckpointFormatError, message)


def test_another_network_is_no_diffwave(tmp_path):
    from passband.models import EDMUNet

    export_diffwave(network(), tmp_path / "x.pt", process=PROCESS, mel=MEL)
    import_diffwave(tmp_path / "x.pt", tmp_path / "out")
    save_model(EDMUNet(8, 1, model_channels=8, channel_mult=(1,), num_blocks=1), tmp_path / "out")
    with pytest.raises(TypeError, match="holds a EDMUNet, expected a DiffWave"):
        export_diffwave(tmp_path / "out", tmp_path / "y.pt")
