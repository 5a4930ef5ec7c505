"""The report of two sets of samples: where, by how much and how surely their spectra differ."""

from passband.reports.spectrum.report import Beside, spectrum_report
from passband.reports.spectrum.verdict import describe

__all__ = ["Beside", "describe", "spectrum_report"]
