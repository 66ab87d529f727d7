"""The Hugging Face hub and its library: loading without the library's own progress bars and warnings."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_transformers(errors_only: bool = False) -> Iterator[None]:
    """Keep transformers' progress bars off the terminal, since phf shows its own; they come back after the block.

    Args:
        errors_only: silence its warnings too, where what they warn of is intended.
    """
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if errors_only:
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
