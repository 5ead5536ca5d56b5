"""Network cards on slirp: a lease, and data both ways.

In a network namespace of its own, where that is allowed: nobody else takes a
port that was found free."""
import hashlib
import os
import socket
import subprocess
from threading import Thread

from guest import COMMAND_SECONDS
from console import LIBC

CLONE_NEWNET = 0x40000000

UDHCPC = ('echo \'[ "$1" = bound ] && ip addr add $ip/24 dev $interface && '
          'ip route add default via $router\' >/tmp/dhcp; sed -i "1i#!/bin/sh" '
          '/tmp/dhcp; chmod +x /tmp/dhcp; '
          'udhcpc -q -n -f -i eth0 -s /tmp/dhcp 2>&1')


def listener():
    server = socket.create_server(('127.0.0.1', 0))
    server.settimeout(COMMAND_SECONDS)
    return server


def free_port():
    with listener() as server:
        return server.getsockname()[1]


class Reader(Thread):
    """Take one connection and all that comes by it."""

    def __init__(self):
        super().__init__(daemon=True)
        self.server = listener()
        self.port = self.server.getsockname()[1]
        self.sum = hashlib.sha256()
        self.start()

    def run(self):
        peer, _ = self.server.accept()
        peer.settimeout(COMMAND_SECONDS)
        while data := peer.recv(1 << 16):
            self.sum.update(data)
        peer.close()

    def digest(self):
        self.join(COMMAND_SECONDS)
        self.server.close()
        return self.sum.hexdigest()


def own_network():
    if LIBC.unshare(CLONE_NEWNET) == 0:
        subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)


def net(guest, device, modules, **how):
    own_network()
    port = free_port()
    guest.boot(modules, f'4,{device},slirp,open,mac=02:00:00:00:00:05,'
               f'hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:5000', **how)
    guest.says('cat /sys/class/net/eth0/address', '02:00:00:00:00:05',
               'its address')
    guest.do('ip link set eth0 up')
    guest.case('10.0.2.15' in guest.do(UDHCPC), 'a lease')
    guest.case('inet 10.0.2.15' in guest.do('ip addr show dev eth0'),
               'it takes it')
    reader = Reader()
    guest.do('head -c 20000000 /dev/urandom >/tmp/out')
    want = guest.do('sha256sum </tmp/out').split()[0]
    guest.do(f'nc 10.0.2.2 {reader.port} </tmp/out')
    guest.same(reader.digest(), want, 'what it sends arrives')
    data = os.urandom(20000000)
    guest.do('(nc -l -p 5000 </dev/null >/tmp/in; touch /tmp/done) &')
    guest.do('while ! netstat -ltn | grep -q :5000; do sleep 0.1; done')
    with socket.create_connection(('127.0.0.1', port)) as peer:
        peer.sendall(data)
    guest.do('while [ ! -e /tmp/done ]; do sleep 0.1; done')
    guest.says('sha256sum </tmp/in', hashlib.sha256(data).hexdigest() + '  -',
               'what is sent to it arrives')
    guest.do('ip link set eth0 promisc on; ip link set eth0 down; '
             'ip link set eth0 promisc off; ip link set eth0 up')
    guest.case('0% packet loss' in guest.do('ping -c 2 10.0.2.2'),
               'it comes back when set down and up')
    guest.end()


def virtio_net(guest, **how):
    net(guest, 'virtio-net', ['virtio_pci', 'virtio_net'], **how)


def e1000(guest):
    net(guest, 'e1000', ['e1000'], kernel='amd64', memory='512M')


CASES = {
    'net': virtio_net,
    'net-legacy': lambda g: virtio_net(g, settings=['virtio.modern=false']),
    'net-modern': lambda g: virtio_net(g, settings=['virtio.legacy=false']),
    'net-split': lambda g: virtio_net(g, settings=['virtio.packed=false']),
    'net-intx': lambda g: virtio_net(g, settings=['virtio_msix=false']),
    'e1000': e1000,
}
