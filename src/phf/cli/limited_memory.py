"""Commands under a limit on memory (`ulimit -v`): the end of a library that aborts when it gets none is put into words."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable

from phf.cli.options import fail
from phf.machine import memory_limit
from phf.processes import ABORTS, die_with_parent

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def supervised(command: Callable[[], None]) -> None:
    """Call a command; under a limit on memory in a child process, since libraries of C++ and Rust abort where none is left.

    The child inherits terminal, streams and working directory, hears the signals that this process gets, and ends with it. This
    process ends as the child does, but for an abort: that is said in one line, with exit 2.
    """
    limit = memory_limit()
    if limit is None or not hasattr(signal, "sigwaitinfo"):
        return command()
    waited_for = {signal.SIGCHLD, *_PASSED_ON}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    parent, child = os.getpid(), os.fork()
    if child == 0:
        die_with_parent(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return command()
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        heard = signal.sigwaitinfo(waited_for)
        if heard.si_signo in _PASSED_ON and heard.si_pid:  # a terminal, which has no process id, signals the child itself
            os.kill(child, heard.si_signo)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    code = os.waitstatus_to_exitcode(ended[1])
    if -code in ABORTS:
        fail(
            f"error: out of memory: a library ended the process ({signal.Signals(-code).name}) where `ulimit` allows it "
            f"{limit / 2**30:.3g} GiB. Raise `ulimit -v` and `ulimit -d`, or lower train.micro_batch, jobs, annotate.workers, "
            "tokenize.workers or the batch of an evaluation; what was finished before is whole",
            2,
        )
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no other action
            signal.signal(-code, signal.SIG_DFL)
        os.kill(parent, -code)
    sys.exit(code)
