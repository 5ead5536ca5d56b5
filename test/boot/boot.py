#!/usr/bin/env -S python3 -B
"""Kernels that nobody has changed, booted by bhyve as a user would.

Each boot has a name and can be made alone.  GUESTS is the directory that
fetch.sh fills; what the guests say is kept in WORK.

usage: boot.py [-E ENGINE] [-o OPTION]... BHYVE GUESTS WORK [NAME]...
"""
import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TEST = os.path.dirname(HERE)
sys.path.insert(0, TEST)

from console import Console, Failure  # noqa: E402
from linux import (BUSY, BUSY_CLOCK, CLOCK, IDLE,  # noqa: E402
                   PROMPT, ask, complaints, judge)
from tap import Tap  # noqa: E402

MEASURED = 'Fast TSC calibration using PIT'

BOOT_SECONDS = 180
END_SECONDS = 60
PASS_SECONDS = 900


class Boot:
    """One guest and its console."""

    def __init__(self, options, tap, name):
        self.options = options
        self.tap = tap
        self.name = name
        self.console = None
        self.start = time.monotonic()

    def case(self, passed, label, why=''):
        return self.tap.case(passed, f'{self.name}: {label}', why)

    def reached(self, what):
        self.case(True, what)
        self.tap.note(f'after {time.monotonic() - self.start:.1f} s')

    def guest(self, file):
        return os.path.join(self.options.guests, file)

    def initramfs(self, busybox, *modules):
        """Made afresh: it takes no time."""
        path = os.path.join(self.options.work, f'{self.name}.cpio.gz')
        subprocess.run(
            [f'{TEST}/initramfs.sh',
             *(['-b', self.guest(busybox)] if busybox else []),
             path, f'{TEST}/linux-init',
             *(f"{self.guest(m)}=lib/modules/{m}" for m in modules)],
            check=True)
        return path

    def run(self, kernel, cpus, memory, cmdline, *settings):
        argv = [self.options.bhyve, '-c', str(cpus), '-m', memory, '-A', '-H',
                '-s', '0,hostbridge', '-s', '31,lpc', '-l', 'com1,stdio']
        for setting in (f'engine={self.options.engine}',
                        f'boot.kernel={self.guest(kernel)}',
                        f'boot.cmdline={cmdline}', *settings,
                        *self.options.option):
            argv += ['-o', setting]
        log = os.path.join(self.options.work, f'{self.name}.log')
        self.start = time.monotonic()
        self.console = Console(argv + [self.name], log)

    def ends(self, status, label):
        got = self.console.wait(END_SECONDS)
        self.case(got == status, f'{label}: exit status {status}',
                  f'exit status {got}\n{self.console.history[-2000:]}')


def linux(boot, kernel, cpus, busybox=None, cmdline='', modules=(),
          settings=()):
    boot.run(kernel, cpus, '512M',
             f'console=ttyS0 earlyprintk=ttyS0,115200 {cmdline}',
             f'boot.initrd={boot.initramfs(busybox, *modules)}', *settings)


def shell(boot, kernel, cpus, busybox=None):
    """To a shell, where everything is looked at, and off."""
    linux(boot, kernel, cpus, busybox)
    boot.console.expect(PROMPT, BOOT_SECONDS)
    boot.reached('a shell')
    measured = MEASURED in boot.console.history
    judge(boot.console, cpus, boot.case,
          BUSY if measured else BUSY_CLOCK)
    # The kernel takes a second to make up its mind.
    ask(boot.console, 'stty cols 500')
    ask(boot.console, f'for i in $(seq 50); do grep -q tsc-early {CLOCK} || '
        'break; sleep 0.1; done')
    answer = ask(boot.console, f'cat {CLOCK}')
    if measured or answer == 'tsc\n':
        boot.case(answer == 'tsc\n', 'its clock is the TSC', answer)
    else:
        boot.tap.skip(f'{boot.name}: its clock is the TSC',
                      'the host was too busy for the guest to measure it')
    boot.console.send('poweroff -f\r')
    boot.ends(1, 'powers off through ACPI')


def reboot(boot, kernel, cpus, cmdline, status, label):
    linux(boot, kernel, cpus, cmdline=cmdline)
    boot.console.expect(PROMPT, BOOT_SECONDS)
    boot.console.send('reboot -f\r')
    boot.ends(status, label)


def button(boot, kernel, cpus):
    linux(boot, kernel, cpus, None, 'idle', ('button.ko', 'evdev.ko'))
    boot.console.expect(IDLE, BOOT_SECONDS)
    time.sleep(1)   # until its shells have opened the button
    boot.console.child.send_signal(signal.SIGTERM)
    boot.ends(1, 'SIGTERM is its power button')


def card(boot, kernel, cmdline, pattern):
    """A serial port behind PCI: bytes both ways, by interrupts of its pin."""
    path = os.path.join(boot.options.work, f'{boot.name}.socket')
    linux(boot, kernel, 2, cmdline=f'8250.nr_uarts=8 {cmdline}', settings=(
        'pci.0.4.0.device=dummy', 'pci.0.4.1.device=uart',
        f'pci.0.4.1.path=socket,{path}', 'pci.3.0.0.device=dummy'))
    boot.console.expect(PROMPT, BOOT_SECONDS)
    boot.reached('a shell')
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(path)
        for command in ('exec 3<>/dev/ttyS4', 'stty raw -echo <&3',
                        'echo ping >&3'):
            ask(boot.console, command)
        got = b''
        while b'\n' not in got:
            got += peer.recv(64)
        boot.case(got == b'ping\n', 'a line comes out', repr(got))
        peer.sendall(b'pong\n')
        answer = ask(boot.console, 'head -n 1 <&3')
        boot.case(answer == 'pong\n', 'and one goes in', answer)
    answer = ask(boot.console, 'cat /proc/interrupts')
    boot.case(re.search(pattern, answer), 'its interrupts arrive', answer)
    answer = ask(boot.console, 'ls /sys/bus/pci/devices')
    boot.case(answer.split() == ['0000:00:00.0', '0000:00:04.0',
                                 '0000:00:04.1', '0000:00:1f.0',
                                 '0000:03:00.0'],
              'every function is found', answer)
    bad = complaints(boot.console, BUSY_CLOCK)
    boot.case(not bad, 'the kernel complains of nothing', bad)
    boot.console.send('poweroff -f\r')
    boot.ends(1, 'powers off')


def memtest(boot):
    """One pass over a small memory, by two processors; it would go on."""
    boot.run('memtest86+.bin', 2, '32M', 'console=ttyS0,115200')
    boot.console.expect(r'Memtest86\+ v6', BOOT_SECONDS)
    boot.reached('its screen')
    match = boot.console.expect(r'Pass: +[1-9]\d* +Errors: (\d+)',
                                PASS_SECONDS)
    boot.reached('a full pass')
    boot.case(match.group(1) == '0', 'no errors', match.group())


XEN = 'console=com1 com1=115200,8n1'


def xen(boot):
    """A Multiboot kernel, which without a module has nothing to run."""
    boot.run('xen', 2, '512M', XEN)
    boot.console.expect(r'^\(XEN\) Xen version', BOOT_SECONDS)
    boot.reached('the banner')
    boot.console.expect('dom0 kernel not specified', BOOT_SECONDS)
    boot.reached('it misses its dom0')
    boot.ends(0, 'and reboots')


def xen_dom0(boot):
    """With a Linux kernel in its care, which sees itself as a guest of Xen.
    What follows the first word of a module's name is its command line."""
    kernel = os.path.join(boot.options.work, 'vmlinuz console=hvc0')
    if not os.path.lexists(kernel):
        os.symlink(os.path.abspath(boot.guest('vmlinuz-amd64')), kernel)
    boot.run('xen', 2, '512M', XEN,
             f'boot.modules={kernel},{boot.initramfs(None)}')
    boot.console.expect(PROMPT, BOOT_SECONDS)
    boot.reached('a shell in dom0')
    answer = ask(boot.console, 'nproc')
    boot.case(answer == '2\n', 'dom0 has 2 virtual processors', answer)
    boot.console.send('poweroff -f\r')
    boot.ends(1, 'powers off')


I386 = 'busybox-i386'

# Name: what fetch.sh fetches for it, and the function and its arguments.
BOOTS = {
    'cloud-1': ('cloud', shell, 'vmlinuz', 1),
    'cloud-2': ('cloud', shell, 'vmlinuz', 2),
    'cloud-4': ('cloud', shell, 'vmlinuz', 4),
    'cloud-reboot': ('cloud', reboot, 'vmlinuz', 2, '', 0, 'a reboot'),
    'cloud-triple': ('cloud', reboot, 'vmlinuz', 2, 'reboot=t', 3,
                     'a triple fault'),
    'cloud-button': ('cloud', button, 'vmlinuz', 2),
    'cloud-pci': ('cloud', card, 'vmlinuz', '',
                  r' 17: +[1-9].* IO-APIC +17-fasteoi +ttyS4'),
    'cloud-pci-pic': ('cloud', card, 'vmlinuz', 'noapic',
                      r'  6: +[1-9].* XT-PIC +ttyS4'),
    'amd64-1': ('amd64', shell, 'vmlinuz-amd64', 1),
    'amd64-2': ('amd64', shell, 'vmlinuz-amd64', 2),
    'amd64-4': ('amd64', shell, 'vmlinuz-amd64', 4),
    '686-1': ('686', shell, 'vmlinuz-686', 1, I386),
    '686-2': ('686', shell, 'vmlinuz-686', 2, I386),
    '686-pae-1': ('686-pae', shell, 'vmlinuz-686-pae', 1, I386),
    '686-pae-2': ('686-pae', shell, 'vmlinuz-686-pae', 2, I386),
    'xen': ('xen', xen),
    'xen-dom0': ('xen amd64', xen_dom0),
    'memtest': ('memtest', memtest),
}


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split('usage: ')[1])
    parser.add_argument('-E', dest='engine', default='jit')
    parser.add_argument('-o', dest='option', action='append', default=[])
    parser.add_argument('bhyve')
    parser.add_argument('guests')
    parser.add_argument('work')
    parser.add_argument('names', nargs='*')
    options = parser.parse_args()
    unknown = set(options.names) - set(BOOTS)
    if unknown:
        parser.error(f"no such boot: {' '.join(sorted(unknown))}")
    os.makedirs(options.work, exist_ok=True)

    tap = Tap()
    for name in options.names or BOOTS:
        sets, function, *args = BOOTS[name]
        subprocess.run([f'{TEST}/fetch.sh', options.guests, *sets.split()],
                       check=True)
        boot = Boot(options, tap, name)
        try:
            function(boot, *args)
        except Failure as failure:
            boot.case(False, str(failure),
                      f'exit status {boot.console.child.poll()}\n'
                      f'{boot.console.history[-4000:]}')
        finally:
            if boot.console:
                boot.console.close()
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
