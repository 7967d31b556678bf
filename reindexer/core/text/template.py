"""How the text columns of a row become the one text that is embedded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from string import Formatter

from reindexer.core.errors import UsageError


def render_text(columns: Sequence[str], values: Sequence[str | None], template: str | None = None) -> str:
    """The text of one row; empty where all text columns are blank: then there is nothing to embed.

    Without a template, the columns that are not blank, a line each. In a template `{name}` stands for a column, `{{`
    and `}}` for braces; a NULL is nothing. Values are stripped. Lone surrogates (possible in text that came through
    JSON) can't be encoded for any provider: they become '?'.
    """
    stripped = [(value or "").strip() for value in values]
    if not any(stripped):
        return ""
    if template is None:
        text = "\n".join(filter(None, stripped))
    else:
        named = dict(zip(columns, stripped, strict=True))
        text = "".join(literal + (named[name] if name is not None else "") for literal, name in parse(template)).strip()
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def check_template(template: str, columns: Sequence[str]) -> None:
    """Raises UsageError where it is none, or does not use the text columns."""
    names = {name for _, name in parse(template) if name is not None}
    for name in sorted(names - set(columns)):
        raise UsageError(f"the template names {name!r}, which is not one of the text columns {', '.join(columns)}")
    for name in columns:
        if name not in names:
            raise UsageError(f"the template does not use the text column {name!r}; write {{{name}}} where it belongs")


@lru_cache(maxsize=256)
def parse(template: str) -> tuple[tuple[str, str | None], ...]:
    """Pieces: a literal, and the column that follows it. Raises UsageError where braces do not pair.

    Of Python's format language only the names: no attribute, index, conversion or format can be asked for.
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
