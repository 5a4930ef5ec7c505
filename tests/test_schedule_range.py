"""The linear schedule's range of betas: its table, its record and its settings in a recipe."""

import json
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from passband.process import VP, cosine_alphas_cumprod, linear_alphas_cumprod, process_from_record, process_record
from passband.training.sections import VPProcess

DIFFWAVE = {"schedule": "linear", "steps": 50, "beta_start": 1e-4, "beta_end": 0.05}


def vp(settings: VPProcess) -> VP:
    process = process_from_record(settings.model_dump())
    assert isinstance(process, VP)
    return process


def table(process: VP) -> torch.Tensor:
    return process.level(torch.arange(process.steps, dtype=torch.float64)).alpha.square()


def test_diffwaves_table():
    expected = np.cumprod(1 - np.linspace(1e-4, 0.05, 50))
    np.testing.assert_allclose(linear_alphas_cumprod(50, 1e-4, 0.05).numpy(), expected, rtol=1e-14)
    np.testing.assert_allclose(linear_alphas_cumprod(50, beta_end=0.05).numpy(), expected, rtol=1e-14)
    np.testing.assert_allclose(table(process_from_record({"name": "vp", **DIFFWAVE})).numpy(), expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("steps", "start", "end"),
    [(50, 1e-4, 0.05), (200, 1e-4, 0.02), (1000, 8.5e-4, 0.012), (10, 0.3, 0.3), (1, 0.1, 0.5)],
)
def test_a_range_is_recorded_and_restored(steps, start, end):
    process = VP("v_prediction", alphas_cumprod=linear_alphas_cumprod(steps, start, end))
    record = json.loads(json.dumps(process_record(process)))
    assert "alphas_cumprod" not in record
    assert (record["schedule"], record["steps"]) == ("linear", steps)
    if (start, end) != (1e-4, 0.02):
        assert (record["beta_start"], record["beta_end"]) == (start, end if steps > 1 else start)
    again = process_from_record(record)
    assert again.prediction == "v_prediction"
    assert torch.equal(table(again), table(process)) or torch.allclose(table(again), table(process), rtol=1e-14)


def test_the_default_range_needs_no_record():
    assert set(process_record(VP())) == {"name", "prediction", "sigma_data", "schedule", "steps"}
    assert process_record(VP(alphas_cumprod=cosine_alphas_cumprod(100)))["schedule"] == "cosine"


@pytest.mark.parametrize("betas", [[0.02, 0.01, 0.005], [0.1, 0.5, 0.2, 0.3], [1e-4, 0.3, 1.0]], ids=str)
def test_another_table_is_kept_as_numbers(betas):
    process = VP(alphas_cumprod=(1 - torch.tensor(betas, dtype=torch.float64)).cumprod(0))
    record = process_record(process)
    assert len(record["alphas_cumprod"]) == len(betas)
    assert torch.allclose(table(process_from_record(record)), table(process), rtol=1e-12, atol=0)


# Settings.


def test_settings_write_the_range_out():
    assert VPProcess(name="vp").model_dump() | DIFFWAVE == VPProcess(name="vp", **DIFFWAVE).model_dump()
    default = VPProcess(name="vp", beta_start=None)
    assert (default.beta_start, default.beta_end) == (1e-4, 0.02)
    assert torch.equal(table(vp(default)), table(VP()))
    assert torch.equal(
        table(vp(VPProcess(name="vp", **DIFFWAVE))), table(VP(alphas_cumprod=linear_alphas_cumprod(50, 1e-4, 0.05)))
    )


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_resolved_settings_are_read_again(schedule):
    settings = VPProcess(name="vp", schedule=schedule, steps=50)
    assert VPProcess.model_validate(json.loads(json.dumps(settings.model_dump()))) == settings
    assert vp(settings).steps == 50


def test_impossible_ranges():
    with pytest.raises(ValidationError, match=r"beta_start must not be above beta_end, got 0\.05 and 0\.02"):
        VPProcess(name="vp", beta_start=0.05)
    with pytest.raises(ValidationError, match="are the linear schedule's, got schedule: cosine"):
        VPProcess(name="vp", schedule="cosine", beta_end=0.05)
    with pytest.raises(ValidationError, match=r"beta_end\n.*less than 1"):
        VPProcess(name="vp", beta_end=1.0)
    with pytest.raises(ValidationError, match=r"unknown key 'beta_stop'.*beta_start"):
        VPProcess(name="vp", beta_stop=0.05)
    with pytest.raises(ValueError, match="are the linear schedule's, got schedule 'cosine'"):
        process_from_record({"name": "vp", "schedule": "cosine", "beta_end": 0.05})
    with pytest.raises(ValueError, match=r"0 <= beta_start <= beta_end < 1, got 50, 0\.1 and 0\.05"):
        linear_alphas_cumprod(50, 0.1, 0.05)
    with pytest.raises(ValueError, match="a schedule needs"):
        linear_alphas_cumprod(50, math.nan)
    with pytest.raises(TypeError, match=r"steps must be an int, got 50\.0"):
        linear_alphas_cumprod(50.0)
    with pytest.raises(TypeError, match=r"beta_end must be a number, got '0\.05'"):
        linear_alphas_cumprod(50, 1e-4, "0.05")
