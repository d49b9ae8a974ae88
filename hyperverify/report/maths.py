"""LaTeX to MathML while the report is built, so that no script has to run to read a formula.

The LaTeX may come from a file that someone altered. So the element tree of ``latex2mathml`` is
serialized here (its own ``convert`` unescapes what it has escaped), only elements and attributes of
presentation MathML pass, and macros, which could grow without bound, are not expanded.
"""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET
from functools import lru_cache
from typing import Final

from markupsafe import Markup, escape

from hyperverify.store import printable

MAX_LENGTH: Final = 2000
_MACROS: Final = re.compile(r"\\(def|newcommand|renewcommand|let|href|class|style)\b")
_TAGS: Final = frozenset(
    {"math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot"}
    | {"msub", "msup", "msubsup", "munder", "mover", "munderover"}
    | {"mtable", "mtr", "mtd", "mpadded", "mstyle", "mphantom", "menclose"}
)
_ATTRIBUTES: Final = frozenset(
    {"mathvariant", "fence", "stretchy", "form", "separator", "width", "height", "depth"}
    | {"lspace", "rspace", "columnalign", "accent", "accentunder", "displaystyle", "scriptlevel"}
    | {"movablelimits", "linethickness", "minsize", "maxsize"}
)


@lru_cache(maxsize=4096)
def mathml(latex: str) -> Markup:
    """MathML of a formula, or the LaTeX itself as code where it cannot be translated.

    Args:
        latex: the formula without dollar signs.

    Returns:
        Safe markup; empty for an empty formula.
    """
    if not latex.strip():
        return Markup("")
    element = _translate(latex)
    if element is None:
        return Markup('<code class="tex">{}</code>').format(escape(printable(latex)))
    element.attrib.clear()
    return Markup(ET.tostring(element, encoding="unicode"))  # noqa: S704 - a checked tree


def _translate(latex: str) -> ET.Element | None:
    from latex2mathml.converter import (  # only a report needs it
        convert_to_element,
    )

    if len(latex) > MAX_LENGTH or _MACROS.search(latex) or printable(latex) != latex:
        return None
    try:
        root = convert_to_element(latex)
    except Exception:  # noqa: BLE001 - whatever the translator trips over, the LaTeX can be shown
        return None
    for element in root.iter():
        if element.tag not in _TAGS:
            return None
        for name in list(element.attrib):
            if name not in _ATTRIBUTES:
                del element.attrib[name]
        # The translator leaves character references as text, to be unescaped after serializing.
        element.text = html.unescape(element.text) if element.text else None
        element.tail = html.unescape(element.tail) if element.tail else None
    _simplify(root)
    return root


def _simplify(parent: ET.Element) -> None:
    """Drop rows of one element and join the letters of an upright name: it halves the markup."""
    for place, child in enumerate(parent):
        _simplify(child)
        if child.tag == "mrow" and len(child) == 1 and not child.attrib:
            parent[place] = child[0]
    joined: ET.Element | None = None
    for child in list(parent):
        upright = child.tag == "mi" and child.get("mathvariant") == "normal"
        if upright and joined is not None and parent.tag == "mrow":
            joined.text = (joined.text or "") + (child.text or "")
            parent.remove(child)
        else:
            joined = child if upright else None
    for child in parent:
        if child.get("mathvariant") == "normal" and len(child.text or "") > 1:
            del child.attrib["mathvariant"]  # a name of several letters is upright by itself
    if len(parent) == 1 and parent[0].tag == "mrow" and not parent[0].attrib:
        parent[:] = list(parent[0])
