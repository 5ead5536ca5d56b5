#!/usr/bin/env -S python3 -B
"""A hostile guest against a whole machine, for $HAMMER_SECONDS (30): machine
after machine, each with a new seed, which is printed when one fails.

A machine may end as machines do; it may not crash, report an error, keep
running when it is told to stop, or grow.

usage: hammer.py BHYVE PAYLOAD [SEED]
"""
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

from idle import own_memory
from tap import Tap

LIFE = 10               # seconds that one machine is given
GROWTH_MOST = 16384     # KiB, beside the guest's memory
REPORT = re.compile(r'Sanitizer|runtime error|Assertion')


def life(bhyve, payload, seed, seconds):
    """Run one machine.  What is wrong with it, or an empty string."""
    with tempfile.TemporaryFile() as said, \
            open('/dev/urandom', 'rb') as typed:
        child = subprocess.Popen(
            [bhyve, '-c', '2', '-m', '64M', '-s', '0,hostbridge', '-s',
             '31,lpc', '-l', 'com1,stdio', '-l', 'com2,pty', '-o',
             'engine=kvm', '-o', f'boot.kernel={payload}', '-o',
             f'boot.cmdline={seed}', 'hammer'],
            stdin=typed, stdout=subprocess.DEVNULL, stderr=said)
        grown = 0
        try:
            child.wait(seconds / 2)
        except subprocess.TimeoutExpired:
            grown = -own_memory(child.pid)
            try:
                child.wait(seconds / 2)
            except subprocess.TimeoutExpired:
                grown += own_memory(child.pid)
                child.send_signal(signal.SIGINT)
        try:
            status = child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return 'does not stop'
        said.seek(0)
        text = said.read().decode('utf-8', 'replace')
    if status not in (0, 1, 2, 3, -signal.SIGINT) or REPORT.search(text):
        return f'exit status {status}\n{text[-6000:]}'
    if grown > GROWTH_MOST:
        return f'grew by {grown} KiB'
    return ''


def main(bhyve, payload, seed=None):
    if not os.access('/dev/kvm', os.R_OK | os.W_OK):
        print('no /dev/kvm that can be opened')
        return 77
    os.environ['ASAN_OPTIONS'] = 'abort_on_error=1'
    os.environ['UBSAN_OPTIONS'] = 'abort_on_error=1:print_stacktrace=1'
    os.environ['TSAN_OPTIONS'] = 'abort_on_error=1:halt_on_error=1'
    tap = Tap()
    end = time.monotonic() + int(os.environ.get('HAMMER_SECONDS', '30'))
    machines = 0
    while time.monotonic() < end and not tap.failures:
        now = int(seed) if seed else random.randrange(1, 10**9)
        wrong = life(bhyve, payload, now, min(
            LIFE, max(1, end - time.monotonic())))
        machines += 1
        if wrong:
            tap.case(False, f'hostile guest, seed {now}', wrong)
    if not tap.failures:
        tap.case(True, f'{machines} machines survive a hostile guest')
    return tap.end()


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
