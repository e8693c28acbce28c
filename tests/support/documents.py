"""The documents of this repository, and the commands and manifests that stand in them."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
_FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"^[ \t]*```(.*)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


class Block(NamedTuple):
    """One fenced block of a document."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def documents() -> list[Path]:
    """Return every page."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


def blocks(*languages: str) -> list[Block]:
    """Return the fenced blocks of all pages in some languages."""
    return [
        Block(str(page.relative_to(ROOT)), text[: found.start()].count("\n") + 1, found[1], found[2])
        for page in documents()
        for text in [page.read_text()]
        for found in _FENCE.finditer(text)
        if found[1] in languages
    ]


def fences(page: Path) -> list[str]:
    """Return what stands behind each fence of a page, opening and closing ones in turn."""
    return [mark.strip() for mark in _MARK.findall(page.read_text())]


def links(page: Path) -> list[str]:
    """Return the relative links of a page."""
    return [target for target, _ in _LINK.findall(page.read_text()) if "://" not in target]
