"""A chat endpoint in a thread that misbehaves on request: time-outs, limits, errors, cut and senseless replies."""

import json
import socket
import threading
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

HANG, DROP, CUT, HTML, NO_CHOICES, BROKEN_JSON, NO_TEXT = "hang", "drop", "cut", "html", "choices", "json", "no text"


MODELS_OF_OPENAI = frozenset({"model", "messages", "n", "max_completion_tokens", "seed", "reasoning_effort", "user"})
"""All that a reasoning model of OpenAI takes, as far as medr1 may send it."""


def refuse_as_openai(body: dict[str, Any]) -> str | None:
    """What a strict server says of the first field that its reasoning model does not take; None where it takes all."""
    for name, value in body.items():
        if name in ("temperature", "top_p"):
            if value != 1:
                return f"Unsupported value: '{name}' does not support {value} with this model."
        elif name in ("presence_penalty", "frequency_penalty", "max_tokens"):
            return f"Unsupported parameter: '{name}' is not supported with this model."
        elif name not in MODELS_OF_OPENAI:
            return f"Unrecognized request argument supplied: {name}"
    return None


def chat_reply(text: str | None, finish_reason: str | None = "stop", num_tokens: int = 3) -> dict[str, Any]:
    """What a server answers."""
    return {
        "id": "1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 10, "completion_tokens": num_tokens},
    }


class FaultyServer:
    """Answers every prompt with `answer(body)`, unless `fault(prompt, attempt)` names a fault or an HTTP status.

    `attempt` counts the requests with the same text from 0. A status may have headers: `(429, {"Retry-After": "1"})`. A
    fault that is a dictionary is sent as the reply. An answer may be a whole reply, too, or a list of pieces that are
    sent as events; after a piece that is None the line breaks. `refuse(body)` says why a body gets HTTP 400.
    """

    def __init__(
        self,
        fault: Callable[[str, int], Any] = lambda prompt, attempt: None,
        answer: Callable[[dict[str, Any]], str | dict[str, Any] | list[Any]] = lambda body: f"re: {prompt_of(body)}",
        refuse: Callable[[dict[str, Any]], str | None] = lambda body: None,
    ) -> None:
        self.fault, self.answer, self.refuse = fault, answer, refuse
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.attempts: dict[str, int] = defaultdict(int)
        self.lock, self.closing = threading.Lock(), threading.Event()

    def __enter__(self) -> Self:
        owner = self

        class Handler(_Handler):
            faulty = owner

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1"


def prompt_of(body: dict[str, Any]) -> str:
    """The text of the user turn."""
    user = next(message for message in body["messages"] if message["role"] == "user")
    return user["content"][-1]["text"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faulty: FaultyServer

    def do_GET(self) -> None:
        self.obey(self.faulty.fault("GET", 0), {"object": "list", "data": []})

    def do_POST(self) -> None:
        faulty = self.faulty
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = prompt_of(body)
        with faulty.lock:
            attempt = faulty.attempts[prompt]
            faulty.attempts[prompt] += 1
            faulty.bodies.append(body)
            faulty.headers.append({name.lower(): value for name, value in self.headers.items()})
        refusal = faulty.refuse(body)
        if refusal is not None:
            self.send(400, json.dumps({"error": {"message": refusal, "type": "invalid_request_error"}}).encode())
            return
        answer = faulty.answer(body)
        if isinstance(answer, list):
            self.send_events(answer)
            return
        self.obey(faulty.fault(prompt, attempt), answer if isinstance(answer, dict) else chat_reply(answer))

    def obey(self, fault: Any, good: dict[str, Any]) -> None:
        """Send the reply, or what the fault makes of it."""
        if fault == HANG:
            self.faulty.closing.wait(60)
            self.close_connection = True
        elif fault == DROP:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif fault == CUT:
            self.send(200, json.dumps(good).encode(), cut=True)
        elif fault == HTML:
            self.send(200, b"<html>gateway</html>", content_type="text/html")
        elif fault == BROKEN_JSON:
            self.send(200, json.dumps(good).encode()[:-9])
        elif fault == NO_CHOICES:
            self.send(200, json.dumps(good | {"choices": []}).encode())
        elif fault == NO_TEXT:
            self.send(200, json.dumps(chat_reply(None, "content_filter")).encode())
        elif isinstance(fault, dict):
            self.send(200, json.dumps(fault).encode())
        elif fault is not None:
            status, headers = fault if isinstance(fault, tuple) else (fault, {})
            said = headers.get("X-Said", f"fault {status}")
            self.send(status, json.dumps({"error": {"message": said}}).encode(), headers=headers)
        else:
            self.send(200, json.dumps(good).encode())

    def send(
        self,
        status: int,
        data: bytes,
        *,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
        cut: bool = False,
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = self.close_connection or cut

    def send_events(self, pieces: list[Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            if piece is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            data = f"data: {piece if isinstance(piece, str) else json.dumps(piece)}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args: Any) -> None:
        pass
