"""Self-contained HTML pages: everything is inside the file, so they open offline."""

from __future__ import annotations

import base64
import io
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure


def render(template: str, **content: Any) -> str:
    """Fills a template of `lenvm/report/templates`; every value is escaped for HTML, and a missing one is an error."""
    environment = Environment(
        loader=PackageLoader("lenvm.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content)


def png_data_uri(figure: Figure) -> str:
    """A figure as `data:image/png;base64,...`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
