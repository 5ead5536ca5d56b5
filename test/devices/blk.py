"""Disks: sums of what both sides see, and a file system."""
import os
import subprocess

from guest import MIB, digest, image, run


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


CASES = {
    'blk': blk,
    'blk-amd64': lambda g: blk(g, kernel='amd64', memory='512M'),
    'blk-legacy': lambda g: blk(g, settings=['virtio.modern=false']),
    'blk-intx': lambda g: blk(g, settings=['virtio_msix=false']),
    'blk-split': lambda g: blk(g, ',queues=4', cpus=4,
                               settings=['virtio.packed=false']),
    'blk-direct': lambda g: blk(g, ',nocache,sectorsize=4096'),
    'blk-readonly': blk_readonly,
    'blk-ext4': blk_ext4,
}
