"""What a checkpoint may hold before anything of it is loaded: no code, no names of code elsewhere, no endless template.

transformers reads a folder as its configuration asks: attention kernels of the hub, classes in Python files, shards by
any path, templates that compute. Whoever gives a checkpoint away writes that configuration.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from medr1.doors import MIB, Most, check_file, clean, resolve_inside
from medr1.errors import DataError, ModelError
from medr1.records import read_json

CONFIGURATIONS = ("*config.json", "chat_template.json", "model_index.json")
INDEX = "*.safetensors.index.json"
CODE = ("auto_map", "custom_pipelines", "trust_remote_code", "kernel_config", "use_kernels")
"""Keys whose value asks for classes or kernels that only code from elsewhere has."""
IMPLEMENTATION = "_implementation"
"""End of the keys that name how something is computed (`_attn_implementation`): by a word, never by `owner/name`."""
SIZES = ("num_hidden_layers", "depth", "vocab_size", "hidden_size", "intermediate_size", "embed_dim", "out_hidden_size")


def check_checkpoint(folder: Path) -> None:
    """Raise `ModelError` for what is not loaded of a folder with a checkpoint or an adapter; nothing is loaded here."""
    try:
        for file in sorted(folder.glob("*")):
            if file.name.endswith((".json", ".jinja", ".safetensors", ".txt")):
                resolve_inside(folder, file.name)
                size = check_file(file)
                if size > Most.CONFIG_BYTES and not file.name.endswith(".safetensors"):
                    raise ModelError(f"{file} is larger than {Most.CONFIG_BYTES // MIB} MiB; copy the checkpoint again")
        for pattern in CONFIGURATIONS:
            for file in folder.glob(pattern):
                _check_configuration(read_json(file), file)
        for file in folder.glob(INDEX):
            _check_index(read_json(file), folder, file)
        for file in folder.glob("*.jinja"):
            _check_template(file.read_text(encoding="utf-8"), file)
    except (DataError, OSError, UnicodeDecodeError) as error:
        raise ModelError(str(error)) from error


def _check_configuration(value: Any, file: Path) -> None:
    for key, found in _items(value):
        if key in CODE and found:
            raise ModelError(f"{file} asks for code from elsewhere ({key}), which is not run; remove {key}")
        names = found.values() if isinstance(found, dict) else [found]
        if key.endswith(IMPLEMENTATION) and any(name and not str(name).isidentifier() for name in names):
            raise ModelError(
                f"{file} names {clean(str(found))[:100]!r} as {key}, which is fetched from a hub; remove {key}"
            )
        if key in SIZES and isinstance(found, int) and not 0 <= found <= Most.MODEL_SIZE:
            raise ModelError(f"{file}: {key} is {found}, which no checkpoint has; copy the checkpoint again")
        if key == "chat_template" and isinstance(found, str):
            _check_template(found, file)


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """Keys and values of an object, and of what is in it."""
    if isinstance(value, dict):
        yield from value.items()
        if "name" in value and "template" in value:  # templates by name, of older tokenizers
            yield "chat_template", value["template"]
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _items(inner)


def _check_index(value: Any, folder: Path, file: Path) -> None:
    shards = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise ModelError(f"{file} maps no weights to files; copy the checkpoint again")
    for name in sorted(set(shards.values())):
        if "/" in name or not name.endswith(".safetensors"):
            raise ModelError(f"{file} names {clean(name)[:100]!r}, which is no safetensors file of the folder")
        check_file(resolve_inside(folder, name))


# --- Chat templates -------------------------------------------------------------------------------------------------


FILTERS = frozenset(
    [
        "tojson",
        "trim",
        "length",
        "count",
        "items",
        "string",
        "safe",
        "default",
        "d",
        "lower",
        "upper",
        "title",
        "capitalize",
        "first",
        "last",
        "list",
        "map",
        "select",
        "selectattr",
        "reject",
        "rejectattr",
        "reverse",
        "dictsort",
        "join",
        "int",
        "abs",
        "e",
        "escape",
    ]
)
METHODS = frozenset(
    [
        "startswith",
        "endswith",
        "lstrip",
        "rstrip",
        "strip",
        "split",
        "items",
        "keys",
        "values",
        "get",
        "lower",
        "upper",
        "title",
    ]
)
FUNCTIONS = frozenset({"namespace", "dict", "range", "raise_exception", "strftime_now"})
"""What templates call, those of all published families among them. Others could make long texts of short ones."""
LOOPS = 4
"""Loops in loops: messages, their parts, and what is in these."""
MACRO_CALLS = 1000
"""Calls that one call of a macro may lead to."""


class _Generation(Extension):
    """The tags by which transformers learns what an assistant wrote."""

    tags = frozenset({"generation"})  # pyright: ignore[reportAssignmentType]

    def parse(self, parser: Any) -> nodes.Node:
        next(parser.stream)
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True))


def _check_template(text: str, file: Path) -> None:
    """Raise `ModelError` for a template that could compute for long or without bound, told from its text.

    A template puts messages together: it goes through them and their parts, counts, and adds texts. Products, padding,
    large ranges and macros that call themselves have no place in it.
    """
    if len(text) > Most.TEMPLATE_CHARS:
        raise ModelError(f"{file}: the chat template has more than {Most.TEMPLATE_CHARS:,} characters; replace it")
    try:
        tree = ImmutableSandboxedEnvironment(extensions=[_Generation, loopcontrols]).parse(text)
        reason = _unbounded(tree)
    except (TemplateSyntaxError, RecursionError) as error:
        raise ModelError(
            f"{file}: the chat template is none ({str(error)[:100]}); copy the checkpoint again"
        ) from error
    if reason:
        raise ModelError(f"{file}: the chat template {reason}, which may never end; replace it by that of the base")


def _unbounded(tree: nodes.Template) -> str | None:
    """What a template does that could take without bound; None for one that puts messages together."""
    macros = {macro.name: macro for macro in tree.find_all(nodes.Macro)}
    strange = [node.name for node in tree.find_all(nodes.Filter) if node.name not in FILTERS]
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Getattr):
            strange += [call.node.attr] if call.node.attr not in METHODS else []
        elif not isinstance(call.node, nodes.Name) or call.node.name not in FUNCTIONS | macros.keys():
            strange.append(getattr(call.node, "name", "a loop"))
        elif call.node.name == "range" and any(
            isinstance(found.value, int) and abs(found.value) > Most.TEMPLATE_RANGE
            for found in call.find_all(nodes.Const)
        ):
            return "counts far"
    if strange:
        return f"calls {clean(strange[0])[:40]!r}"
    if next(tree.find_all((nodes.Mul, nodes.Pow)), None) is not None:
        return "multiplies"
    if not all(_is_number(found.left) for found in tree.find_all(nodes.Mod)) or _names_a_loop(tree):
        return "may pad a text"
    if any(_doubles(assigned) for assigned in tree.find_all(nodes.Assign)):
        return "doubles a text"
    if _depth(tree) > LOOPS:
        return f"has more than {LOOPS} loops in one another"
    if any(_calls(name, macros, ()) > MACRO_CALLS for name in macros):
        return "calls itself"
    return None


def _is_number(node: nodes.Node) -> bool:
    """Whether this is a number for certain: `%` behind a text would pad it."""
    if isinstance(node, nodes.Getattr):  # loop.index0 % 2: whose turn it is
        return isinstance(node.node, nodes.Name) and node.node.name == "loop" and node.attr.startswith("index")
    return isinstance(node, nodes.Filter) and node.name in ("length", "count", "int")


def _names_a_loop(tree: nodes.Template) -> bool:
    """Whether something else than a loop is called `loop`."""
    return any(name.name == "loop" and name.ctx != "load" for name in tree.find_all(nodes.Name))


def _doubles(assigned: nodes.Assign) -> bool:
    """Whether the old value is added to itself: in a loop a text would double each time."""
    target = assigned.target
    kind, own = (nodes.Getattr, target.attr) if isinstance(target, nodes.NSRef) else (nodes.Name, None)
    own = target.name if isinstance(target, nodes.Name) else own
    return any(
        sum(own in (getattr(found, "name", None), getattr(found, "attr", None)) for found in _all(added, kind)) > 1
        for added in _all(assigned.node, (nodes.Add, nodes.Concat))
    )


def _all(node: nodes.Node, kind: Any) -> list[Any]:
    return [*([node] if isinstance(node, kind) else []), *node.find_all(kind)]


def _depth(node: nodes.Node) -> int:
    """Loops in one another."""
    return isinstance(node, nodes.For) + max(map(_depth, node.iter_child_nodes()), default=0)


def _calls(name: str, macros: dict[str, nodes.Macro], within: tuple[str, ...]) -> int:
    """Calls that one call of a macro leads to, of all macros; more than `MACRO_CALLS` where there is no end."""
    if name in within or len(within) > 20:
        return MACRO_CALLS + 1
    total = 1
    for call in macros[name].find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name in macros and total <= MACRO_CALLS:
            total += _calls(call.node.name, macros, (*within, name))
    return total
