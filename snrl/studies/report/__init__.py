"""A report of a folder of runs: a page, figures, tables and data."""

from snrl.studies.report.write import write_report

__all__ = ["write_report"]
