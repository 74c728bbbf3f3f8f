"""HTML that cannot be broken by what it shows: every text is escaped, but that which was made here."""

import html
import json
from typing import Any


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, /, *content: str | None, **attributes: object) -> Markup:
    """An element with its contents.

    Args:
        name: The element's name.
        content: Texts, which are escaped, and `Markup`, which is not; None is left out.
        attributes: By name, with `_` for `-` and without one at the end; None and False are left out, True has no value.

    >>> element("td", "a < b", class_="number", data_value=None)
    '<td class="number">a &lt; b</td>'
    """
    said = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{said}>{join(content)}</{name}>")


def join(parts: Any) -> Markup:
    """Parts after each other, texts escaped."""
    return Markup(
        "".join(part if isinstance(part, Markup) else html.escape(part) for part in parts if part is not None)
    )


def as_script(data: object) -> Markup:
    """JSON that may stand in a script element: nothing in it can end the element or open a comment."""
    text = json.dumps(data, allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)
