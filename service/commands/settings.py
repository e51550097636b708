"""`anabranch settings`: every setting, its value and what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.table import Table

from anabranch.settings import Section
from service.settings import DEFAULT_STATE, PREFIX, load_settings


def settings(
    *,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
) -> None:
    """List every setting with the value it has here. Secrets are shown as stars."""
    table = Table("variable", "value", "meaning", box=None, pad_edge=False)
    for variable, field, value in rows(load_settings(state=state)):
        table.add_row(variable, "" if value is None else str(value), field.description or "")
    console = Console()
    # Piped output must not be folded to the width of a terminal that is not there.
    console.width = console.width if console.is_terminal else 400
    console.print(table)


def rows(section: BaseModel, prefix: str = PREFIX) -> list[tuple[str, FieldInfo, object]]:
    found: list[tuple[str, FieldInfo, object]] = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            found += rows(value, f"{prefix}{name.upper()}__")
        else:
            found.append((f"{prefix}{name.upper()}", field, value))
    return found
