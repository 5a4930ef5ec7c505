"""`passband import jit`: a folder from a checkpoint of torch.save, and one message for what is none."""

from pathlib import Path

import torch

from passband.models import JiT, load_model


def checkpoint(path):
    model = JiT(8, 4, hidden_size=8, depth=2, num_heads=2, num_classes=3, in_context_start=1, patch_embedding="linear")
    torch.save({"model": {f"net.{name}": value for name, value in model.state_dict().items()}, "epoch": 1}, path)
    return path


def test_a_network_and_what_is_said_of_it(passband):
    path = checkpoint(Path("network.pth"))
    result = passband("import", "jit", path, "--context-start", 1)
    assert result.status == 0
    model = load_model("runs/network")
    assert model.recorded_forcing["front"] == {"name": "linear", "c_min": 0.05, "c_max": 1.0}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    for text in (
        "Imported 'runs/network'",
        f"JiT: 2 blocks of width 8, patches of 4, {parameters:,} parameters",
        "8 x 8, 3 channels",
        "name linear, c_min 0.05, c_max 1.0, kappa 30.0",
        "taken           'model'",
        "set aside       epoch",
        "passband sample runs/network",
        "model.name=jit model.pretrained=runs/network process.name=flow process.data_at=1 process.prediction=sample",
    ):
        assert text in result.err, text


def test_options(passband):
    path, out = checkpoint(Path("network.pth")), Path("out")
    result = passband("import", "jit", path, "--out", out)
    assert (result.status, "give --context-start, 0 ... 1" in result.err, out.exists()) == (2, True, False)
    options = ("--context-start", 1, "--forcing", "none", "--noise-scale", 1, "--weights", "model")
    assert passband("import", "jit", path.absolute().as_uri(), "--out", out, *options).status == 0
    assert load_model(out).recorded_forcing is None
    result = passband("import", "jit", path, "--out", out, "--weights", "ema1")
    assert (result.status, "has no weights 'ema1'" in result.err) == (2, True)
