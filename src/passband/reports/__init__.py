"""Figures and self-contained HTML pages."""

from passband.reports.audio_compare import audio_compare_report, long_term_sections, measure_sections
from passband.reports.audio_figures import (
    band_difference_figure,
    long_term_figure,
    spectrogram,
    spectrogram_figure,
)
from passband.reports.audio_results import FrechetComparison, MeasuredClips, audio_numbers
from passband.reports.audio_spectra import LongTermComparison, LongTermSets
from passband.reports.audio_verdict import BandDeviation, band_deviations, describe_audio, muffling
from passband.reports.compare import compare_report, comparison_numbers, describe
from passband.reports.figures import (
    curve_figure,
    difference_figure,
    image_grid,
    image_mosaic,
    psd_figure,
    ratio_figure,
    to_png,
    to_png_data_uri,
    to_svg,
)
from passband.reports.front import FrontReport, front_numbers, front_sections, recipe_line
from passband.reports.front_figures import front_plane_figure, passed_power_figure
from passband.reports.inspection import inspection_numbers, inspection_report
from passband.reports.inspection_sections import Inspected
from passband.reports.listening import ListeningClip, ListeningRow, encode_audio, listening_page, listening_section
from passband.reports.page import (
    Audio,
    Code,
    Columns,
    Figure,
    Number,
    Numbers,
    Page,
    Section,
    Table,
    Text,
    current_command,
    data_uri,
    installed_versions,
    render_page,
    write_file,
    write_page,
)

__all__ = [
    "muffling",
    "describe_audio",
    "band_deviations",
    "BandDeviation",
    "LongTermSets",
    "LongTermComparison",
    "audio_numbers",
    "MeasuredClips",
    "FrechetComparison",
    "measure_sections",
    "long_term_sections",
    "audio_compare_report",
    "spectrogram_figure",
    "spectrogram",
    "long_term_figure",
    "listening_section",
    "listening_page",
    "encode_audio",
    "band_difference_figure",
    "ListeningRow",
    "ListeningClip",
    "Audio",
    "Code",
    "Columns",
    "Figure",
    "FrontReport",
    "Inspected",
    "Number",
    "Numbers",
    "Page",
    "Section",
    "Table",
    "Text",
    "compare_report",
    "comparison_numbers",
    "current_command",
    "curve_figure",
    "data_uri",
    "describe",
    "difference_figure",
    "front_numbers",
    "front_plane_figure",
    "front_sections",
    "image_grid",
    "image_mosaic",
    "inspection_numbers",
    "inspection_report",
    "installed_versions",
    "passed_power_figure",
    "psd_figure",
    "ratio_figure",
    "recipe_line",
    "render_page",
    "to_png",
    "to_png_data_uri",
    "to_svg",
    "write_file",
    "write_page",
]
