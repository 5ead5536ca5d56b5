"""A directory of the host as a file system of the guest."""
import hashlib
import os

from guest import MIB, digest, image


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


def share(guest, options='', **how):
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


def read(guest, **how):
    top = share(guest, **how)
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


def write(guest, **how):
    top = share(guest, ',rw', **how)
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
    '9p': read,
    '9p-legacy': lambda g: read(g, settings=['virtio.modern=false']),
    '9p-intx': lambda g: read(g, settings=['virtio_msix=false']),
    '9p-write': write,
}
