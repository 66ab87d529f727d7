"""HTTP servers of tests, in threads of their own."""

import contextlib
import threading


@contextlib.contextmanager
def running(server):
    """Serve while the block runs, then stop and close the server."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
