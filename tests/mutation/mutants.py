"""Every mutant of a source file, by the operators of mutmut: what to change, where, and its name.

``mutmut run`` leaves out the module level, decorated functions and whatever runs at import, and in
formulas.py that is the table of rules itself. So only the operators are mutmut's; here they are put
to every expression and statement of a file but those that no run can tell apart (see ``_aside``).
"""

from __future__ import annotations

import ast
import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import libcst as cst
from libcst import matchers as m
from libcst.metadata import CodeRange, MetadataWrapper, WhitespaceInclusivePositionProvider
from mutation_score import Key
from mutmut.mutation.mutators import mutation_operators


@dataclass(frozen=True)
class Mutant:
    """One mutated file.

    Args:
        key: its name, which holds as long as the lines it changes stand in the same function.
        source: the whole file, mutated.
        lines: first and last line of the original that it touches, counted from 1.
    """

    key: Key
    source: str
    lines: tuple[int, int]


def mutants_of(module: str, source: str) -> list[Mutant]:
    """Every mutant of a module, in the order of the source, no two of them alike.

    Args:
        module: its name in keys, e.g. ``formulas``.
        source: its text.
    """
    finder = _Finder()
    MetadataWrapper(cst.parse_module(source)).visit(finder)
    starts = _line_starts(source)
    blank = cst.Module([])
    original = ast.dump(ast.parse(source))
    seen, times, found = {original}, Counter[Key](), list[Mutant]()
    for function, span, node in finder.found:
        begin = starts[span.start.line - 1] + span.start.column
        end = starts[span.end.line - 1] + span.end.column
        mutated = source[:begin] + blank.code_for_node(node) + source[end:]
        meaning = ast.dump(ast.parse(mutated))
        if meaning in seen:
            continue
        seen.add(meaning)
        before, after = changed_lines(source, mutated)
        key = Key(module, function, before, after)
        times[key] += 1
        lines = (span.start.line, span.end.line)
        found.append(Mutant(replace(key, nth=times[key]), mutated, lines))
    return found


def changed_lines(before: str, after: str) -> tuple[str, str]:
    """The lines that differ, without indentation, joined by line breaks: the old and the new."""
    old, new = ([line.strip() for line in text.splitlines()] for text in (before, after))
    gone, come = list[str](), list[str]()
    for tag, i, j, k, n in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            gone += old[i:j]
            come += new[k:n]
    return "\n".join(gone), "\n".join(come)


def _line_starts(source: str) -> list[int]:
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


class _Finder(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (WhitespaceInclusivePositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, CodeRange, cst.CSTNode]] = []
        self._scope: list[str] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if _aside(node):
            return False
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self._scope.append(node.name.value)
        for mutated in _mutations(node):
            span = self.get_metadata(WhitespaceInclusivePositionProvider, node)
            self.found.append((".".join(self._scope) or "<module>", span, mutated))
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.FunctionDef | cst.ClassDef) and not _aside(original_node):
            self._scope.pop()


def _mutations(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for kind, operator in mutation_operators:
        if isinstance(node, kind):
            yield from operator(node)


_TYPE_LEVEL: Sequence[m.BaseMatcherNode] = (
    m.Annotation(),
    m.AnnAssign(annotation=m.Annotation(m.Name("TypeAlias"))),
    m.Assign(value=m.Call(func=m.Name("TypeVar"))),
    m.Call(func=m.Name("cast")),
    m.If(test=m.Name("TYPE_CHECKING")),
)
_NAMES: Sequence[m.BaseMatcherNode] = (
    m.Import(),
    m.ImportFrom(),
    m.Assign(targets=[m.AssignTarget(m.Name("__all__"))]),
)
# As in mutmut: a decorator says how a function is kept or found, and a mutated one seldom imports.
_AS_IN_MUTMUT: Sequence[m.BaseMatcherNode] = (
    m.Decorator(),
    m.Call(func=m.Name("len") | m.Name("isinstance")),
)


def _aside(node: cst.CSTNode) -> bool:
    """Whether a node and all in it are left alone: only types and linters could tell."""
    return any(m.matches(node, left) for left in (*_TYPE_LEVEL, *_NAMES, *_AS_IN_MUTMUT))
