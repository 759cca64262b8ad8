from collections import Counter
from pathlib import Path

from snrl.values.keys import KEYS, markdown_table

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_table_of_the_readme_is_the_registrys() -> None:
    assert markdown_table() in README


def test_every_key_is_explained_once_and_wholly() -> None:
    counts = Counter(name for key in KEYS for name in key.names)
    assert set(counts.values()) == {1}
    for key in KEYS:
        assert all((key.formula, key.unit, key.source, key.healthy, key.remedy))
        assert "|" not in "".join((key.formula, key.unit, key.source, key.healthy, key.remedy))
