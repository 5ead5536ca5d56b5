#!/usr/bin/env -S python3 -B
"""Boot Linux in bhyve: see demo.sh.

usage: demo.py BHYVE GUESTS WORK
"""
import os
import shlex
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TEST = os.path.dirname(HERE)
sys.path.insert(0, TEST)

from console import Console, Failure  # noqa: E402
from linux import PROMPT, ask  # noqa: E402

TOUR = ('uname -a', 'nproc', 'head -n 1 /proc/meminfo')
BOOT_SECONDS = 60


def tour(argv):
    """Look around and switch off; everything that is said is shown."""
    console = Console(argv)
    console.show = True
    try:
        console.expect(PROMPT, BOOT_SECONDS)
        for line in TOUR:
            ask(console, line)
        console.send('poweroff -f\r')
        return console.wait(BOOT_SECONDS)
    finally:
        console.close()


def main(bhyve, guests, work):
    os.makedirs(work, exist_ok=True)
    initrd = os.path.join(work, 'initrd.gz')
    subprocess.run([f'{TEST}/initramfs.sh', initrd, f'{TEST}/linux-init'],
                   check=True)
    argv = [bhyve, '-c', '2', '-m', '512M', '-A', '-H', '-s', '0,hostbridge',
            '-s', '31,lpc', '-l', 'com1,stdio',
            '-o', f'boot.kernel={guests}/vmlinuz',
            '-o', f'boot.initrd={initrd}',
            '-o', 'boot.cmdline=console=ttyS0 quiet', 'demo']
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    hint = 'type "poweroff -f" to leave' if interactive else 'a short tour'
    print(f'{shlex.join(argv)}\n({hint})', flush=True)
    start = time.monotonic()
    if interactive:
        status = os.spawnv(os.P_WAIT, bhyve, argv)
    else:
        status = tour(argv)
    print(f'bhyve exited with {status}, powered off, after '
          f'{time.monotonic() - start:.0f} s' if status == 1 else
          f'bhyve exited with {status}')
    return 0 if status == 1 else 1


if __name__ == '__main__':
    try:
        sys.exit(main(*sys.argv[1:]))
    except Failure as failure:
        sys.exit(f'demo: {failure}')
