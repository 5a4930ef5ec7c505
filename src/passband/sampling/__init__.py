"""One sampler for every process: Euler (= DDIM), Heun, ancestral (= DDPM), guidance, and seeds per sample."""

from passband.sampling.grid import Spacing, default_spacing, time_grid
from passband.sampling.noise import SampleNoise
from passband.sampling.predict import Model, predict
from passband.sampling.sampler import Guidance, sample
from passband.sampling.schedules import FAST_SCHEDULE, schedule_times
from passband.sampling.solvers import SOLVERS, Ancestral, Euler, Heun, Solver
from passband.sampling.vocode import vocode

__all__ = [
    "FAST_SCHEDULE",
    "SOLVERS",
    "Ancestral",
    "Euler",
    "Guidance",
    "Heun",
    "Model",
    "SampleNoise",
    "Solver",
    "Spacing",
    "default_spacing",
    "predict",
    "sample",
    "schedule_times",
    "time_grid",
    "vocode",
]
