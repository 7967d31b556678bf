"""How the text columns of a row become the one text that is embedded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from string import Formatter

from reindexer.core.errors import UsageError


def render_text(columns: Sequence[str], values: Sequence[str | None], template: str | None = None) -> str:
    """Return the text of one row. Empty if all text columns are blank: there is then nothing to embed.

    Without a template, the text has one line per column that is not blank. In a template, `{name}` stands for a column,
    `{{` and `}}` for braces, and NULL is empty. Values are stripped. Lone surrogates (possible in text that came
    through JSON) can't be encoded for any provider, so they become '?'.
    """
    stripped = [(value or "").strip() for value in values]
    if not any(stripped):
        return ""
    if template is None:
        text = "\n".join(filter(None, stripped))
    else:
        named = dict(zip(columns, stripped, strict=True))
        text = "".join(literal + (named[name] if name is not None else "") for literal, name in parse(template)).strip()
    return _encodable(text)


def values_of(wanted: Sequence[str], columns: Sequence[str], values: Sequence[str | None]) -> dict[str, str]:
    """Return the values of the wanted columns by name, as texts are made of them."""
    named = dict(zip(columns, values, strict=True))
    return {name: _encodable((named[name] or "").strip()) for name in wanted}


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def check_template(template: str, columns: Sequence[str], elsewhere: Sequence[str] = ()) -> None:
    """Raises UsageError if the template is invalid, or does not use exactly the text columns.

    Columns that are used `elsewhere` may be missing from it.
    """
    names = {name for _, name in parse(template) if name is not None}
    for name in sorted(names - set(columns)):
        raise UsageError(f"the template names {name!r}, which is not one of the text columns {', '.join(columns)}")
    for name in columns:
        if name not in names and name not in elsewhere:
            raise UsageError(f"the template does not use the text column {name!r}; write {{{name}}} where it belongs")


@lru_cache(maxsize=256)
def parse(template: str) -> tuple[tuple[str, str | None], ...]:
    """Parse a template into pieces: a literal, and the column that follows it. Raises UsageError for unbalanced braces.

    Only names of Python's format language are allowed: no attribute, index, conversion or format.
    """
    pieces: list[tuple[str, str | None]] = []
    try:
        for literal, name, spec, conversion in Formatter().parse(template):
            if spec or conversion:
                raise UsageError(f"the template formats {name!r}; only names of columns may stand in braces")
            if name == "":
                raise UsageError("the template holds {}; write the name of a column into the braces, {{}} for braces")
            pieces.append((literal, name))
    except ValueError as exc:
        raise UsageError(f"the template can't be read: {exc}") from None
    return tuple(pieces)
