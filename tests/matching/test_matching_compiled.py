"""The losses and operators under torch.compile."""

import subprocess
import sys

COMPILED = """
import torch
from passband.matching import AlignmentLoss, dsm_mask, esm_divergence

torch.manual_seed(0)
image, latent = torch.randn(2, 3, 32, 24), torch.randn(2, 4, 8, 6)
align = AlignmentLoss(4, 5, hidden=8, target="dog")
features = torch.randn(2, 5, 8, 6)

def step(z):
    masked = dsm_mask(image, z, 10)[1]
    return esm_divergence(image, z).mean() + align.compare(align.project(masked), features)

results = []
for call in (step, torch.compile(step, backend="eager", fullgraph=True)):
    z = latent.clone().requires_grad_()
    loss = call(z)
    results.append((loss, *torch.autograd.grad(loss, z)))
torch.testing.assert_close(*results)
"""


def test_compiles_as_one_graph():
    # In a process of its own: the run-time shape checks of this one are not part of the library and break the graph.
    result = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
