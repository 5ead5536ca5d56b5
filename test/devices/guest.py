"""A Linux guest with a device and its drivers, and what devices are fed with."""
import hashlib
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TEST = os.path.dirname(HERE)
sys.path.insert(0, TEST)

from console import Console  # noqa: E402
from linux import BUSY_CLOCK, PROMPT, ask, complaints  # noqa: E402

KERNELS = {'cloud': ('vmlinuz', 'drivers'),
           'amd64': ('vmlinuz-amd64', 'drivers-amd64')}
BOOT_SECONDS = 180
COMMAND_SECONDS = 120
END_SECONDS = 60
MIB = 1 << 20


def needs(path):
    """The modules that a module needs."""
    with open(path, 'rb') as module:
        found = re.search(rb'\0depends=([^\0]*)\0', module.read())
    return [n for n in found.group(1).decode().split(',') if n]


def run(*argv):
    subprocess.run(argv, check=True)


class Guest:
    """One boot of one case."""

    def __init__(self, options, tap, name):
        self.options = options
        self.tap = tap
        self.name = name
        self.work = os.path.join(options.work, name)
        self.console = None
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(self.work)

    def case(self, passed, label, why=''):
        return self.tap.case(passed, f'{self.name}: {label}', why)

    def same(self, got, want, label):
        return self.case(got == want, label, f'got  {got}\nwant {want}')

    def file(self, name):
        return os.path.join(self.work, name)

    def _modules(self, drivers, names):
        """The names and all that they need, in the order to load them."""
        order = []

        def add(name):
            path = os.path.join(self.options.guests, drivers, f'{name}.ko')
            if name in order or not os.path.exists(path):
                return
            for needed in needs(path):
                add(needed)
            order.append(name)
        for name in names:
            add(name)
        return order

    def boot(self, modules, *slots, kernel='cloud', cpus=2, memory='256M',
             settings=()):
        image, drivers = KERNELS[kernel]
        modules = self._modules(drivers, modules)
        initrd = self.file('initrd')
        run(f'{TEST}/initramfs.sh', initrd, f'{TEST}/linux-init',
            *(f'{self.options.guests}/{drivers}/{m}.ko=lib/modules/{m}.ko'
              for m in modules))
        argv = [self.options.bhyve, '-c', str(cpus), '-m', memory, '-A', '-H',
                '-s', '0,hostbridge', '-s', '31,lpc', '-l', 'com1,stdio']
        for slot in slots:
            argv += ['-s', slot]
        for setting in (f'engine={self.options.engine}',
                        f'boot.kernel={self.options.guests}/{image}',
                        f'boot.initrd={initrd}', 'boot.cmdline=console=ttyS0',
                        *settings, *self.options.option):
            argv += ['-o', setting]
        self.console = Console([*argv, self.name], self.file('console'))
        self.console.expect(PROMPT, BOOT_SECONDS)
        self.do('stty cols 500')    # the echo of long commands stays whole
        for module in modules:
            self.do(f'insmod /lib/modules/{module}.ko')

    def do(self, command, seconds=COMMAND_SECONDS):
        return ask(self.console, command, seconds)

    def says(self, command, want, label):
        return self.same(self.do(command).strip(), want, label)

    def end(self):
        bad = complaints(self.console, BUSY_CLOCK)
        self.case(not bad, 'the kernel complains of nothing', bad)
        self.console.send('poweroff -f\r')
        status = self.console.wait(END_SECONDS)
        self.same(status, 1, 'it powers off')


def image(path, size, seed):
    """A file of bytes that look random, and are known."""
    with open(path, 'wb') as file:
        block = hashlib.sha256(seed.encode()).digest()
        for _ in range(size // MIB):
            piece = b''.join(
                hashlib.sha256(block + bytes([i])).digest() for i in range(32))
            file.write(piece * (MIB // len(piece)))
            block = hashlib.sha256(piece).digest()


def digest(path, start=0, size=-1):
    with open(path, 'rb') as file:
        file.seek(start)
        return hashlib.sha256(file.read(size)).hexdigest()
