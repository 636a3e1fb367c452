"""Reads Go templates as far as is needed to know which values they look at: blocks, pipelines, operands."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

STRING = r'"(?:[^"\\]|\\.)*"|`[^`]*`'
ACTION = re.compile(rf"\{{\{{-?\s*(/\*.*?\*/|(?:{STRING}|.)*?)\s*-?\}}\}}", re.DOTALL)
TOKEN = re.compile(
    rf"\s*(?:(?P<text>{STRING})|(?P<mark>:=|[()|,=])|(?P<number>-?\d[\w.]*)"
    r"|(?P<name>\$?\w+(?:\.\w+)*|\$(?:\.\w+)*|(?:\.\w+)+|\.))"
)
BLOCKS = ("if", "with", "range", "define", "block")


@dataclass(frozen=True)
class Operand:
    """A text, number, name or bracket; a bracket holds a pipe, and `says` are the fields behind it."""

    kind: str
    says: str
    pipe: "Pipe" = ()


Pipe = tuple[tuple[Operand, ...], ...]
"""Commands, each of which gets the result of the one before it as its last argument."""


@dataclass
class Node:
    """An action or a block; `variables` are given the pipe's result."""

    kind: str
    variables: tuple[str, ...] = ()
    declares: bool = False
    pipe: Pipe = ()
    body: list["Node"] = field(default_factory=list)
    otherwise: list["Node"] = field(default_factory=list)


def parse(text: str) -> list[Node]:
    """The template's actions with their blocks; raises ValueError for what is not understood."""
    actions = (match[1] for match in ACTION.finditer(text) if not match[1].startswith("/*"))
    nodes, last = _block(actions)
    if last:
        raise ValueError(f"{last!r} without a block")
    return nodes


def _block(actions: Iterator[str]) -> tuple[list[Node], str]:
    nodes = []
    for words in actions:
        if re.match(r"(end|else)\b", words):
            return nodes, words
        nodes.append(_statement(words, actions))
    return nodes, ""


def _statement(words: str, actions: Iterator[str]) -> Node:
    keyword, _, rest = words.partition(" ")
    if keyword not in BLOCKS:
        return _node("action", words)
    node = _node(keyword, rest)
    node.body, last = _block(actions)
    following = last.removeprefix("else").strip()
    if last.startswith("else") and following:
        node.otherwise = [_statement(following, actions)]  # which takes the common end
    elif last.startswith("else"):
        node.otherwise, _ = _block(actions)
    return node


def _node(kind: str, words: str) -> Node:
    tokens = list(_tokens(words))
    marks = [value for name, value in tokens if name == "mark" and value in (":=", "=")]
    if not marks:
        return Node(kind, pipe=_pipe(iter(tokens)))
    place = tokens.index(("mark", marks[0]))
    variables = tuple(value for name, value in tokens[:place] if name == "name")
    return Node(kind, variables, marks[0] == ":=", _pipe(iter(tokens[place + 1 :])))


def _tokens(words: str) -> Iterator[tuple[str, str]]:
    position = 0
    while words[position:].strip():
        match = TOKEN.match(words, position)
        if match is None:
            raise ValueError(f"not understood: {words[position:]!r} in {words!r}")
        kind = str(match.lastgroup)
        # Fields of a bracket stand right behind it.
        behind = (
            kind == "name"
            and match[kind].startswith(".")
            and words[:position].endswith(")")
            and match.start(kind) == position
        )
        yield ("fields" if behind else kind), match[kind]
        position = match.end()


def _pipe(tokens: Iterator[tuple[str, str]]) -> Pipe:
    commands: list[tuple[Operand, ...]] = []
    command: list[Operand] = []
    for kind, value in tokens:
        if value == ")" and kind == "mark":
            break
        if value == "|" and kind == "mark":
            commands.append(tuple(command))
            command = []
        elif value == "(" and kind == "mark":
            command.append(Operand("bracket", "", _pipe(tokens)))
        elif kind == "fields":
            command[-1] = Operand("bracket", value, command[-1].pipe)
        else:
            command.append(Operand(kind, value))
    return (*commands, tuple(command))
