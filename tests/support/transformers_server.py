"""A real server of Hugging Face models on this machine, for the tests of what talks to one."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def transformers_serve(folder: Path, log: Path, wait: float = 180.0) -> Iterator[str]:
    """Serve a model folder with `transformers serve`; give its address, such as http://127.0.0.1:8000/v1."""
    program = Path(sys.executable).parent / "transformers"
    if not program.exists():
        pytest.skip("no transformers command beside this Python")
    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(program), "serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with log.open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + wait
        while True:
            assert process.poll() is None, f"the server ended: {log.read_text()[-2000:]}"
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            assert time.monotonic() < deadline, f"no answer in {wait:.0f} s: {log.read_text()[-2000:]}"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(timeout=30)
