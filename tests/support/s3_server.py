"""An S3-compatible server on this machine, moto's, and a bucket on it."""

import contextlib

import pytest

SECRET = "never-to-be-written-anywhere"


@contextlib.contextmanager
def running_server():
    """Serve while the block runs; give the address."""
    s3fs = pytest.importorskip("s3fs")
    pytest.importorskip("flask")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()  # the next server has another address


def make_bucket(address, name, cache, monkeypatch):
    """Make a bucket, and set what a process needs to reach it; give its file system."""
    import fsspec

    variables = {
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": address,
        "AWS_DEFAULT_REGION": "us-east-1", "PHF_CACHE": str(cache),
    }  # fmt: skip
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    filesystem = fsspec.filesystem("s3", skip_instance_cache=True)
    filesystem.mkdir(name)
    filesystem.bucket = name
    return filesystem
