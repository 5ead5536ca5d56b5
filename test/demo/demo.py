#!/usr/bin/env -S python3 -B
"""Boot Linux in bhyve: see demo.sh.

usage: demo.py BHYVE GUESTS WORK
"""
import os
import re
import select
import shlex
import sys
import termios
import time
import tty

HERE = os.path.dirname(os.path.abspath(__file__))
TEST = os.path.dirname(HERE)
sys.path[:0] = [TEST, os.path.join(TEST, 'nested')]

from console import Console, Failure  # noqa: E402
from outer import Outer, run  # noqa: E402

PROMPT = r'guest# (?:\x1b\[6n)?$'
TOUR = ('uname -a', 'nproc', 'head -n 1 /proc/meminfo')


def have_virtualization():
    with open('/proc/cpuinfo', encoding='ascii') as info:
        flags = re.search(r'^flags.*$', info.read(), re.MULTILINE)
    return (os.access('/dev/kvm', os.R_OK | os.W_OK) and
            bool(re.search(r'\b(vmx|svm)\b', flags.group())))


def command(bhyve, kernel, initrd, extra):
    return [bhyve, '-c', '2', '-m', '512M', '-A', '-H', '-s', '0,hostbridge',
            '-s', '31,lpc', '-l', 'com1,stdio', '-o', f'boot.kernel={kernel}',
            '-o', f'boot.initrd={initrd}',
            '-o', f'boot.cmdline=console=ttyS0 quiet{extra}', 'demo']


def tour(console):
    """Look around and switch off; everything that is said is shown."""
    for line in TOUR:
        console.send(line + '\r')
        console.expect(re.escape(line) + r'\n', 20)
        console.expect(PROMPT, 60)
    console.send('poweroff -f\r')


def talk(console, done):
    """Pass keys on until the pattern `done` comes."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal)
    try:
        while True:
            ready = select.select([terminal, console.fd], [], [])[0]
            if terminal in ready:
                console.send(os.read(terminal, 1024).decode('latin-1'))
            if console.fd in ready:
                try:
                    return console.expect(done, 0)
                except Failure:
                    if console.child.poll() is not None:
                        raise
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def nested(bhyve, guests, work, initrd, interactive):
    """The same inside the outer machine.  bhyve's exit status."""
    outer = Outer(work, guests,
                  {bhyve: 'bin/bhyve', initrd: 'inner.cpio.gz',
                   os.path.join(guests, 'vmlinuz'): 'vmlinuz'})
    try:
        outer.boot()
        outer.console.show = True
        outer.console.hide = rb'@\d+@\d+@\r*\n'
        outer.console.hold = rb'@[\d@]*\r*$'
        outer.start(shlex.join(command(
            'bhyve', '/vmlinuz', '/inner.cpio.gz', ' noxsave')))
        if interactive:
            return int(talk(outer.console, r'@(\d+)@1@').group(1))
        outer.console.expect(PROMPT, 180)
        tour(outer.console)
        return outer.finish(60)[0]
    finally:
        outer.close()


def main(bhyve, guests, work):
    os.makedirs(work, exist_ok=True)
    initrd = os.path.join(work, 'inner.cpio.gz')
    run(f'{TEST}/initramfs.sh', initrd, f'{TEST}/nested/inner-init')
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    hint = 'type "poweroff -f" to leave' if interactive else 'a short tour'
    start = time.monotonic()
    if have_virtualization():
        argv = command(bhyve, os.path.join(guests, 'vmlinuz'), initrd, '')
        print(f'{shlex.join(argv)}\n({hint})', flush=True)
        if interactive:
            status = os.spawnv(os.P_WAIT, bhyve, argv)
        else:
            console = Console(argv)
            console.show = True
            console.expect(PROMPT, 60)
            tour(console)
            status = console.wait(60)
    else:
        print('No hardware virtualization here: bhyve runs on a processor '
              f'that QEMU emulates, slowly ({hint}).', flush=True)
        status = nested(bhyve, guests, work, initrd, interactive)
    print(f'bhyve exited with {status}, powered off, after '
          f'{time.monotonic() - start:.0f} s' if status == 1 else
          f'bhyve exited with {status}')
    return 0 if status == 1 else 1


if __name__ == '__main__':
    try:
        sys.exit(main(*sys.argv[1:]))
    except Failure as failure:
        sys.exit(f'demo: {failure}')
