"""What the extra ``studies`` installs, asked for before minutes are spent in vain."""

from importlib.util import find_spec

from snrl.runs.errors import ConfigError

REPORT = ("pandas", "pyarrow", "plotly", "jinja2", "matplotlib")


def check_installed(what: str, *libraries: str) -> None:
    """Refuse what needs libraries that are not installed.

    Args:
        what: What needs them, as the beginning of a sentence.
        libraries: By the names they are imported by.

    Raises:
        ConfigError: If one of them is missing.
    """
    if missing := [name for name in libraries if _is_missing(name)]:
        raise ConfigError(f'{what} needs {", ".join(missing)}: pip install "snrl[studies]"')


def _is_missing(name: str) -> bool:
    try:
        return find_spec(name) is None
    except ValueError:  # blocked: its entry in sys.modules is None
        return True
