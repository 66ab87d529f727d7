"""A small Hugging Face hub on this machine: repositories in memory, and as much of its API as one push needs."""

import base64
import contextlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import huggingface_hub

from support.http_servers import running

TOKEN = "hf_stand_in"
_ROUTE = re.compile(r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)(/(?P<what>\w+)(/(?P<revision>[^/]+))?)?")


class Server(ThreadingHTTPServer):
    """The repositories by kind and name: {"private": bool, "branches": {branch: {path: content}}}."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict = {}
        self.refuses: int | None = None

    def files(self, kind, name, branch="main"):
        return self.repositories[kind, name]["branches"][branch]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        self.handle_request(b"")

    def do_POST(self):
        self.handle_request(self.rfile.read(int(self.headers["Content-Length"])))

    def handle_request(self, body):
        path = unquote(urlsplit(self.path).path)
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid username or password."})
        if self.server.refuses:
            return self.answer(self.server.refuses, {"error": "You don't have the rights to do this"})
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        match = _ROUTE.fullmatch(path)
        repository = match and self.server.repositories.get((match["kind"], match["name"]))
        if repository is None:
            return self.answer(404, {"error": f"Repository not found: {path}"})
        return self.of_repository(match, repository, body)

    def create(self, wanted):
        name = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
        key = (f"{wanted.get('type') or 'model'}s", name)
        if key in self.server.repositories:
            return self.answer(409, {"error": "You already created this repo", "url": self.url(name)})
        private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
        self.server.repositories[key] = {"private": private, "branches": {"main": {".gitattributes": b""}}}
        return self.answer(200, {"url": self.url(name), "name": name})

    def of_repository(self, match, repository, body):
        what, revision, branches = match["what"], match["revision"], repository["branches"]
        if what is None or what == "revision":
            return self.answer(200, {"id": match["name"], "private": repository["private"], "sha": "0" * 40, "siblings": []})
        if what == "branch":
            if revision in branches:
                return self.answer(409, {"error": "Reference already exists"})
            branches[revision] = dict(branches["main"])
            return self.answer(200, {})
        files = branches[revision]
        if what == "tree":
            return self.answer(200, [{"type": "file", "path": name, "size": len(files[name]), "oid": "0" * 40} for name in files])
        if what == "preupload":
            asked = [file["path"] for file in json.loads(body)["files"]]
            return self.answer(200, {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in asked]})
        assert what == "commit"
        for line in body.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "deletedFile":
                del files[entry["value"]["path"]]
        url = f"{self.url(match['name'])}/commit/{'1' * 40}"
        return self.answer(200, {"success": True, "commitOid": "1" * 40, "commitUrl": url, "hookOutput": ""})

    def url(self, name):
        return f"http://127.0.0.1:{self.server.server_port}/{name}"

    def answer(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serving(monkeypatch):
    """Serve, with huggingface_hub set up as HF_ENDPOINT and HF_TOKEN would."""
    server = Server()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with running(server):
        yield server
