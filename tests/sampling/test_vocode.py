"""Waveforms in chunks: equal to the whole at once, smooth joints, one seed, clear errors."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband import VP
from passband.models import DiffWave
from passband.process import linear_alphas_cumprod
from passband.sampling import sample, schedule_times, vocode
from passband.sampling.vocode import InChunks

HOP = 16
PROCESS = VP(alphas_cumprod=linear_alphas_cumprod(50, 1e-4, 0.05))
TIMES = schedule_times(PROCESS)


@pytest.fixture(scope="module")
def network():
    """Every output depends on 2 * 15 samples and on four frames on each side; no branch is silent."""
    torch.manual_seed(0)
    model = DiffWave(5, residual_layers=8, residual_channels=6, dilation_cycle_length=4, upsample_factors=(4, 4)).eval()
    torch.nn.init.normal_(model.output_projection.weight, std=0.5)
    return model


def mel(frames, bands=5, seed=1):
    return torch.rand(bands, frames, generator=torch.Generator().manual_seed(seed))


def run(model, spectrogram, **options):
    return vocode(model, PROCESS, spectrogram, **({"hop_length": HOP, "times": TIMES} | options))


@pytest.mark.parametrize("solver", ["euler", "ancestral", "heun"])
@pytest.mark.parametrize(("frames", "chunk"), [(70, 40), (103, 33), (64, 60), (41, 40)])
def test_chunks_change_nothing_where_their_overlap_covers_what_the_network_sees(network, frames, chunk, solver):
    whole = run(network, mel(frames), chunk_frames=None, solver=solver)
    assert whole.shape == (frames * HOP,)
    assert whole.std() > 0.05
    assert torch.allclose(run(network, mel(frames), chunk_frames=chunk, solver=solver), whole, atol=2e-5)
    joined = run(network, mel(frames), chunk_frames=chunk, solver=solver, batch_size=3)
    assert torch.allclose(joined, whole, atol=2e-5)


def test_a_smaller_overlap_is_felt_at_the_joints_alone(network):
    whole = run(network, mel(120), chunk_frames=None)
    near = (run(network, mel(120), chunk_frames=40, overlap_frames=2) - whole).abs()
    assert near.max() > 1e-4
    (second, *_) = InChunks(network, 120, 40, 2, HOP).starts[1:]
    assert near[: (second - 2 * len(TIMES)) * HOP - 6 * 30].max() < 2e-5  # each step carries it one field further


def test_the_whole_is_a_draw_of_the_sampler(network):
    expected = sample(
        network, PROCESS, (1, 20 * HOP), seeds=[4], times=TIMES, solver="ancestral",
        conditioning={"spectrogram": mel(20)[None]},
    )  # fmt: skip
    assert torch.equal(run(network, mel(20), seed=4, solver="ancestral"), expected[0, 0])


def test_one_seed_decides_all_noise(network):
    options = {"solver": "ancestral", "chunk_frames": 30}
    first, state = run(network, mel(50), seed=1, **options), torch.get_rng_state()
    torch.randn(3)
    assert torch.equal(run(network, mel(50), seed=1, **options), first)
    assert not torch.equal(run(network, mel(50), seed=2, **options), first)
    torch.set_rng_state(state)
    run(network, mel(50), **options)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_short_files(network, frames):
    found = run(network, mel(frames))
    assert found.shape == (frames * HOP,)
    assert torch.equal(found, run(network, mel(frames), chunk_frames=500, overlap_frames=499))
    assert bool(found.isfinite().all())


def test_precision_and_clipping(network):
    half = DiffWave(**network.config).bfloat16()
    half.load_state_dict(network.state_dict())
    found = run(half, mel(50), chunk_frames=30)
    assert found.dtype == torch.float32
    assert (found - run(network, mel(50))).abs().mean() < 0.05
    assert run(network, mel(50), clip=0.01).abs().max() <= 0.01 + 1e-6


def test_any_function_is_a_network():
    """Its prediction is the noise exactly where x is noise alone, so that the waveform is silent."""
    calls = []

    def model(x, t, spectrogram):
        calls.append((tuple(x.shape), tuple(spectrogram.shape), len(t)))
        return x / PROCESS.level(t.double()).sigma.to(x).reshape(-1, 1, 1)

    found = run(model, mel(100), chunk_frames=40, batch_size=2, overlap_frames=10)
    assert found.abs().max() < 1e-5
    assert set(calls) == {((2, 1, 40 * HOP), (2, 5, 40), 2), ((1, 1, 40 * HOP), (1, 5, 40), 1)}


def test_progress(network):
    seen = []
    run(network, mel(50), chunk_frames=30, on_step=lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, 6) for i in range(6)]


@given(st.integers(1, 90), st.integers(1, 40), st.data())
def test_weights_sum_to_one_and_no_chunk_is_short(frames, chunk, data):
    chunk = min(chunk, frames)
    overlap = data.draw(st.integers(0, chunk - 1))
    chunks = InChunks(lambda *_: None, frames, chunk, overlap, 4)
    total, starts = torch.zeros(frames * 4), chunks.starts
    for start in starts:
        weights = chunks.weights(start)
        assert weights.min() >= 0
        total[start * 4 : (start + chunk) * 4] += weights
        if start > 0 and overlap > 3:
            assert weights[: overlap - 1].max() == 0  # a quarter of the overlap, in samples
    assert torch.allclose(total, torch.ones_like(total), atol=1e-6)
    assert (starts[0], starts[-1] + chunk) == (0, frames)
    assert all(0 < b - a <= chunk - overlap for a, b in pairwise(starts))


@pytest.mark.parametrize(
    ("spectrogram", "options", "kind", "message"),
    [
        (mel(8, 6), {}, ValueError, r"spectrograms of 5 bands, got \(6, 8\)"),
        (mel(8).T, {}, ValueError, r"spectrograms of 5 bands, got \(8, 5\)"),
        (mel(8)[None], {}, ValueError, r"\(n_mels, frames\), got shape \(1, 5, 8\)"),
        (mel(0), {}, ValueError, r"got shape \(5, 0\)"),
        (mel(8).int(), {}, TypeError, "spectrogram must be a real floating-point tensor"),
        (mel(8).numpy(), {}, TypeError, "spectrogram must be a torch.Tensor, got ndarray"),
        (mel(8).log() * torch.nan, {}, ValueError, "NaN or infinity"),
        (mel(8) / 0, {}, ValueError, "NaN or infinity"),
        (mel(8), {"hop_length": 256}, ValueError, "the network's 16 samples per frame, got 256"),
        (mel(8), {"hop_length": 1.5}, TypeError, "hop_length must be an int"),
        (mel(8), {"chunk_frames": 4, "overlap_frames": 4}, ValueError, "below chunk_frames, got 4 and 4"),
        (mel(8), {"chunk_frames": 0}, ValueError, "chunk_frames must be at least 1"),
        (mel(8), {"overlap_frames": -1}, ValueError, "overlap_frames must be at least 0"),
        (mel(8), {"chunk_frames": 2.0}, TypeError, "chunk_frames must be an int"),
        (mel(8), {"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        (mel(8), {"solver": "ddim"}, ValueError, "unknown solver"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict | str) else "",
)
def test_errors(network, spectrogram, options, kind, message):
    with pytest.raises(kind, match=message):
        run(network, spectrogram, **options)


def test_an_unconditional_network_is_no_vocoder():
    model = DiffWave(residual_layers=1, residual_channels=4, unconditional=True)
    with pytest.raises(ValueError, match=r"takes no spectrogram: draw waveforms with passband\.sample"):
        run(model, mel(8, 80), hop_length=256)
