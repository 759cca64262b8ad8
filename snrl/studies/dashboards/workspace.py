"""A saved W&B workspace with the panels that matter, built with W&B's own client library."""

from typing import TYPE_CHECKING

from snrl.runs.errors import ConfigError
from snrl.studies.panels import Panel, sections

if TYPE_CHECKING:
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces.reports.v2.interface import LinePlot

NAME = "Values and stability"
# Runs that a plot may draw; W&B's own limit of 10 would leave most of a study out.
_MAX_RUNS = 100
# What is shown opened; the rest is there, folded.
_OPEN = 3
_SECONDS = 10


def workspace(
    entity: str, project: str, name: str = NAME, study: str | None = None, task: str | None = None
) -> "ws.Workspace":
    """Build the workspace; nothing is sent.

    Runs are grouped by task, algorithm and W&B group, which a study sets to
    ``<study>/<task>/<algorithm>/<variant>``; each is a line with a band of one standard error over
    its seeds.

    Args:
        entity: W&B user or team.
        project: W&B project.
        name: What the workspace is called there.
        study: Only runs with this tag.
        task: Only runs on this task: returns of several tasks share no axis.

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
    only = []
    if study is not None:
        only.append(expr.Tags().isin([study]))
    if task is not None:
        only.append(expr.Config("env") == task)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            ws.Section(
                name=title,
                panels=[_plot(panel, measure) for panel in panels for measure in panel.measures],
                is_open=place < _OPEN,
            )
            for place, (title, panels) in enumerate(sections().items())
        ],
        settings=ws.WorkspaceSettings(max_runs=_MAX_RUNS),
        runset_settings=ws.RunsetSettings(
            groupby=[expr.Config("env"), expr.Config("algo"), expr.Metric("Group")],
            filters=expr.And(*only) if only else "",
        ),
    )


def save(
    project: str,
    entity: str | None = None,
    name: str = NAME,
    study: str | None = None,
    task: str | None = None,
) -> str:
    """Build the workspace and save it in the project, as a new view.

    Args:
        project: W&B project.
        entity: W&B user or team; None for that of the one who is logged in.
        name: See :func:`workspace`.
        study: See :func:`workspace`.
        task: See :func:`workspace`.

    Returns:
        Its address.

    Raises:
        ConfigError: If nobody is logged in, W&B cannot be reached or it refuses.
    """
    built = workspace(entity or "", project, name, study, task)
    import wandb

    try:
        # It would ask for a key on a terminal.
        if not wandb.login(prompt=False, verify=False):
            raise ConfigError("not logged in to W&B: run `wandb login` first")
        if entity is None:
            built.entity = str(wandb.Api(timeout=_SECONDS).default_entity)
        saved: ws.Workspace = built.save()  # type: ignore[no-untyped-call]
        return str(saved.url)
    except ConfigError:
        raise
    except Exception as error:
        # wandb, its transport and pydantic each raise their own kinds.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"W&B did not save the workspace: {reason}") from error


def _plot(panel: Panel, measure: str) -> "LinePlot":
    from wandb_workspaces.reports.v2.interface import LinePlot

    first = measure == panel.measures[0]
    return LinePlot(
        title=panel.title if first else measure,
        x="Step",
        y=[measure],
        title_x="environment steps",
        title_y=panel.label if first else measure,
        log_y=(panel.log and first) or None,
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
        max_runs_to_show=_MAX_RUNS,
    )
