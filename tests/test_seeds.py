import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from passband._seeds import seed_for


def test_is_the_documented_hash():
    digest = hashlib.blake2b(b"3,-5,noise", digest_size=8).digest()
    assert seed_for(3, -5, "noise") == int.from_bytes(digest, "little") // 2


def test_fits_a_torch_generator():
    seeds = [
        seed_for(seed, index, stream) for seed in (-1, 0, 2**70) for index in (0, -3, 10**12) for stream in ("", "ü")
    ]
    assert all(0 <= seed < 2**63 for seed in seeds)
    for seed in seeds:
        assert torch.Generator().manual_seed(seed).initial_seed() == seed


def test_arguments_do_not_run_together():
    # 1,11 against 11,1; a digit in the stream; neighbouring streams.
    seeds = [seed_for(s, i, stream) for s in range(12) for i in range(12) for stream in ("", "1", "2", ",1", "noise")]
    assert len(set(seeds)) == len(seeds)


def test_every_bit_is_fair():
    seeds = np.array([seed_for(0, index, "noise") for index in range(4000)])
    ones = (seeds[:, None] >> np.arange(63) & 1).mean(0)
    assert np.abs(ones - 0.5).max() < 5 * 0.5 / np.sqrt(4000)


def test_same_in_another_process():
    code = "from passband._seeds import seed_for; print(seed_for(7, 11, 'crop'))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) == seed_for(7, 11, "crop")


def test_integers_of_other_packages():
    assert seed_for(np.int64(2), torch.tensor(3), "a") == seed_for(2, 3, "a")


def test_wrong_types():
    with pytest.raises(TypeError, match="integer"):
        seed_for(1.5, 0)
    with pytest.raises(TypeError, match="stream must be a string, got int"):
        seed_for(0, 0, 1)
