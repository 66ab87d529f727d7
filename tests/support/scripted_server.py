"""A small OpenAI-compatible server on this machine whose answers follow a script, quirks and troubles included."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from support.http_servers import running

PER_CHARACTER = -0.25


class Server(ThreadingHTTPServer):
    """Serves one model; `quirks` say what it does not do."""

    daemon_threads = True

    def __init__(self, **quirks) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.quirks, self.asked, self.lock = quirks, [], threading.Lock()
        self.troubles: list = []  # what the next answers are instead: a status, or "away"

    @property
    def spec(self) -> str:
        return f"openai:http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    """One token a character, the document's start one token too; completions tell the seed they were asked with."""

    server: Server

    def do_GET(self):
        rows = [{"id": name, "object": "model"} for name in self.quirks("models", ["tiny"])]
        self.answer(200, self.quirks("models_answer", {"object": "list", "data": rows}))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(body)
            failing = len(self.server.asked) > self.quirks("dies_after", 10**9)
            trouble = self.server.troubles.pop(0) if self.server.troubles else None
        if failing or trouble == "away":
            self.close_connection = True
            return
        if isinstance(trouble, int):
            return self.answer(trouble, {"error": {"message": "too much at once"}})
        if trouble is not None:
            return self.answer(200, trouble)
        if self.headers["Authorization"] != f"Bearer {self.quirks('key', 'none')}":
            self.answer(401, {"error": {"message": "bad key"}})
        elif body["model"] != "tiny":
            self.answer(404, {"error": {"message": "no such model"}})
        elif "min_tokens" in body and self.quirks("refuses", None):
            self.answer(self.quirks("refuses", None), {"detail": "Unexpected fields in the request: {'min_tokens'}"})
        elif "seed" in body and self.quirks("no_seed", False):
            self.answer(400, {"error": {"message": "Unrecognized request argument supplied: seed"}})
        elif body["max_tokens"] == 0 and self.quirks("no_zero", False):
            self.answer(422, {"detail": [{"loc": ["body", "max_tokens"], "msg": "ensure this value is greater than 0"}]})
        elif body.get("echo") and self.quirks("breaks_on_echo", False):
            self.answer(500, {"detail": "Internal Server Error"})
        elif body["max_tokens"] > 1000:
            self.answer(400, {"error": {"message": "the context is 1000 tokens"}})
        else:
            self.answer(
                200, {"id": "1", "object": "text_completion", "created": 1, "model": "tiny", "choices": [self.choice(body)]}
            )

    def choice(self, body):
        prompt, start = body["prompt"], self.quirks("start", "<|endoftext|>")
        choice = {"index": 0, "text": prompt, "finish_reason": "length", "logprobs": None}
        if not body.get("echo"):
            seed = body.get("seed", 0)
            text = "same" if self.quirks("greedy", False) else f"<|aligned|> {prompt}|{seed}"
            reason = self.quirks("finish_reason", "stop" if seed % 2 else "length")
            return choice | {"text": text, "finish_reason": reason}
        if self.quirks("logprobs", True):
            tokens = [start, *prompt[len(start) :]] if start and prompt.startswith(start) else list(prompt)
            tokens += ["more"] * body["max_tokens"]
            offsets = np.cumsum([0, *map(len, tokens)])[:-1].tolist()
            logprobs = [None] + [PER_CHARACTER * len(token) for token in tokens[1:]]
            choice["logprobs"] = {"tokens": tokens, "token_logprobs": logprobs, "text_offset": offsets, "top_logprobs": None}
        return choice

    def answer(self, status, content):
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(content, str) else "application/json")
        if status == 429:
            self.send_header("Retry-After", self.quirks("retry_after", ""))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def quirks(self, name, otherwise):
        return self.server.quirks.get(name, otherwise)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serving(**quirks):
    with running(Server(**quirks)) as server:
        yield server
