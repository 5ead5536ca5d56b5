"""Entropy."""


def rnd(guest, **how):
    guest.boot(['virtio_pci', 'virtio-rng'], '4,virtio-rnd', **how)
    guest.says('cat /sys/class/misc/hw_random/rng_current', 'virtio_rng.0',
               'it is the source of randomness')
    sums = {guest.do('head -c 100000 /dev/hwrng | sha256sum')
            for _ in range(2)}
    guest.case(len(sums) == 2, 'it says something else each time')
    guest.says('head -c 100000 /dev/hwrng | wc -c', '100000', 'and enough')
    guest.end()


CASES = {
    'rnd': rnd,
    'rnd-legacy': lambda g: rnd(g, settings=['virtio.modern=false']),
    'rnd-modern': lambda g: rnd(g, settings=['virtio.legacy=false']),
    'rnd-intx': lambda g: rnd(g, settings=['virtio_msix=false']),
}
