"""Run folders read into tidy tables, whoever wrote them: snrl, plain SB3 or RL Zoo."""

from snrl.studies.collect.parquet import write_parquet
from snrl.studies.collect.reading import collect
from snrl.studies.collect.table import Table

__all__ = ["Table", "collect", "write_parquet"]
