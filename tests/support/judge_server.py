"""A scripted chat server: what it answers to each question is a function of the test, and every request is counted."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """An answer of the server: a chat answer with this content, or another body or status."""

    content: str | None = ""
    status: int = 200
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    top_logprobs: dict[str, float] | None = None

    def text(self) -> str:
        if self.body is not None:
            return self.body
        if self.status != 200:
            return json.dumps({"error": {"message": f"status {self.status}"}})
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": self.content}}
        if self.top_logprobs is not None:
            listed = [{"token": token, "logprob": logprob} for token, logprob in self.top_logprobs.items()]
            choice["logprobs"] = {"content": [{"token": "x", "logprob": 0.0, "top_logprobs": listed}]}
        return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10}})


@dataclass
class JudgeServer:
    """What the server was asked: the last line of each question, in order of arrival."""

    url: str
    asked: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    most_at_once: int = 0


@contextlib.contextmanager
def judge_server(reply) -> Iterator[JudgeServer]:
    """Serve `reply(text, count)`: the text is the question's last line, the count how often it was asked, from 1."""
    lock = threading.Lock()
    at_once = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            nonlocal at_once
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = body["messages"][-1]["content"].splitlines()[-1]
            with lock:
                record.asked.append(text)
                record.bodies.append(body)
                count = record.asked.count(text)
                at_once += 1
                record.most_at_once = max(record.most_at_once, at_once)
            answer = reply(text, count)
            time.sleep(answer.seconds)
            with lock:
                at_once -= 1
            data = answer.text().encode()
            with contextlib.suppress(OSError):  # a client that waits no longer
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        record = JudgeServer(f"http://127.0.0.1:{server.server_address[1]}/v1")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield record
        finally:
            server.shutdown()
