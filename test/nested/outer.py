"""The outer machine: QEMU emulates a processor with SVM, on which a Debian
kernel gives /dev/kvm real hardware semantics.  Slow, and true.

It has three processors, and everything that makes guests runs on the last two
(outer-init).  QEMU has a race over the first: whenever any processor loads an
x87 status word (FXRSTOR, XRSTOR: every switch of threads, every KVM_RUN),
cpu_clear_ignne() in target/i386/tcg/sysemu/fpu_helper.c does

    first_cpu->hflags2 &= ~HF2_IGNNE_MASK

without a lock, from that processor's thread.  The same word holds the first
processor's GIF, and whether it translates addresses by nested page tables; SVM
changes both at each entry to a guest and each exit.  A change lost to the race
is a guest without its nested page tables, which ends in a triple fault, or the
outer kernel with the guest's, which dies, or interrupts that are off for good.
Guests on two processors met it once in about fifty boots of Linux, and none of
eight boots on the first survived a loop of FXRSTOR on the second.  The word of
a processor that never enters a guest never changes: there is nothing to lose.
QEMU 7.2 has it, and its master of 2026 still.
"""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TEST = os.path.dirname(HERE)
sys.path.insert(0, TEST)

from console import Console, Failure  # noqa: E402


def run(*argv):
    subprocess.run(argv, check=True)


class Outer:
    """files: {path on this host: path inside}."""

    def __init__(self, work, guests, files, log=None):
        os.makedirs(work, exist_ok=True)
        initramfs = os.path.join(work, 'outer.cpio.gz')
        specs = [f'{guests}/{m}.ko=lib/modules/{m}.ko'
                 for m in ('irqbypass', 'kvm', 'kvm-amd')]
        specs += [f'{host}={inside}' for host, inside in files.items()]
        run(f'{TEST}/initramfs.sh', initramfs, f'{HERE}/outer-init', *specs)
        self.serial = 0
        self.console = Console(
            ['qemu-system-x86_64', '-M', 'q35', '-accel', 'tcg,thread=multi',
             '-cpu', 'max,+svm', '-smp', '3', '-m', '2560', '-nodefaults',
             '-display', 'none', '-serial', 'stdio', '-no-reboot',
             '-kernel', f'{guests}/vmlinuz', '-initrd', initramfs,
             '-append', 'console=ttyS0 quiet panic=-1 loglevel=1'], log)

    def boot(self):
        self.console.expect('^OUTER READY$', 90)

    def start(self, command):
        """Type a command; its status will be told by finish()."""
        self.serial += 1
        self.console.send(f'{command}; echo "@$?@{self.serial}@"\n')

    def finish(self, seconds):
        """The exit status, and the output since the last expect()."""
        match = self.console.expect(rf'@(\d+)@{self.serial}@\n', seconds)
        return int(match.group(1)), match.string[:match.start()]

    def run(self, command, seconds):
        self.start(f'{{ {command}; }} </dev/null 2>&1')
        return self.finish(seconds)

    def close(self):
        self.console.close()


__all__ = ['Outer', 'Console', 'Failure', 'run']
