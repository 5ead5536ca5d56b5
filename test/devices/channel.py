"""virtio-console: channels between the guest and programs of the host.

Ports are /dev/vportNpM of devtmpfs: udev, which would make /dev/virtio-ports,
is not in the guest."""
import hashlib
import socket
import threading

from guest import COMMAND_SECONDS, MIB, digest, image


class Client:
    """A program of the host at the other end of a channel."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(COMMAND_SECONDS)
        self.socket.connect(path)

    def send(self, data):
        self.socket.sendall(data)

    def receive(self, size):
        data = b''
        while len(data) < size:
            piece = self.socket.recv(min(size - len(data), 65536))
            if not piece:
                break
            data += piece
        return data

    def close(self):
        self.socket.close()


def channels(guest, **how):
    size = 4 * MIB
    paths = [guest.file('a'), guest.file('b')]
    data = [guest.file('data-a'), guest.file('data-b')]
    for name in data:
        image(name, size, name)
    guest.boot(['virtio_pci', 'virtio_console'],
               f'4,virtio-console,org.a={paths[0]},org.b={paths[1]}', **how)
    guest.says('cat /sys/class/virtio-ports/*/name | tr "\\n" " "',
               'org.a org.b', 'their names')
    ports = guest.do('ls -d /dev/vport*p*').split()
    guest.says(f'timeout 5 cat {ports[0]} | wc -c', '0',
               'without a client a channel is closed')

    # In, through both at once.
    clients = [Client(path) for path in paths]
    for i, port in enumerate(ports):
        guest.do(f'head -c {size} {port} >/tmp/in{i} &')
    threads = [threading.Thread(
        target=lambda c=c, d=d: c.send(open(d, 'rb').read()))
        for c, d in zip(clients, data)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    guest.do('wait')
    for i, name in enumerate(data):
        guest.same(guest.do(f'sha256sum </tmp/in{i}').split()[0],
                   digest(name), f'{size} bytes into channel {i}')

    # And out again; nobody reads until the guest has had to wait.
    for i, port in enumerate(ports):
        guest.do(f'cat /tmp/in{i} >{port} &')
    for i, (client, name) in enumerate(zip(clients, data)):
        got = hashlib.sha256(client.receive(size)).hexdigest()
        guest.same(got, digest(name), f'{size} bytes out of channel {i}')
    guest.do('wait')

    # A client that goes, and another that comes.
    clients[0].close()
    guest.says(f'timeout 20 cat {ports[0]} | wc -c', '0',
               'a client that has gone is an end of file')
    clients[0] = Client(paths[0])
    guest.do(f'head -c 6 {ports[0]} >/tmp/again &')
    clients[0].send(b'again\n')
    guest.do('wait')
    guest.says('cat /tmp/again', 'again', 'the next one is heard')
    guest.do(f'echo hello >{ports[0]}')
    guest.same(clients[0].receive(6), b'hello\n', 'and hears')
    for client in clients:
        client.close()
    guest.end()


CASES = {
    'console': channels,
    'console-legacy': lambda g: channels(g, settings=['virtio.modern=false']),
    'console-intx': lambda g: channels(g, settings=['virtio_msix=false']),
    'console-split': lambda g: channels(g, settings=['virtio.packed=false']),
}
