"""The outer machine: QEMU emulates a processor with SVM, on which a Debian
kernel gives /dev/kvm real hardware semantics.  Slow, and true."""
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
             '-cpu', 'max,+svm', '-smp', '2', '-m', '2560', '-nodefaults',
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
        match = self.console.expect(
            rf'(?s)(.*?)@(\d+)@{self.serial}@\n', seconds)
        return int(match.group(2)), match.group(1)

    def run(self, command, seconds):
        self.start(f'{{ {command}; }} </dev/null 2>&1')
        return self.finish(seconds)

    def close(self):
        self.console.close()


__all__ = ['Outer', 'Console', 'Failure', 'run']
