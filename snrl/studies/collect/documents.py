"""JSON and YAML documents of run folders, read without running anything they name."""

import json
from pathlib import Path
from typing import Any

import yaml

from snrl.studies.collect.record import Notices

_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _PlainLoader(_SafeLoader):  # type: ignore[misc]
    """A safe loader that takes Python's tags, as RL Zoo writes them, for the data they tag."""


def _plain(loader: Any, suffix: str, node: yaml.Node) -> Any:
    """Give the data of a node with a Python tag; nothing is imported or called.

    ``python/object/apply:collections.OrderedDict`` holds its arguments: a list with a list of
    pairs. An object with attributes becomes their mapping, a function or class its name.
    """
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        items = loader.construct_sequence(node, deep=True)
        if suffix.endswith(":collections.OrderedDict"):
            return dict(items[0]) if items else {}
        return items
    assert isinstance(node, yaml.ScalarNode)
    return loader.construct_scalar(node) or suffix.rpartition(":")[2]


_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", _plain)


def read_yaml(path: Path, notices: Notices) -> dict[str, Any]:
    """Read a mapping; an empty one if there is none, with a notice if it is damaged."""
    try:
        with path.open(encoding="utf-8") as file:
            # The loader is a SafeLoader.
            content = yaml.load(file, _PlainLoader)
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError, ValueError, TypeError):
        notices.say(path, "skipped, is damaged or no YAML")
        return {}
    return _mapping(path, content, notices)


def read_json(path: Path, notices: Notices) -> dict[str, Any]:
    """Read a mapping; an empty one if there is none, with a notice if it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        notices.say(path, "skipped, is damaged or no JSON")
        return {}
    return _mapping(path, content, notices)


def _mapping(path: Path, content: Any, notices: Notices) -> dict[str, Any]:
    if not isinstance(content, dict):
        notices.say(path, "skipped, is not a mapping of names to values")
        return {}
    return {str(name): value for name, value in content.items()}
