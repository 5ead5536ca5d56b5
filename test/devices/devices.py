#!/usr/bin/env -S python3 -B
"""Linux, unmodified, drives our devices with the drivers that Debian ships.

Each case boots a guest with one device, moves real data both ways and checks
it from both sides; no driver may say a word about us in the kernel's log.
GUESTS is the directory that fetch.sh fills; images and what the guests say are
kept in WORK.

usage: devices.py [-E ENGINE] [-o OPTION]... BHYVE GUESTS WORK [NAME]...
"""
import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TEST = os.path.dirname(HERE)
sys.path.insert(0, TEST)

from console import Console, Failure  # noqa: E402
from linux import BUSY_CLOCK, PROMPT, ask, complaints  # noqa: E402
from tap import Tap  # noqa: E402

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


def rnd(guest, **how):
    guest.boot(['virtio_pci', 'virtio-rng'], '4,virtio-rnd', **how)
    guest.says('cat /sys/class/misc/hw_random/rng_current', 'virtio_rng.0',
               'it is the source of randomness')
    sums = {guest.do('head -c 100000 /dev/hwrng | sha256sum')
            for _ in range(2)}
    guest.case(len(sums) == 2, 'it says something else each time')
    guest.says('head -c 100000 /dev/hwrng | wc -c', '100000', 'and enough')
    guest.end()


def blk(guest, options='', **how):
    disk = guest.file('disk')
    image(disk, 64 * MIB, guest.name)
    guest.boot(['virtio_pci', 'virtio_blk'],
               f'4,virtio-blk,{disk},ser=SN-0123456789{options}', **how)
    guest.says('cat /sys/block/vda/size', str(64 * MIB // 512), 'its size')
    guest.says('cat /sys/block/vda/serial', 'SN-0123456789', 'its serial')
    answer = guest.do('sha256sum </dev/vda').split()[0]
    guest.same(answer, digest(disk), 'all of it can be read')
    guest.do('dd if=/dev/urandom of=/tmp/new bs=1M count=16 2>/dev/null')
    want = guest.do('sha256sum </tmp/new').split()[0]
    guest.do('dd if=/tmp/new of=/dev/vda bs=64k seek=512 conv=fsync,notrunc '
             '2>/dev/null')
    guest.same(digest(disk, 32 * MIB, 16 * MIB), want,
               'what is flushed is in the file')
    guest.end()


def blk_ext4(guest):
    disk = guest.file('disk')
    with open(disk, 'wb') as file:
        file.truncate(256 * MIB)
    run('mkfs.ext4', '-q', '-E', 'lazy_itable_init=0,lazy_journal_init=0',
        disk)
    guest.boot(['virtio_pci', 'virtio_blk'], f'4,virtio-blk,{disk}')
    guest.do('mkdir /mnt; mount -o discard /dev/vda /mnt')
    guest.do('head -c 1000000 /dev/urandom >/tmp/pool')
    guest.do('for i in $(seq 80); do mkdir /mnt/$i; '
             'tail -c +${i}000 /tmp/pool >/mnt/$i/file; done; sync')
    guest.do('(cd /mnt; sha256sum */file) >/tmp/sums')
    full = os.stat(disk).st_blocks * 512
    guest.do('for i in $(seq 1 2 80); do rm -r /mnt/$i; done; '
             'grep "[02468]/file" /tmp/sums >/mnt/sums')
    guest.do('sync; fstrim /mnt; umount /mnt; mount -o ro /dev/vda /mnt')
    guest.says('cd /mnt; sha256sum -c sums | grep -c OK; cd /', '40',
               'files keep what was written')
    guest.do('umount /mnt')
    guest.end()
    check = subprocess.run(['e2fsck', '-fn', disk], capture_output=True,
                           text=True, check=False)
    guest.case(check.returncode == 0, 'the file system is sound', check.stdout)
    left = os.stat(disk).st_blocks * 512
    guest.case(left < full - 30 * MIB, 'what was deleted takes no room',
               f'{full} bytes, {left} after')


def blk_readonly(guest):
    disk = guest.file('disk')
    image(disk, 16 * MIB, guest.name)
    before = digest(disk)
    guest.boot(['virtio_pci', 'virtio_blk'], f'4,virtio-blk,{disk},ro')
    guest.says('cat /sys/block/vda/ro', '1', 'the guest knows')
    guest.says('sha256sum </dev/vda', f'{before}  -', 'it can be read')
    guest.case('Read-only' in guest.do('echo x >/dev/vda') or
               'not permitted' in guest.do('echo x >/dev/vda'),
               'and not be written')
    guest.end()
    guest.same(digest(disk), before, 'nothing has changed')


def tree_digest(top):
    """As the guest's find and sha256sum say it."""
    lines = []
    for path, _, names in os.walk(top):
        for name in names:
            file = os.path.join(path, name)
            if not os.path.islink(file):
                lines.append(f'{digest(file)}  ./'
                             f'{os.path.relpath(file, top)}\n')
    return hashlib.sha256(''.join(sorted(lines)).encode()).hexdigest()


TREE_DIGEST = "find . -type f -exec sha256sum {} + | sort | sha256sum"


def p9_share(guest, options='', **how):
    """A tree for the guest, and beside it what it must not see."""
    top = guest.file('share')
    with open(guest.file('secret'), 'w', encoding='ascii') as file:
        file.write('secret of the host\n')
    for i in range(40):
        os.makedirs(f'{top}/a{i % 4}/b{i}')
        image(f'{top}/a{i % 4}/b{i}/large', (1 + i % 3) * MIB, str(i))
        with open(f'{top}/a{i % 4}/b{i}/small', 'wb') as file:
            file.write(bytes(range(i)))
    os.makedirs(f'{top}/many')
    for i in range(1000):
        with open(f'{top}/many/file number {i}', 'wb'):
            pass
    os.symlink('../secret', f'{top}/beside')
    os.symlink('/here', f'{top}/absolute')
    guest.boot(['virtio_pci', '9pnet_virtio', '9p'],
               f'4,virtio-9p,tree={top}{options}', kernel='amd64',
               memory='512M', **how)
    guest.says('cat /sys/bus/virtio/drivers/9pnet_virtio/virtio*/mount_tag '
               "| tr '\\0' '\\n'", 'tree', 'its name')
    guest.do('mkdir /mnt; mount -t 9p -o trans=virtio,version=9p2000.L,'
             'msize=262144 tree /mnt && cd /mnt')
    return top


def p9_read(guest, **how):
    top = p9_share(guest, **how)
    guest.same(guest.do(TREE_DIGEST).split()[0], tree_digest(top),
               'all of the tree can be read')
    guest.says('ls many | wc -l', '1000', 'a large directory is whole')
    guest.says('readlink beside', '../secret', 'links are shown')
    guest.do('echo mine >/secret; echo ours >/here')
    guest.says('cat beside absolute', 'mine\nours',
               'and followed by the guest, in its own tree')
    guest.case('Read-only' in guest.do('echo x >new'),
               'nothing can be made')
    guest.case('Read-only' in guest.do('echo x >>many/"file number 1"'),
               'nor written')
    guest.case('Read-only' in guest.do('rm -r a0'), 'nor removed')
    guest.do('cd /; umount /mnt')
    guest.end()


def p9_write(guest, **how):
    top = p9_share(guest, ',rw', **how)
    guest.do('mkdir new; cd new; for i in $(seq 20); do mkdir d$i; '
             'head -c ${i}00001 /dev/urandom >d$i/file; done')
    guest.do('for i in $(seq 3 3 20); do mv d$i/file d$i/moved; done; '
             'for i in $(seq 4 4 20); do rm -r d$i; done')
    guest.do('dd if=/dev/urandom of=big bs=1M count=32 2>/dev/null; '
             'dd if=/dev/zero of=big bs=4k seek=100 count=3 conv=notrunc '
             '2>/dev/null; truncate -s 20000000 big')
    guest.do('ln -s /etc/shadow shadow; ln big hard; chmod 640 big; sync')
    want = guest.do(TREE_DIGEST).split()[0]
    guest.same(tree_digest(f'{top}/new'), want,
               'what it wrote is in the directory')
    guest.same(oct(os.stat(f'{top}/new/big').st_mode & 0o777), '0o640',
               'with its mode')
    guest.same(os.stat(f'{top}/new/big').st_nlink, 2, 'and its links')
    guest.same(os.readlink(f'{top}/new/shadow'), '/etc/shadow',
               'a symbolic link is one on the host')
    guest.case('No such file' in guest.do('cat shadow'),
               'and leads nowhere in the guest')
    guest.do('rm -r /mnt/a*; cd /; umount /mnt')
    guest.same(sorted(n for n in os.listdir(top) if n[0] == 'a'), [],
               'what it removed is gone')
    guest.same(os.path.exists(guest.file('secret')), True,
               'what is beside the share is not')
    guest.end()


CASES = {
    'rnd': rnd,
    'rnd-legacy': lambda g: rnd(g, settings=['virtio.modern=false']),
    'rnd-modern': lambda g: rnd(g, settings=['virtio.legacy=false']),
    'rnd-intx': lambda g: rnd(g, settings=['virtio_msix=false']),
    'blk': blk,
    'blk-amd64': lambda g: blk(g, kernel='amd64', memory='512M'),
    'blk-legacy': lambda g: blk(g, settings=['virtio.modern=false']),
    'blk-intx': lambda g: blk(g, settings=['virtio_msix=false']),
    'blk-split': lambda g: blk(g, ',queues=4', cpus=4,
                               settings=['virtio.packed=false']),
    'blk-direct': lambda g: blk(g, ',nocache,sectorsize=4096'),
    'blk-readonly': blk_readonly,
    'blk-ext4': blk_ext4,
    '9p': p9_read,
    '9p-legacy': lambda g: p9_read(g, settings=['virtio.modern=false']),
    '9p-intx': lambda g: p9_read(g, settings=['virtio_msix=false']),
    '9p-write': p9_write,
}


def test(options, tap, name):
    guest = Guest(options, tap, name)
    try:
        CASES[name](guest)
    except Failure as failure:
        guest.case(False, 'goes on', str(failure))
    finally:
        if guest.console is not None:
            guest.console.close()


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument('-E', dest='engine', default='jit')
    parser.add_argument('-o', dest='option', action='append', default=[])
    parser.add_argument('bhyve')
    parser.add_argument('guests')
    parser.add_argument('work')
    parser.add_argument('name', nargs='*', choices=[[], *CASES])
    options = parser.parse_args()
    tap = Tap()
    for name in options.name or CASES:
        test(options, tap, name)
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
