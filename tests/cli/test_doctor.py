"""`phf doctor`: what is there, and the command for what is not."""

import json
from importlib import metadata

import pytest

from phf.errors import InputError
from support.command_line import phf


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("phf.sandbox.check", lambda: None)


def test_this_machine(quick, tmp_path):
    found = json.loads(phf("doctor", "--json", cwd=tmp_path)[0])
    assert found["versions"]["torch"] == metadata.version("torch")
    machine = found["machine"]
    assert machine["cores"] >= 1
    assert min(machine["memory"], machine["disk free here"]) > 0
    assert machine["instruction sets"].startswith("PyTorch uses ")
    assert machine["sandbox"].startswith("holds")
    said = phf("doctor", cwd=tmp_path)[0]
    assert all(word in said for word in ("Versions", "Extras", "Machine", "cores", " GB"))


def test_a_missing_and_an_old_library_stand_beside_their_command(quick, tmp_path, monkeypatch):
    version = metadata.version

    def without(name):
        if name == "scrubadub":
            raise metadata.PackageNotFoundError(name)
        return "0.1" if name == "matplotlib" else version(name)

    monkeypatch.setattr(metadata, "version", without)
    extras = {extra["extra"]: extra for extra in json.loads(phf("doctor", "--json", cwd=tmp_path)[0])["extras"]}
    assert "no scrubadub" in extras["pii"]["state"]
    assert extras["pii"]["command"] == "pip install 'phf[pii]'"
    assert "matplotlib 0.1 is not >=3.9" in extras["report"]["state"]
    assert extras["judge"]["state"] == "installed" or "openai" in extras["judge"]["state"]


def test_every_extra_of_users_is_looked_at(quick, tmp_path):
    declared = set(metadata.metadata("phf").get_all("Provides-Extra")) - {"all", "dev", "docs"}
    assert {extra["extra"] for extra in json.loads(phf("doctor", "--json", cwd=tmp_path)[0])["extras"]} == declared


def test_a_sandbox_that_does_not_hold_is_said_with_its_reason(tmp_path, monkeypatch):
    def refuse():
        raise InputError("it could read files")

    monkeypatch.setattr("phf.sandbox.check", refuse)
    machine = json.loads(phf("doctor", "--json", cwd=tmp_path)[0])["machine"]
    assert machine["sandbox"] == "cannot be used: it could read files"
