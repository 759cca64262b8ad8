"""A saved W&B workspace with the panels that matter, built with W&B's own client library."""

import logging
from typing import TYPE_CHECKING

from snrl.runs.errors import ConfigError
from snrl.studies.panels import Panel, sections

if TYPE_CHECKING:
    import wandb_workspaces.workspaces as ws

NAME = "snrl: values and stability"


def workspace(
    entity: str, project: str, name: str = NAME, group: str | None = None, task: str | None = None
) -> "ws.Workspace":
    """Build the workspace; nothing is sent.

    Runs are grouped by task, algorithm and W&B group, which a study sets to
    ``<study>/<variant>``; each group is a line with a band of its standard error over seeds.

    Args:
        entity: W&B user or team.
        project: W&B project.
        name: What the workspace is called there.
        group: Only runs whose W&B group begins with it, such as the name of a study.
        task: Only runs on this task; returns of several tasks share no axis.

    Returns:
        The workspace, with a section for each section of the panels.

    Raises:
        ConfigError: If ``wandb-workspaces`` is not installed.
    """
    try:
        import wandb_workspaces.expr as expr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise ConfigError(
            'a W&B workspace needs wandb-workspaces: pip install "snrl[dashboards]"'
        ) from error
    only: list[expr.FilterExpr] = []
    if task is not None:
        only.append(expr.Config("env") == task)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            ws.Section(
                name=title,
                panels=[_plot(panel) for panel in panels],
                is_open=place < 3,
                layout_settings=ws.SectionLayoutSettings(columns=3, rows=2),
            )
            for place, (title, panels) in enumerate(sections().items())
        ],
        settings=ws.WorkspaceSettings(
            x_axis="Step", max_runs=100, remove_legends_from_panels=False
        ),
        runset_settings=ws.RunsetSettings(
            query="" if group is None else group,
            groupby=[expr.Config("env"), expr.Config("algo"), expr.Metric("Group")],
            filters=only,
            order=[expr.Ordering(expr.Metric("Group"), ascending=True)],
        ),
    )
