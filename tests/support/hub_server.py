"""A small Hugging Face hub on this machine: repositories in memory, and as much of its API as pushes and downloads need."""

import base64
import contextlib
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub

from support.http_servers import running

TOKEN = "hf_stand_in"
_COMMIT = "0" * 40
_NAME = r"(?P<name>[\w.-]+(/[\w.-]+)?)"
_ACTIONS = "revision|branch|tree|paths-info|preupload|commit"
_ROUTE = re.compile(rf"/api/(?P<kind>models|datasets)/{_NAME}(/(?P<what>{_ACTIONS})/(?P<revision>[^/]+)(/(?P<under>.*))?)?")
_FILE = re.compile(rf"/(?P<kind>datasets/)?{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


class Server(ThreadingHTTPServer):
    """The repositories by kind and name: {"private": bool, "branches": {branch: {path: content}}}."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict = {}
        self.refuses: int | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def publish(self, kind: str, name: str, folder: Path) -> None:
        """Make the files of a folder a repository; `kind` is "models" or "datasets"."""
        files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        self.repositories[kind, name] = {"private": False, "branches": {"main": files}}

    def files(self, kind, name, branch="main"):
        return self.repositories[kind, name]["branches"][branch]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        self.handle_request(b"")

    def do_HEAD(self):
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
        match = _ROUTE.fullmatch(path) or _FILE.fullmatch(path)
        kind = match and (match["kind"] or "models").strip("/")
        repository = match and self.server.repositories.get((kind, match["name"]))
        if repository is None:
            return self.answer(404, {"error": f"Repository not found: {path}"}, {"X-Error-Code": "RepoNotFound"})
        branches, revision = repository["branches"], match["revision"]
        files = branches.get("main" if revision in (None, _COMMIT) else revision)
        if match.re is _FILE:
            return self.of_file(files.get(match["path"]))
        return self.of_repository(match, repository, files, body)

    def of_file(self, content):
        if content is None:
            return self.answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": _COMMIT, "Accept-Ranges": "bytes"}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if span is None:
            return self.send(200, content, "application/octet-stream", headers)
        start, stop = int(span[1]), min(int(span[2] or len(content)) + 1, len(content))
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        return self.send(206, content[start:stop], "application/octet-stream", headers)

    def create(self, wanted):
        name = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
        key = (f"{wanted.get('type') or 'model'}s", name)
        if key in self.server.repositories:
            return self.answer(409, {"error": "You already created this repo", "url": self.url(name)})
        private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
        self.server.repositories[key] = {"private": private, "branches": {"main": {".gitattributes": b""}}}
        return self.answer(200, {"url": self.url(name), "name": name})

    def of_repository(self, match, repository, files, body):
        what, revision, branches = match["what"], match["revision"], repository["branches"]
        if what == "branch":
            if revision in branches:
                return self.answer(409, {"error": "Reference already exists"})
            branches[revision] = dict(branches["main"])
            return self.answer(200, {})
        if files is None:
            return self.answer(404, {"error": f"Invalid rev id: {revision}"}, {"X-Error-Code": "RevisionNotFound"})
        if what is None or what == "revision":
            siblings = [{"rfilename": name} for name in files]
            about = {"id": match["name"], "private": repository["private"], "sha": _COMMIT, "siblings": siblings}
            return self.answer(200, about)
        if what == "tree":
            under = f"{match['under']}/" if match["under"] else ""
            recursive = "recursive=true" in self.path.lower()
            return self.answer(200, [entry for entry in _entries(files) if _is_below(entry["path"], under, recursive)])
        if what == "paths-info":
            wanted = parse_qs(body.decode())["paths"]
            return self.answer(200, [entry for entry in _entries(files) if entry["path"] in wanted])
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
        return f"{self.server.address}/{name}"

    def answer(self, status, content, headers=None):
        self.send(status, json.dumps(content).encode(), "application/json", headers or {})

    def send(self, status, data, kind, headers):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *arguments):
        pass


def _oid(content):
    return hashlib.sha1(content).hexdigest()


def _entries(files):
    folders = sorted({str(parent) for name in files for parent in Path(name).parents} - {"."})
    return [{"type": "directory", "path": name, "oid": _COMMIT} for name in folders] + [
        {"type": "file", "path": name, "size": len(content), "oid": _oid(content)} for name, content in files.items()
    ]


def _is_below(path, under, recursive):
    return path.startswith(under) and (recursive or "/" not in path[len(under) :])


@contextlib.contextmanager
def serving(monkeypatch):
    """Serve, with huggingface_hub set up as HF_ENDPOINT and HF_TOKEN would."""
    with running(Server()) as server:
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.address)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def client_environment(server: Server, home: Path) -> dict[str, str]:
    """Return the environment of a process that knows this hub alone, and keeps in `home` what it downloads."""
    return {
        "HF_ENDPOINT": server.address, "HF_TOKEN": TOKEN, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0", "HF_HUB_DISABLE_TELEMETRY": "1",
    }  # fmt: skip
