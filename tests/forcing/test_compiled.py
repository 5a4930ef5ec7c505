"""The operator and forced networks under torch.compile."""

import subprocess
import sys

COMPILED = """
import torch
from torch import nn
from passband import EDM, SpectralForcing, VP
from passband.forcing import attached, spectral_low_pass
from passband.models import EDMDenoiser

# The operator in one graph, from the second side on of a size that is not fixed.
compiled = torch.compile(spectral_low_pass, backend="aot_eager", fullgraph=True)
cutoff = torch.tensor([0.3, 0.8])
for side in (8, 12, 16):
    results = []
    field = torch.randn(2, 1, side, 8)
    for function in (spectral_low_pass, compiled):
        z = field.clone().requires_grad_()
        forced = function(z, cutoff, window=4, exact=True)
        results.append((forced, *torch.autograd.grad(forced.square().sum(), z)))
    torch.testing.assert_close(*results)

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)
    def forward(self, x, t):
        return self.layer(x) + t.reshape(-1, 1, 1, 1)

# Attached before: one graph, for a process with tables too.
x, t = torch.randn(2, 1, 8, 8), torch.tensor([10, 900])
network = Plain()
SpectralForcing(VP()).attach(network)
compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
torch.testing.assert_close(compiled(x, t), network(x, t))
compiled(x, t).sum().backward()

# Attached to what has been compiled and has run: the network, its wrapper, in place, and inside another one.
sigma = torch.tensor([0.5, 5.0])
for kind in ("inner", "wrapper", "in place", "nested"):
    network = EDMDenoiser(Plain()) if kind == "nested" else Plain()
    compiled = network
    plain = network(x, sigma)
    if kind == "in place":
        network.compile(backend="eager")
    else:
        compiled = torch.compile(network, backend="eager")
    torch.testing.assert_close(compiled(x, sigma), plain)
    spectral = SpectralForcing(EDM())
    attachment = spectral.attach(compiled if kind == "wrapper" else network)
    assert attached(compiled) is spectral, kind
    forced = compiled(x, sigma)
    with torch.compiler.set_stance("force_eager"):
        torch.testing.assert_close(forced, network(x, sigma))
    assert not torch.allclose(forced, plain, atol=1e-3), kind
    attachment.detach()
    torch.testing.assert_close(compiled(x, sigma), plain)
"""


def test_compiled_code():
    # In a process of its own: the run-time shape checks of this one are not part of the library and break the graph.
    result = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
