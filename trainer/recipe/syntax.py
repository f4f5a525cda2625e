"""What PyYAML finds wrong with a text, in our words: expected, found, and what to try."""

from __future__ import annotations

import re
from typing import Any

import yaml

INDENT = "check the indentation: entries of one block begin in the same column"
QUOTES = "put quotes around text that holds one of : # [ ] {{ }} , & * ! | > % @ `"
COLON = "put quotes around text that holds a colon; or the line above lacks its colon, or begins in another column"
CLOSED = "check that quotes and brackets are closed"

_TOKENS = {
    "<stream end>": "the end of the text",
    "<scalar>": "another value",
    "<block mapping start>": "an entry that stands further in",
    "<block sequence start>": "a list that stands further in",
    "<block end>": "the end of the block",
    "<document start>": "---",
    "?": "another key",
}

_RULES: tuple[tuple[str, str, str], ...] = (
    (r"found character '\\t' that cannot", "expected spaces, found a tab", "indent with spaces"),
    (r"found character (?P<found>.+) that cannot", "expected a value, found {found}", QUOTES),
    (r"could not find expected ':'", "expected a colon and a space after the key", "key: value, each on its own line"),
    (r"mapping values are not allowed here", "expected no colon here", COLON),
    (r"sequence entries are not allowed here", "expected no list entry here", "begin the list on a line of its own"),
    (r"mapping keys are not allowed here", "expected no key here", "begin the mapping on a line of its own"),
    (r"found unknown escape character (?P<found>.+)", "there is no escape \\{bare}", "in '…' a backslash is itself"),
    (r"expected escape sequence of (?P<n>\d+) hex", "expected {n} hexadecimal digits after the backslash", ""),
    (r"found unexpected document separator", "expected the closing quote, found a line of --- or ...", CLOSED),
    (r"found incompatible YAML document", "expected YAML 1.2, found another version", "remove the line"),
    (r"found unexpected end of stream", "this quote is never closed", CLOSED),
    (r"expected ',' or '(?P<end>.)', but got '<stream end>'", "this bracket is never closed", "add {end}"),
    (r"expected ',' or '(?P<end>.)', but got '(?P<token>.+)'", "expected ',' or '{end}', found {token}", CLOSED),
    (r"expected <block end>, but found '(?P<token>.+)'", "expected the next entry of the block, found {token}", INDENT),
    (r"expected the node content, but found '(?P<token>.+)'", "expected a value, found {token}", QUOTES),
    (r"expected '<document start>', but found", "expected the text to end here", INDENT),
    (r"expected chomping or indentation", "expected the text to begin on the next line", "write | or > alone"),
    (r"expected alphabetic or numeric character", "expected a name after & or *", QUOTES),
)


def explained(error: yaml.MarkedYAMLError) -> tuple[str, str]:
    """(message, hint) for an error of PyYAML."""
    said = str(error.problem or error.context or "this is not YAML")
    for pattern, message, hint in _RULES:
        found = re.match(pattern, said)
        if found:
            words: dict[str, Any] = found.groupdict()
            token = words.get("token", "")
            words["token"] = _TOKENS.get(token, f"'{token}'")
            words["bare"] = str(words.get("found", "")).strip("'\"")
            return message.format(**words) + _opened(error), hint.format(**words)
    return (f"{said} ({error.context})" if error.context else said), CLOSED


def _opened(error: yaml.MarkedYAMLError) -> str:
    opened, met = error.context_mark, error.problem_mark
    if opened is None or met is None or opened.line == met.line:
        return ""
    if "flow" not in str(error.context) or "<stream end>" in str(error.problem):
        return ""
    return f"; the bracket of line {opened.line + 1} is still open"


def mark_of(error: yaml.MarkedYAMLError) -> Any:
    """The mark where the mistake is seen best: where a quote or bracket was opened, when its end is missing."""
    said = str(error.problem)
    never = "found unexpected end of stream" in said or "but got '<stream end>'" in said or "could not find" in said
    marks = (error.context_mark, error.problem_mark) if never else (error.problem_mark, error.context_mark)
    return next((m for m in marks if m is not None), None)
