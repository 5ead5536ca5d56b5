#!/usr/bin/env -S python3 -B
"""The KVM engine on a processor with real virtualization semantics: everything
here runs inside the outer machine of outer.py.

usage: nested.py WORK BHYVE JUDGE IDLE [PROGRAM]...
                 [--payload NAME OPTIONS FILE]...

IDLE is a payload that sleeps; PROGRAMs are unit tests, which must exit with 0.
"""
import os
import subprocess
import sys

from outer import Failure, Outer, TEST, run

sys.path.insert(0, TEST)
from linux import IDLE, PROMPT, judge  # noqa: E402
from tap import Tap  # noqa: E402

ROOT = os.path.dirname(TEST)
GUESTS = os.path.join(ROOT, 'build', 'guests')
HERE = os.path.dirname(os.path.abspath(__file__))

# Payloads that show a fault of the emulated processor, not of ours.
NOT_HERE = {
    'limits': "QEMU's processor does not check the limits of data segments",
}

# noxsave: QEMU 7.2 executes a guest's XSETBV behind KVM's back.
BHYVE = ('bhyve -c 2 -m 512M -A -H -s 0,hostbridge -s 31,lpc '
         '-l com1,{com1} -o boot.kernel=/vmlinuz -o boot.initrd=/inner.cpio.gz '
         '-o "boot.cmdline=console=ttyS0 quiet noxsave {cmdline}" vm0')
BOOT_SECONDS = 100

# Exits from a guest are too slow here to measure the TSC by.
FORGIVEN = r'\] (tsc: |Unstable clock detected)'

# Processor time of all threads in ns, and KiB resident that are no memfd.
CPU_NS = "cat /proc/$pid/task/*/schedstat | awk '{n += $1} END {print n}'"
OWN_KIB = ("awk '/^[0-9a-f]+-[0-9a-f]+ /{g = /memfd:/} "
           "/^Rss:/ && !g {n += $2} END {print n}' /proc/$pid/smaps")
IDLE_SECONDS = 10


# A machine that is there all the while.  The outer kernel patches __schedule()
# when the first machine of all is made and when the last one goes (static key
# preempt_notifier_key), by way of a breakpoint.  QEMU 7.2 may translate that on
# one processor just when another takes it from memory, and keep the result:
# tb_gen_code() reads without the lock that the write's invalidation takes.
# Then each processor that schedules runs into a breakpoint that is not there,
# is sent back to it, and so for ever: 2 of 43 boots without this machine stood
# still, 0 of 105 with it.
HOLD = ('bhyve -c 2 -m 64M -H -o boot.kernel=/idle hold '
        '>/tmp/hold.log 2>&1 & :')


class Ended(Exception):
    """The guest is gone, but the outer machine takes the next command."""


class Nested:
    def __init__(self, outer, tap):
        self.outer = outer
        self.tap = tap

    def unit(self, name):
        status, output = self.outer.run(f'timeout -s KILL 90 {name}', 100)
        self.tap.case(status == 0, f'unit test {name}', output)

    def payload(self, name, options):
        if name in NOT_HERE:
            self.tap.skip(f'payload {name}', NOT_HERE[name])
            return
        status, output = self.outer.run(
            f'judge -t 60 {options} /payloads/{name}', 90)
        self.tap.case(status == 0, f'payload {name}', output)

    def start_linux(self, cmdline=''):
        self.outer.start(BHYVE.format(com1='stdio', cmdline=cmdline))
        match = self.outer.console.expect(rf'{PROMPT}|@(\d+)@\d+@\n',
                                          BOOT_SECONDS)
        if match.group(1):
            raise Ended(f'bhyve exited with {match.group(1)} before the prompt')

    def linux_shell(self):
        console = self.outer.console
        self.start_linux()
        self.tap.case(True, 'Linux boots to a shell on com1')
        judge(console, 2, self.tap.case, FORGIVEN)
        console.send('poweroff -f\r')
        status, answer = self.outer.finish(60)
        self.tap.case(status == 1, 'powers off through ACPI: exit status 1',
                      f'{status}\n{answer}')

    def linux_end(self, cmdline, status, label):
        self.start_linux(cmdline)
        self.outer.console.send('reboot -f\r')
        got, answer = self.outer.finish(60)
        self.tap.case(got == status, label, f'{got}\n{answer}')

    def linux_idle(self):
        def number(command):
            return int(self.outer.run(command, 20)[1].split()[-1])

        command = BHYVE.format(com1='pty,/tmp/com1', cmdline='idle')
        self.outer.run(f'{command} >/tmp/idle.log 2>&1 & pid=$!', 5)
        status, answer = self.outer.run(
            'until [ -e /tmp/com1 ]; do usleep 100000; done; '
            f'timeout 180 grep -qm1 "{IDLE}" /tmp/com1; '
            'ok=$?; sleep 10; (exit $ok)', BOOT_SECONDS + 30)
        if not self.tap.case(status == 0, 'Linux boots and idles', answer):
            return
        used = number(CPU_NS)
        self.outer.run(f'sleep {IDLE_SECONDS}', IDLE_SECONDS + 20)
        cpu = (number(CPU_NS) - used) / 1e7 / IDLE_SECONDS
        own = number(OWN_KIB)
        self.tap.note(f'2 idle vCPUs: {cpu:.2f} % of an emulated core; '
                      f"{own} KiB beside the guest's memory")
        self.tap.case(own < 10240, "less than 10 MiB beside the guest's")
        self.outer.run('kill -TERM $pid', 5)
        status, answer = self.outer.run('wait $pid', 60)
        self.tap.case(status == 1, 'SIGTERM is its power button: exit status 1',
                      f'{status}\n{answer}')


def main(argv):
    work, bhyve, judge, idle, *rest = argv
    programs, payloads = [], []
    while rest:
        word = rest.pop(0)
        if word == '--payload':
            payloads.append(rest[:3])
            del rest[:3]
        else:
            programs.append(word)
    os.makedirs(work, exist_ok=True)
    run(os.path.join(TEST, 'fetch.sh'), GUESTS)
    inner = os.path.join(work, 'inner.cpio.gz')
    run(os.path.join(TEST, 'initramfs.sh'), inner,
        os.path.join(TEST, 'linux-init'),
        *(f'{GUESTS}/{name}.ko=lib/modules/{name}.ko'
          for name in ('button', 'evdev')))
    files = {bhyve: 'bin/bhyve', judge: 'bin/judge', inner: 'inner.cpio.gz',
             idle: 'idle',
             os.path.join(GUESTS, 'vmlinuz'): 'vmlinuz'}
    files |= {path: f'bin/{os.path.basename(path)}' for path in programs}
    files |= {path: f'payloads/{name}' for name, _, path in payloads}

    tap = Tap()
    run_all(work, files, payloads, programs, tap)
    return tap.end()


def run_all(work, files, payloads, programs, tap):
    outer = Outer(work, GUESTS, files, os.path.join(work, 'outer.log'))
    nested = Nested(outer, tap)
    try:
        outer.boot()
        status, answer = outer.run('test -c /dev/kvm && dmesg | grep SVM', 20)
        tap.case(status == 0, 'KVM with SVM', answer)
        outer.run(HOLD, 10)
        for name, options, _ in payloads:
            nested.payload(name, options)
        for step, *args in (
                (nested.linux_shell,),
                (nested.linux_end, '', 0, 'a reboot: exit status 0'),
                (nested.linux_end, 'reboot=t', 3,
                 'a triple fault: exit status 3'),
                (nested.linux_idle,)):
            try:
                step(*args)
            except Ended as ended:
                tap.case(False, f'Linux: {ended}',
                         outer.console.history[-4000:])
        for path in programs:
            nested.unit(os.path.basename(path))
    except Failure as failure:
        tap.case(False, str(failure), outer.console.history[-4000:])
    finally:
        outer.close()


if __name__ == '__main__':
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        print(f'1..1\nnot ok 1 - {error}')
        sys.exit(1)
