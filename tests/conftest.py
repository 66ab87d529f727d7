"""What every test stands on: one thread, which tiny models like best, no hub, and the same examples on every machine."""

import os

import hypothesis

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")

# A suite that fails, fails again. Asked for more examples than it takes by itself, it looks at new ones.
hypothesis.settings.register_profile("phf", deadline=None, derandomize="PHF_EXAMPLES" not in os.environ)
hypothesis.settings.load_profile("phf")


def pytest_make_parametrize_id(config, val, argname):
    """Bytes do not name a test: compressed ones hold the time, and pytest-xdist wants the same names from every worker."""
    return f"{argname}-{len(val)}-bytes" if isinstance(val, bytes) else None
