"""YAML files of plain values: read safely, with one clear line where they cannot be."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from snrl.runs.errors import ConfigError


class _TwiceError(yaml.MarkedYAMLError):
    """A key stands twice in a mapping."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, where YAML's last one would win unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            # Keys merged from an anchor are there to be overridden.
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    problem = f"the key {key.value} stands twice"
                    raise _TwiceError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_mapping(path: Path) -> Mapping[str, Any]:
    """Read a file that holds a mapping of names to plain values; an empty one is an empty mapping.

    Raises:
        ConfigError: If it cannot be read, or is no such mapping.
    """
    try:
        with path.open(encoding="utf-8") as file:
            content = yaml.load(file, _Loader)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        what = f": {error.problem}" if isinstance(error, _TwiceError) else " is not valid YAML"
        raise ConfigError(f"{path}{where}{what}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path} must be a mapping of names to values")
    return content
