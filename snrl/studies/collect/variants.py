"""Names for the variants of runs that belong to no study: what sets their settings apart."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from snrl.studies.collect.record import Record

# They differ between runs of one variant, or change nothing of what is trained.
_NOT_A_VARIANT = frozenset(
    {
        *("algo", "env", "seed", "device", "values", "eval_freq", "n_eval_episodes"),
        # They are in the name of the critic.
        *("sn", "critic", "policy"),
    }
)


def name_variants(records: Iterable[Record]) -> None:
    """Name the variant of each record that has none.

    It is the critic, such as ``plain``, followed by the settings in which runs of the same task,
    algorithm and critic differ, such as ``sn sn_coef=2``.

    Args:
        records: Their ``variant`` is set.
    """
    groups: defaultdict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record.variant is None:
            groups[record.task, record.algo, record.critic].append(record)
    for (_, _, critic), group in groups.items():
        names = sorted({name for record in group for name in record.config} - _NOT_A_VARIANT)
        differing = [
            name for name in names if len({_shown(record.config, name) for record in group}) > 1
        ]
        for record in group:
            settings = [f"{name}={_shown(record.config, name)}" for name in differing]
            record.variant = " ".join([critic, *settings])


def _shown(config: Mapping[str, Any], name: str) -> str:
    return plain_text(config[name]) if name in config else "default"


def plain_text(value: Any) -> str:
    """A setting in a few characters, the same for equal settings: JSON without its spaces."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), sort_keys=True, default=str)
