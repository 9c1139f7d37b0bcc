"""English that every Python carries: the sentences of its own manual and of the standard library's docstrings.

About 18,000; how many depends on Python's version. A text of another kind than captions and headlines, so that an encoder
which learns from both keeps more of the language.
"""

from __future__ import annotations

import ast
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

SHORTEST, LONGEST, PLAIN_SHARE = 5, 40, 0.8
"""Words that a sentence has; the share of them that are words of a language, not code."""
APART = frozenset({"site-packages", "dist-packages", "test", "tests"})
"""Folders of the library that are not part of it, or that nobody documents."""
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
WORD = re.compile(r"[\"'(]?[A-Za-z'-]+[.,;:!?)\"']*")


def manuals() -> list[str]:
    """Every sentence once, in alphabetical order."""
    return sorted({sentence for text in _texts() for sentence in _sentences(text)})


def _sentences(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split())):
            words = sentence.split()
            plain = sum(WORD.fullmatch(word) is not None for word in words)
            if SHORTEST <= len(words) <= LONGEST and plain >= PLAIN_SHARE * len(words):
                yield sentence


def _texts() -> Iterator[str]:
    from pydoc_data import topics

    yield from topics.topics.values()
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if APART.isdisjoint(path.relative_to(root).parts):
            yield from _docstrings(path)


def _docstrings(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # the library carries templates and files of other versions
    documented = (node for node in ast.walk(tree) if isinstance(node, DOCUMENTED))
    yield from filter(None, map(ast.get_docstring, documented))
