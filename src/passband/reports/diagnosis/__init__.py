"""The report of a denoiser: at which noise level and frequency it is wrong, and what to try."""

from passband.reports.diagnosis.picture import monitor_picture, pixels_of
from passband.reports.diagnosis.report import diagnosis_report
from passband.reports.diagnosis.verdict import describe_diagnosis

__all__ = ["describe_diagnosis", "diagnosis_report", "monitor_picture", "pixels_of"]
