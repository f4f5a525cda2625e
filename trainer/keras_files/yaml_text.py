"""Architectures in the YAML that Keras 1 and 2 wrote: plain values, Python's own tags of them, bounded aliases."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import Resolver
from yaml.scanner import Scanner

from trainer.errors import FileError
from trainer.runs.hdf5 import first_line
from trainer.wording import clean

MOST_VALUES, MOST_DEPTH = 250_000, 100
"Of a text; a thousand layers have some 30,000."
_TEXTS = {"tag:yaml.org,2002:python/unicode", "tag:yaml.org,2002:python/str", "tag:yaml.org,2002:str"}
_LISTS = {"tag:yaml.org,2002:python/tuple", "tag:yaml.org,2002:seq"}
_PLAIN = "tag:yaml.org,2002:"


class _Nodes(Reader, Scanner, Parser, Composer, Resolver):
    """PyYAML as far as its nodes: no constructor of values exists."""

    def __init__(self, text: str):
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        Resolver.__init__(self)


def read_yaml(data: bytes, name: str) -> dict[str, Any]:
    """The mapping in a text.

    Raises:
        FileError: no YAML, tags of anything but plain values, or more of it than a model has.
    """
    try:
        value = _Values(name).of(_Nodes(data.decode("utf-8")).get_single_node(), 0)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise FileError(f"{name}: expected YAML, found {clean(first_line(error))}") from None
    if not isinstance(value, dict):
        raise FileError(f"{name}: expected a mapping, found {type(value).__name__}")
    return value


class _Values:
    """Plain values out of nodes, counted."""

    def __init__(self, name: str):
        self.name, self.count = name, 0

    def of(self, node: Any, depth: int) -> Any:
        """The value of a node."""
        self.count += 1
        if self.count > MOST_VALUES or depth > MOST_DEPTH:
            raise FileError(f"{self.name}: expected the description of a model, found far more than one has")
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_PLAIN}map":
            return {str(self.of(key, depth + 1)): self.of(value, depth + 1) for key, value in node.value}
        if isinstance(node, yaml.SequenceNode) and node.tag in _LISTS:
            return [self.of(item, depth + 1) for item in node.value]
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        tag = clean(getattr(node, "tag", "nothing"))
        raise FileError(f"{self.name}: expected plain values, found {tag}, which only code can read")

    def scalar(self, node: yaml.ScalarNode) -> Any:
        """A single value."""
        kind, words = node.tag.removeprefix(_PLAIN), str(node.value)
        if node.tag in _TEXTS:
            return words
        if kind == "null":
            return None
        if kind == "bool":
            return words.lower() in ("yes", "true", "on", "y")
        if kind in ("int", "python/long") and len(words) < 40:
            return int(words.replace("_", ""), 0)
        if kind == "float":
            return float(words.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
        raise FileError(f"{self.name}: expected plain values, found {clean(node.tag)}, which only code can read")
