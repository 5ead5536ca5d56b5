#!/usr/bin/env python3
"""How bhyve ends: exit statuses, signals, and the terminal afterwards.

	life_test.py BHYVE

Each case boots a few bytes of machine code with com1 on a terminal.  Prints
TAP; exits 77 where there is no /dev/kvm.
"""
import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time

sys.dont_write_bytecode = True
from cli_test import multiboot  # noqa: E402

SPIN = b'\xf3\x90\xeb\xfc'                      # pause; jmp
READY = b'\x66\xba\xf8\x03\xb0R\xee'            # out 0x3f8, 'R'
POWEROFF = (b'\x66\xba\x04\x04'                 # mov dx, PM1_CNT
            b'\x66\xb8\x00\x34\x66\xef')        # S5, SLP_EN; out dx, ax
RESET = b'\x66\xba\xf9\x0c\xb0\x06\xee'         # out 0xcf9, 6
HALT = b'\xfa\xf4'                              # cli; hlt
TRIPLE = b'\x0f\x01\x1d\0\0\0\0\x0f\x0b'        # lidt [0], all zeros; ud2
NOBODY = b'\x66\xba\x00\x03\xec'                # in al, 0x300
ACPI_ON = b'\xb0\xa0\xe6\xb2'                   # out SMI_CMD, ACPI_ENABLE
ACPI_OFF = b'\xb0\xa1\xe6\xb2'
WAIT_BUTTON = (b'\x66\xba\x00\x04\x66\xed'      # mov dx, PM1_STS; in ax, dx
               b'\xf6\xc4\x01\x74\xf9')         # test ah, 1; jz -7
WAIT_CTRL_C = (b'\x66\xba\xfd\x03\xec'          # mov dx, LSR; in al, dx
               b'\xa8\x01\x74\xf7'              # test al, 1; jz -9
               b'\x66\xba\xf8\x03\xec'          # mov dx, RBR; in al, dx
               b'\x3c\x03\x75\xee')             # cmp al, 3; jne -18

TIMEOUT = 60


class Guest:
    """bhyve with a controlling terminal, which is also com1."""

    def __init__(self, bhyve, directory, code, options=(), ignore=None):
        kernel = os.path.join(directory, 'kernel')
        with open(kernel, 'wb') as file:
            file.write(multiboot(code + SPIN))
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)

        def in_child():
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
            if ignore is not None:
                signal.signal(ignore, signal.SIG_IGN)

        self.child = subprocess.Popen(
            [bhyve, '-H', '-m', '16M', '-s', '0,hostbridge', '-s', '31,lpc',
             '-l', 'com1,stdio', '-o', 'engine=kvm',
             '-o', 'boot.kernel=' + kernel, *options, 'life'],
            stdin=self.slave, stdout=self.slave, stderr=subprocess.PIPE,
            text=True, preexec_fn=in_child)

    def wait_ready(self):
        """The guest has said that it runs."""
        deadline = time.monotonic() + TIMEOUT
        said = b''
        while b'R' not in said:
            left = deadline - time.monotonic()
            if left < 0 or not select.select([self.master], [], [], left)[0]:
                raise TimeoutError(f'the guest said {said!r}')
            said += os.read(self.master, 100)

    def end(self):
        """Exit status, standard error, and whether the terminal is intact."""
        try:
            said = self.child.communicate(timeout=TIMEOUT)[1]
        finally:
            self.child.kill()
            self.child.wait()
        intact = termios.tcgetattr(self.slave) == self.before
        os.close(self.master)
        os.close(self.slave)
        return self.child.returncode, said, intact


def powers_off(run):
    return run(POWEROFF).end(), 1, ''


def resets(run):
    return run(RESET).end(), 0, ''


def halts(run):
    return run(HALT).end(), 2, ''


# On the engine that knows where it was whatever the host is.
def faults_thrice(run):
    return (run(TRIPLE, ['-o', 'engine=jit']).end(), 3,
            'vCPU 0: triple fault; rip 0x100027, cs 0x10 base 0, rsp 0, '
            'cr0 0x11, cr2 0, cr3 0, cr4 0, efer 0, '
            'idt 0x5000000 limit 0x500\n')


def nobody_answers(run):
    return (run(NOBODY, ['-e']).end(), 4, 'bhyve: Unhandled inb 0x0300\n')


def nobody_minds(run):
    return run(NOBODY + POWEROFF).end(), 1, ''


def ctrl_c_is_the_guests(run):
    guest = run(READY + WAIT_CTRL_C + POWEROFF)
    guest.wait_ready()
    os.write(guest.master, b'x\x03')
    return guest.end(), 1, ''


def sigterm_is_the_power_button(run):
    guest = run(ACPI_ON + READY + WAIT_BUTTON + POWEROFF)
    guest.wait_ready()
    guest.child.send_signal(signal.SIGTERM)
    return guest.end(), 1, ''


def sigterm_without_acpi(run):
    guest = run(READY)
    guest.wait_ready()
    guest.child.send_signal(signal.SIGTERM)
    return guest.end(), -signal.SIGTERM, ''


def sigterm_after_acpi(run):
    guest = run(ACPI_ON + ACPI_OFF + READY)
    guest.wait_ready()
    guest.child.send_signal(signal.SIGTERM)
    return guest.end(), -signal.SIGTERM, ''


def sigint(run):
    guest = run(ACPI_ON + READY)
    guest.wait_ready()
    guest.child.send_signal(signal.SIGINT)
    return guest.end(), -signal.SIGINT, ''


def sighup(run):
    guest = run(READY)
    guest.wait_ready()
    guest.child.send_signal(signal.SIGHUP)
    return guest.end(), -signal.SIGHUP, ''


def an_ignored_signal_stays_ignored(run):
    guest = run(READY, ignore=signal.SIGHUP)
    guest.wait_ready()
    guest.child.send_signal(signal.SIGHUP)
    guest.child.send_signal(signal.SIGTERM)
    return guest.end(), -signal.SIGTERM, ''


CASES = [powers_off, resets, halts, faults_thrice, nobody_answers,
         nobody_minds, ctrl_c_is_the_guests, sigterm_is_the_power_button,
         sigterm_without_acpi, sigterm_after_acpi, sigint, sighup,
         an_ignored_signal_stays_ignored]


def main():
    if not os.access('/dev/kvm', os.R_OK | os.W_OK):
        print('no /dev/kvm')
        return 77
    bhyve = os.path.abspath(sys.argv[1])
    failed = 0
    for number, case in enumerate(CASES, 1):
        with tempfile.TemporaryDirectory() as directory:
            problems = []
            try:
                (status, said, intact), wanted, sentence = case(
                    lambda code, options=(), ignore=None: Guest(
                        bhyve, directory, code, options, ignore))
                if status != wanted:
                    problems.append(f'exit status {status}, not {wanted}')
                if said != sentence:
                    problems.append(f'said {said!r}, not {sentence!r}')
                if not intact:
                    problems.append('the terminal is not as it was')
            except (TimeoutError, subprocess.TimeoutExpired) as error:
                problems.append(str(error))
        failed += bool(problems)
        print(f'{"not ok" if problems else "ok"} {number} - {case.__name__}')
        for problem in problems:
            print(f'# {problem}')
    print(f'1..{len(CASES)}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
