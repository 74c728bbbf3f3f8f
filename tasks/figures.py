"""What every task's pictures have in common: a figure of matplotlib becomes the bytes of a file."""

import io
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # matplotlib takes a second to import
    from matplotlib.figure import Figure


def as_png(figure: "Figure") -> bytes:
    """Renders a figure as PNG; a letter that the font lacks is drawn as a box."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(content, format="png", dpi=120)
    return content.getvalue()
