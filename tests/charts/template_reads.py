"""Which of the chart's values its templates look at: runs them on places in the values instead of on values.

Both sides of every condition are run, and a named template with whatever it is called on.
"""

from collections import ChainMap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.charts.template_syntax import Node, Operand, Pipe, parse

Place = tuple[str, ...]
"""Path in the values; ITEM stands for each of a list or a map."""
ITEM = "*"


@dataclass(frozen=True)
class Dict:
    """A map that a template made."""

    items: tuple[tuple[str, "Value"], ...]


@dataclass(frozen=True)
class List:
    """A list that a template made."""

    members: "Value"


Value = frozenset[Place | Dict | List]
"""All that an expression may be; empty for what does not come from the values."""
NOTHING: Value = frozenset()
STRUCTURAL = (
    *("and", "or", "not", "default", "coalesce", "ternary", "required"),
    *("merge", "mergeOverwrite", "deepCopy", "concat", "uniq", "compact", "first", "last", "reverse", "without"),
)
"""Functions whose result is one of their arguments, or has the same places in it."""


@dataclass
class Scope:
    """Where an action is run: what the dot, the dollar and the variables are."""

    dot: Value
    dollar: Value
    variables: ChainMap[str, Value] = field(default_factory=ChainMap)

    def inner(self, dot: Value | None = None) -> "Scope":
        return Scope(self.dot if dot is None else dot, self.dollar, self.variables.new_child())


class Reader:
    """Runs templates and notes what they read: place -> names of the files, or named templates, that do."""

    def __init__(self, folder: Path) -> None:
        self.reads: dict[Place, set[str]] = {}
        self._defines: dict[str, list[Node]] = {}
        self._called: set[tuple[str, Value]] = set()
        self._at = ""
        files = {path: parse(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.*"))}
        for nodes in files.values():
            for node in nodes:
                if node.kind == "define":
                    self._defines[node.pipe[0][0].says.strip('"')] = node.body
        root: Value = frozenset({Dict((("Values", frozenset({()})),))})
        for path, nodes in files.items():
            self._at = path.name
            self._run([node for node in nodes if node.kind != "define"], Scope(root, root))

    def _run(self, nodes: list[Node], scope: Scope) -> None:
        for node in nodes:
            value = self._pipe(node.pipe, scope)
            if node.kind in ("action", "if"):
                self._bind(node, value, scope)
            if node.kind in ("with", "range"):
                dot = item(value) if node.kind == "range" else value
                inside = scope.inner(dot)
                self._bind(node, dot, inside)
                self._run(node.body, inside)
                self._run(node.otherwise, scope.inner())
            elif node.kind == "if":
                self._run(node.body, scope.inner())
                self._run(node.otherwise, scope.inner())

    def _bind(self, node: Node, value: Value, scope: Scope) -> None:
        for name in node.variables[-1:]:  # of two, the first is an index or a key
            if node.declares:
                scope.variables[name] = value
            else:
                owner = next(each for each in scope.variables.maps if name in each)
                owner[name] |= value
        for name in node.variables[:-1]:
            scope.variables[name] = NOTHING

    def _pipe(self, pipe: Pipe, scope: Scope) -> Value:
        value: Value | None = None
        for command in pipe:
            value = self._command(command, scope, [] if value is None else [value])
        return NOTHING if value is None else value

    def _command(self, command: tuple[Operand, ...], scope: Scope, piped: list[Value]) -> Value:
        if not command:
            return NOTHING
        head, *rest = command
        if head.kind != "name" or head.says[0] in ".$":
            return self._operand(head, scope)
        arguments = [*(self._operand(each, scope) for each in rest), *piped]
        return self._function(head.says, rest, arguments, scope)

    def _operand(self, operand: Operand, scope: Scope) -> Value:
        if operand.kind == "bracket":
            return self._fields(self._pipe(operand.pipe, scope), operand.says)
        if operand.kind != "name":
            return NOTHING
        if operand.says[0] == ".":
            return self._fields(scope.dot, operand.says)
        name, dot, path = operand.says.partition(".")
        if name[0] != "$":
            return NOTHING  # a function without arguments, true, false, nil
        return self._fields(scope.dollar if name == "$" else scope.variables[name], dot + path)

    def _function(self, name: str, written: list[Operand], arguments: list[Value], scope: Scope) -> Value:
        if name == "dict":
            names = [each.says.strip('"') for each in written[::2]]
            return frozenset({Dict(tuple(zip(names, arguments[1::2], strict=True)))})
        if name in ("include", "template"):
            self._call(written[0].says.strip('"'), arguments[-1])
            return NOTHING
        if name in ("list", "append", "prepend"):
            first = NOTHING if name == "list" else item(arguments[0])
            return frozenset({List(first.union(*arguments[name != "list" :]))})
        if name in ("index", "get", "dig"):
            return self._index(written, arguments)
        return NOTHING.union(*arguments) if name in STRUCTURAL else NOTHING

    def _index(self, written: list[Operand], arguments: list[Value]) -> Value:
        value = arguments[0]
        for key in written[1:]:
            value = self._fields(value, "." + key.says.strip('"')) if key.kind == "text" else self._noted(item(value))
        return value

    def _call(self, name: str, context: Value) -> None:
        if (name, context) not in self._called:
            self._called.add((name, context))
            outside, self._at = self._at, name
            self._run(self._defines[name], Scope(context, context))
            self._at = outside

    def _fields(self, value: Value, path: str) -> Value:
        for name in [each for each in path.split(".") if each]:
            value = self._noted(frozenset().union(*(member(each, name) for each in value)))
        return value

    def _noted(self, value: Value) -> Value:
        for each in value:
            if isinstance(each, tuple):
                self.reads.setdefault(each, set()).add(self._at)
        return value


def member(each: Place | Dict | List, name: str) -> Value:
    """What a field is."""
    if isinstance(each, Dict):
        return dict(each.items).get(name, NOTHING)
    return frozenset({(*each, name)}) if isinstance(each, tuple) else NOTHING


def item(value: Value) -> Value:
    """What each of a list or map is."""
    found: Value = NOTHING
    for each in value:
        if isinstance(each, tuple):
            found |= {(*each, ITEM)}
        else:
            found |= each.members if isinstance(each, List) else NOTHING.union(*(inner for _, inner in each.items))
    return found


def is_documented(place: Place, schema: dict[str, Any], node: dict[str, Any] | None = None) -> bool:
    """Whether the values' schema has that place; below a map with free keys, or a free object, it has all."""
    node = schema if node is None else node
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].removeprefix("#/$defs/")]
    if not place:
        return True
    if "anyOf" in node:
        return any(is_documented(place, schema, each) for each in node["anyOf"])
    name, rest = place[0], place[1:]
    properties = node.get("properties", {})
    if name in properties:
        return is_documented(rest, schema, properties[name])
    if name == ITEM and properties:
        return any(is_documented(rest, schema, each) for each in properties.values())
    if name == ITEM and "items" in node:
        return is_documented(rest, schema, node["items"])
    free = [node.get("additionalProperties", True), *node.get("patternProperties", {}).values()]
    is_map = node.get("type") in ("object", ["object", "null"])
    return is_map and any(each is True or (each and is_documented(rest, schema, each)) for each in free)
