#!/usr/bin/env -S python3 -B
"""The tests that programs bring along, in a guest, and the same natively.

A suite is a shell script here.  What it says on its standard output and its
exit status have to be the same in the guest as in a chroot of the same files;
of a suite that says no more than whether it is content, only a status of 0 in
the guest counts.  GUESTS is the directory that fetch.sh fills; what is made
from Debian's packages, and what the guest says, is kept in WORK.

Without a NAME all suites run; "check" stands for the quick ones.

usage: suites.py [-E ENGINE] [-c CPUS] [-k KERNEL] [-m MINUTES] [-o OPTION]...
                 BHYVE GUESTS WORK [NAME]...
"""
import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TEST = os.path.dirname(HERE)
sys.path.insert(0, TEST)

from console import Console, Failure  # noqa: E402
from linux import PROMPT, ask  # noqa: E402
from tap import Tap  # noqa: E402

MEMORY = '3G'
BOOT_SECONDS = 180
END_SECONDS = 60
SLACK_SECONDS = 60

# Name: the seconds that it may take in a guest, and whether it is compared.
SUITES = {
    'registers': (600, True),
    'openssl': (900, True),
    'digests': (300, True),
    'gcc': (600, True),
    'sqlite': (300, True),
    'perl': (300, True),
    'compress': (600, True),
    'kernel': (900, False),
    'glibc': (3600, True),
    'python': (3600, True),
    'speed': (300, False),
    'stress': (300, False),
}
CHECK = ('registers', 'digests', 'gcc', 'sqlite', 'perl')


class Answer:
    """What run.sh said."""

    def __init__(self, text):
        self.said = []
        self.complaints = []
        self.status = None
        for line in text.split('\n'):
            end = re.fullmatch(r'status (\d+)', line)
            if end:
                self.status = int(end.group(1))
            elif line.startswith('! '):
                self.complaints.append(line)
            elif line:
                self.said.append(line)


def command(options, name):
    seconds = SUITES[name][0] + int(60 * options.minutes)
    return f'sh /suites/run.sh {name} {seconds} {options.minutes:g}'


def natively(options, root, name):
    """In a chroot, with mounts and processes of its own."""
    script = (f'mount --rbind /dev {root}/dev && '
              f'mount -t tmpfs tmp {root}/tmp && '
              f'mount -t proc proc {root}/proc && '
              f'exec chroot {root} {command(options, name)}')
    user = [] if os.geteuid() == 0 else ['--map-root-user']
    done = subprocess.run(['unshare', *user, '--mount', '--pid', '--fork',
                           '--kill-child', 'sh', '-c', script],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    return Answer(done.stdout.decode('ascii', 'replace'))


def install(root):
    """What is in this directory, to /suites of the tree."""
    place = os.path.join(root, 'suites')
    shutil.rmtree(place, ignore_errors=True)
    os.mkdir(place)
    for name in os.listdir(HERE):
        if name.endswith(('.sh', '.c')):
            shutil.copy(os.path.join(HERE, name), place)
    shutil.copy(os.path.join(HERE, 'init'), root)


def initramfs(work, root):
    """Two archives in one file: the tree is large and seldom changes."""
    path = os.path.join(work, 'suites.cpio')
    ours = subprocess.run(
        'find init suites | cpio -o -H newc --quiet -R 0:0', shell=True,
        cwd=root, check=True, stdout=subprocess.PIPE).stdout
    shutil.copyfile(os.path.join(work, 'root.cpio'), path)
    with open(path, 'ab') as file:
        file.write(ours)
    return path


def boot(options, initrd):
    argv = [options.bhyve, '-c', str(options.cpus), '-m', MEMORY, '-A', '-H',
            '-s', '0,hostbridge', '-s', '31,lpc', '-l', 'com1,stdio']
    for setting in (f'engine={options.engine}',
                    f'boot.kernel={options.guests}/{options.kernel}',
                    f'boot.initrd={initrd}',
                    'boot.cmdline=console=ttyS0 quiet', *options.option):
        argv += ['-o', setting]
    return Console(argv + ['suites'], os.path.join(options.work, 'guest.log'))


def judge(tap, name, got, want):
    """One case; why not, if it fails."""
    if want is None:
        return tap.case(got.status == 0, name, '\n'.join(
            [f'status {got.status}', *got.complaints]))
    same = (got.said, got.status) == (want.said, want.status)
    difference = difflib.unified_diff(want.said, got.said, 'native', 'guest',
                                      lineterm='', n=0)
    return tap.case(same and got.status == 0, name, '\n'.join(
        [f'status {got.status}, natively {want.status}',
         *list(difference)[:60], *got.complaints]))


def suite(options, tap, console, root, name):
    seconds, compared = SUITES[name]
    start = time.monotonic()
    got = Answer(ask(console, command(options, name), seconds +
                     60 * options.minutes + SLACK_SECONDS))
    middle = time.monotonic()
    want = natively(options, root, name) if compared else None
    judge(tap, name, got, want)
    tap.note(f'{middle - start:.1f} s' + (
        f', natively {time.monotonic() - middle:.1f} s' if compared else ''))


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split('usage: ')[1])
    parser.add_argument('-E', '--engine', default='jit')
    parser.add_argument('-c', '--cpus', type=int, default=2)
    parser.add_argument('-k', '--kernel', default='vmlinuz')
    parser.add_argument('-m', '--minutes', type=float, default=10)
    parser.add_argument('-o', dest='option', action='append', default=[])
    parser.add_argument('bhyve')
    parser.add_argument('guests')
    parser.add_argument('work')
    parser.add_argument('names', nargs='*')
    options = parser.parse_args()
    names = options.names or list(SUITES)
    if names == ['check']:
        names = CHECK
        options.minutes = 0
    unknown = set(names) - set(SUITES)
    if unknown:
        parser.error(f"no such suite: {' '.join(sorted(unknown))}")

    options.bhyve = os.path.abspath(options.bhyve)
    options.work = os.path.abspath(options.work)
    subprocess.run([f'{TEST}/fetch.sh', options.guests], check=True)
    subprocess.run([f'{HERE}/root.sh', options.work], check=True)
    root = os.path.join(options.work, 'root')
    install(root)
    tap = Tap()
    console = boot(options, initramfs(options.work, root))
    try:
        start = time.monotonic()
        console.expect(PROMPT, BOOT_SECONDS)
        tap.note(f'a shell after {time.monotonic() - start:.1f} s')
        for name in names:
            suite(options, tap, console, root, name)
        complaints = re.findall(
            r'.*(?:BUG|WARNING|Call Trace|stall|lockup).*',
            ask(console, 'dmesg'))
        tap.case(not complaints, "the guest's kernel complains of nothing",
                 '\n'.join(complaints))
        console.send('echo o >/proc/sysrq-trigger\r')
        status = console.wait(END_SECONDS)
        tap.case(status == 1, 'it powers off', f'exit status {status}')
    except Failure as failure:
        tap.case(False, str(failure), f'exit status {console.child.poll()}\n'
                 f'{console.history[-4000:]}')
    finally:
        console.close()
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
