"""A small OpenAI-compatible server on this machine that serves one checkpoint, log-probabilities of prompts included."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch

from phf.lm import sampler
from phf.lm.protocol import Sampling
from support.http_servers import running


class Handler(BaseHTTPRequestHandler):
    """Reads prompts with their special tokens, as vLLM does."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked += 1
            dead = self.server.asked > self.server.dies_after
            answer = None if dead else self.answer(body)
        if dead:
            self.close_connection = True
            return
        data = json.dumps({"id": "1", "object": "text_completion", "created": 1, "model": "tiny", "choices": [answer]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer(self, body):
        words, made, model = self.server.words, self.server.model, self.server.loaded
        words.backend_tokenizer.encode_special_tokens = False
        encoding = words.backend_tokenizer.encode(body["prompt"], add_special_tokens=False)
        choice = {"index": 0, "text": "", "finish_reason": "length", "logprobs": None}
        if not body.get("echo"):
            sampling = Sampling(
                body["temperature"], body["top_p"], body.get("min_tokens", 0), body["max_tokens"], body["seed"], 1
            )
            (sample,) = sampler.generate(made, [encoding.ids], sampling, model.ends)
            return choice | {"text": words.decode(sample.tokens), "finish_reason": "stop" if sample.finished else "length"}
        with torch.inference_mode():
            logprobs = made(input_ids=torch.tensor([encoding.ids])).logits[0].double().log_softmax(-1)
        nats = [None] + [float(logprobs[place, token]) for place, token in enumerate(encoding.ids[1:])]
        tops = [None] + [{"top": float(logprobs[place].max())} for place in range(len(encoding.ids) - 1)]
        return choice | {
            "logprobs": {
                "tokens": encoding.tokens,
                "token_logprobs": nats,
                "top_logprobs": tops if self.server.tells_top else None,
                "text_offset": [begin for begin, _ in encoding.offsets],
            }
        }

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def served(loaded, dies_after=10**9, tells_top=True):
    """Serve a `LocalModel`; give its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.loaded, server.model, server.words = loaded, loaded.model, loaded.tokenizer
    server.lock, server.asked, server.dies_after, server.tells_top = threading.Lock(), 0, dies_after, tells_top
    with running(server):
        yield f"openai:http://127.0.0.1:{server.server_port}/v1#tiny"
