"""Docstrings as the site takes them: Sphinx's roles become links, and prose is no Markdown by accident."""

from __future__ import annotations

import re
from typing import Any

from griffe import AliasResolutionError, Extension, NameResolutionError

ROLE = re.compile(r":(?:class|func|mod|meth|data|attr|exc):`(~?)([\w.]+)`")
CODE = re.compile(r"(``.*?``|`[^`]*`|<autoref.*?</autoref>)", re.DOTALL)
# A star, or the stars of an argument that is described.
STAR = re.compile(r"^( *\*{1,2})(?=\w+: )|\*", re.MULTILINE)
EMPHASIS = re.compile(r"(?<![\w*])\*[^\s*](?:[^*\n]*[^\s*])?\*(?![\w*])")


def plain(prose: str) -> str:
    """``W[i][j]``, ``(R, *shape)`` and ``<name>`` as they stand, outside of code."""
    kept: list[str] = []
    end = 0
    for found in EMPHASIS.finditer(prose):
        kept += [_escaped(prose[end : found.start()]), found.group()]
        end = found.end()
    return "".join([*kept, _escaped(prose[end:])])


def _escaped(prose: str) -> str:
    def star(found: re.Match[str]) -> str:
        return found.group() if found.group(1) else r"\*"

    return STAR.sub(star, prose.replace("][", r"]\[").replace("<", "&lt;"))


class Roles(Extension):
    """Rewrites the docstring of every object."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Rewrite one docstring, once the whole package is read."""
        if obj.is_alias or obj.docstring is None:
            return

        def link(found: re.Match[str]) -> str:
            name = found.group(2)
            shown = name.rpartition(".")[2] if found.group(1) else name
            try:
                target = obj.resolve(name)
            except (NameResolutionError, AliasResolutionError, KeyError):
                target = name
            return f'<autoref identifier="{target}" optional><code>{shown}</code></autoref>'

        parts = CODE.split(ROLE.sub(link, obj.docstring.value))
        parts[::2] = map(plain, parts[::2])
        obj.docstring.value = "".join(parts)
