"""What the site has besides docs/: the sample report, CONTRIBUTING and the changelog; and docstrings.

A page of the reference lists what its modules have, with links to their source, for who reads it as a
file. The site has the docstrings there instead: what the file keeps in a comment says which.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]

PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
ALONE = ("index.md", "tutorial.md")
FILES = (
    "reports/sample/report.html",
    "reports/sample/report.png",
    *(
        f"reports/experiments/{name}.html"
        for name in ("claims", "mnist", "continual", "cifar", "imagenet")
    ),
)

# In a page of the reference: the directive that is a comment elsewhere, and a line of the list.
DIRECTIVE = re.compile(r"^<!--\n(:::.*?)^-->$", re.MULTILINE | re.DOTALL)
LISTED = re.compile(r"^- \[`hyperverify/.*\n(?:  .*\n)*", re.MULTILINE)

LINK = re.compile(r"(\]\()([^)\s:#]+)(?=[)#])")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages and files that lie outside docs/."""
    for source, name in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=_moved(text, "")))
    for name in FILES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links that leave docs/ at the copies; a page that has no neighbours shows none."""
    if page.file.src_uri in ALONE:
        page.meta["hide"] = ["navigation"]
    if page.file.src_uri in PAGES.values():
        return markdown
    if page.file.src_uri.startswith("reference/"):
        markdown = DIRECTIVE.sub(r"\1", LISTED.sub("", markdown))
    return _moved(markdown, posixpath.join("docs", posixpath.dirname(page.file.src_uri)))


def _moved(text: str, folder: str) -> str:
    """Links as the site has them, in a page whose source lies in ``folder`` of the checkout."""
    here = posixpath.relpath(folder or ".", "docs") if folder else "."

    def link(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, found.group(2)))
        if target in PAGES:
            target = PAGES[target]
        elif target.startswith("docs/"):
            target = target.removeprefix("docs/")
        elif target not in FILES:
            return found.group()  # the strict build names it
        return found.group(1) + posixpath.relpath(target, here)

    return LINK.sub(link, text)
