"""RemoteMonitor."""

from __future__ import annotations

import json
import math
from http.client import HTTPException
from types import SimpleNamespace
from typing import Annotated, Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from trainer.callbacks.base import Callback, Logs, Run
from trainer.options import Bool, Rule, Str

PATIENCE = 5.0
"Seconds to wait for the server, each epoch."


def _address(value: Any) -> str:
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or not value.isprintable():
        raise ValueError
    return value


def _headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError
    for text in (*value, *value.values()):
        if not isinstance(text, str) or not text.isprintable() or not text.isascii():
            raise ValueError
    return value


_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}


class RemoteMonitor(Callback):
    """Sends the values of every epoch to a server, as an HTTP POST; where there is none, a line says so.

    https://keras.io/api/callbacks/remote_monitor/
    """

    in_order = True

    root: Annotated[str, Rule("an address such as http://localhost:9000", _address, {"type": "string"})] = (
        "http://localhost:9000"
    )
    "Address of the server."
    path: Str = "/publish/epoch/end/"
    "Place on the server."
    field: Str = "data"
    "Form field that holds the values as JSON, unless `send_as_json`."
    headers: Annotated[dict[str, str], Rule("a mapping of header names to texts", _headers, _TEXTS)] | None = None
    "HTTP headers to send along."
    send_as_json: Bool = False
    "Whether the values are the body itself, as application/json, in place of a field of a form."

    def on_epoch_end(self, my: SimpleNamespace, run: Run, epoch: int, logs: Logs) -> None:
        # JSON knows no NaN: servers that read it strictly would refuse the whole message.
        values = {"epoch": epoch} | {n: v if math.isfinite(v) else None for n, v in logs.items()}
        try:
            with urlopen(self._request(json.dumps(values)), timeout=PATIENCE) as answer:
                answer.read()
        except HTTPError as error:
            run.say(f"RemoteMonitor: {self.root}{self.path} answered {error.code} {error.reason}")
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            run.say(f"RemoteMonitor: could not reach the server at {self.root} ({reason})")

    def _request(self, values: str) -> Request:
        body, kind = (
            (values, "json") if self.send_as_json else (urlencode({self.field: values}), "x-www-form-urlencoded")
        )
        headers = {"Content-Type": f"application/{kind}", **(self.headers or {})}
        return Request(self.root + self.path, body.encode(), headers, method="POST")
