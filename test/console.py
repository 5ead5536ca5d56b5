"""A program with a terminal of its own, driven as a person would.

Output is matched with regular expressions as it comes; everything that was
said is kept for the report of a failure.
"""
import ctypes
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import tty


class Failure(Exception):
    """What was expected did not come."""


LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def die_with_parent():
    """In the child: no QEMU or bhyve outlives a test that was killed."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Console:
    def __init__(self, argv, log=None, cwd=None):
        master, slave = pty.openpty()
        tty.setraw(slave)
        self.fd = master
        self.log = open(log, 'wb', buffering=0) if log else None
        self.show = False   # pass what is said on to our own output
        self.child = subprocess.Popen(argv, stdin=slave, stdout=slave,
                                      stderr=slave, cwd=cwd,
                                      start_new_session=True,
                                      preexec_fn=die_with_parent)
        os.close(slave)
        self.text = ''      # not yet matched
        self.history = ''   # all of it

    def _read(self, deadline):
        """Take what has come; False at the end of the program's output."""
        wait = max(0, deadline - time.monotonic())
        if not select.select([self.fd], [], [], wait)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:     # EIO: nobody holds the other end any more
            data = b''
        if self.log:
            self.log.write(data)
        if self.show:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        text = data.decode('ascii', 'replace').replace('\r', '')
        self.text += text
        self.history += text
        return bool(data)

    def expect(self, pattern, seconds):
        """Wait for the pattern; the match, whose string begins with what came
        before it.  Text up to its end is used up.  A pattern that takes in
        what comes before is slow: it is tried anew with all that is read."""
        regex = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + seconds
        late = False
        alive = True
        while True:
            match = regex.search(self.text)
            if match:
                self.text = self.text[match.end():]
                return match
            if not alive:
                raise Failure(f'ended without {pattern!r}')
            if late:
                raise Failure(f'no {pattern!r} in {seconds} s')
            late = time.monotonic() >= deadline
            alive = self._read(deadline)

    def send(self, text):
        os.write(self.fd, text.encode('latin-1'))

    def wait(self, seconds):
        """The exit status, or Failure."""
        deadline = time.monotonic() + seconds
        while self._read(deadline) and time.monotonic() < deadline:
            pass
        try:
            return self.child.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Failure(f'still running after {seconds} s') from None

    def close(self):
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()
        os.close(self.fd)
        if self.log:
            self.log.close()
