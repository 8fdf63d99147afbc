"""Monthly budgets, as the operator has set them."""

from collections.abc import Collection, Mapping
from decimal import Decimal

from exporter.model import Workspace


def unknown_workspaces(budgets: Mapping[str, Decimal], workspaces: Collection[Workspace]) -> str:
    """Say which budgets are for a workspace that is not among ``workspaces``, and which there are; '' if none is."""
    known = {workspace.id for workspace in workspaces}
    unknown = sorted(budgets.keys() - known) if known else []
    if not unknown:
        return ""
    names = ", ".join(f"{workspace.id} ({workspace.name})" for workspace in workspaces if workspace.state == "active")
    return f"budget.workspaces has {', '.join(unknown)}, which this organisation has not; its workspaces are {names}"
