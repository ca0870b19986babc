"""MediaPipe without what it says to itself while it starts."""

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator

# Lines of its C++ libraries, which no setting silences: a notice, warnings and remarks.
NOISE = re.compile(rb"WARNING: Logging before InitGoogle|[WI]\d{4} \d\d:\d\d:|INFO: ")
STDERR = 2
_ONE_AT_A_TIME = threading.Lock()


@contextlib.contextmanager
def without_log() -> Iterator[None]:
    """Keeps such lines off the process's standard error meanwhile; all others come after. For short times only."""
    with _ONE_AT_A_TIME, contextlib.ExitStack() as stack:
        try:
            said = stack.enter_context(tempfile.TemporaryFile())
            own = os.dup(STDERR)
        except OSError:
            # There is no standard error, or no room for what it is sent.
            yield
            return
        stack.callback(os.close, own)
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(said.fileno(), STDERR)
        try:
            yield
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(own, STDERR)
            said.seek(0)
            for line in said:
                if not NOISE.match(line):
                    # A reader that is gone is no reason to stop.
                    with contextlib.suppress(OSError):
                        os.write(STDERR, line)
