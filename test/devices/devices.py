#!/usr/bin/env -S python3 -B
"""Linux, unmodified, drives our devices with the drivers that Debian ships.

Each case boots a guest with one device, moves real data both ways and checks
it from both sides; no driver may say a word about us in the kernel's log.
GUESTS is the directory that fetch.sh fills; images and what the guests say are
kept in WORK.  A file here has the cases of a device.

usage: devices.py [-E ENGINE] [-o OPTION]... BHYVE GUESTS WORK [NAME]...
"""
import argparse
import sys

from guest import Guest     # first: it finds the modules of test/
import blk
import channel
import net
import p9
import rnd
from console import Failure
from tap import Tap

CASES = {**rnd.CASES, **blk.CASES, **net.CASES, **channel.CASES, **p9.CASES}


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
