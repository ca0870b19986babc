"""MediaPipe without what it says to itself while it starts."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# Lines of its C++ libraries, which no setting silences: a notice, warnings and remarks.
NOISE = re.compile(rb"WARNING: Logging before InitGoogle|[WI]\d{4} \d\d:\d\d:|INFO: ")


@contextmanager
def without_log() -> Iterator[None]:
    """Keeps such lines off the standard error meanwhile; all others come after."""
    sys.stderr.flush()
    own = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(own, 2)
            os.close(own)
            said.seek(0)
            for line in said:
                if not NOISE.match(line):
                    os.write(2, line)
