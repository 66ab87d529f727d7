"""Whether code can be caged on this system, tried once for all tests that need it."""

import pytest

from phf import sandbox
from phf.errors import InputError

try:
    sandbox.check()
    missing = ""
except InputError as reason:
    missing = str(reason)
caged = pytest.mark.skipif(bool(missing), reason=f"no cage here: {missing}")
