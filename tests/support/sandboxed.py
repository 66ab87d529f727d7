"""Whether code can be needs_sandbox on this system, tried once for all tests that need it."""

import pytest

from phf import sandbox
from phf.errors import InputError

try:
    sandbox.check()
    missing = ""
except InputError as reason:
    missing = str(reason)
needs_sandbox = pytest.mark.skipif(bool(missing), reason=f"no sandbox here: {missing}")
