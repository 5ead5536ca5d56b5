#!/usr/bin/env -S python3 -B
"""What a machine costs whose two vCPUs sleep: processor time, and memory
beside the guest's own.

usage: idle.py BHYVE PAYLOAD
"""
import glob
import os
import re
import sys
import time

from console import Console, Failure
from tap import Tap

SECONDS = 10
CPU_MOST = 1.0          # per cent of a core
MEMORY_MOST = 10240     # KiB


def cpu_seconds(pid):
    """What all threads have used, from the scheduler's nanoseconds."""
    total = 0
    for path in glob.glob(f'/proc/{pid}/task/*/schedstat'):
        with open(path, encoding='ascii') as stat:
            total += int(stat.read().split()[0])
    return total / 1e9


def own_memory(pid):
    """KiB resident beside the memory objects that are the guest's."""
    total = 0
    guests = False
    with open(f'/proc/{pid}/smaps', encoding='utf-8') as smaps:
        for line in smaps:
            if re.match(r'[0-9a-f]+-[0-9a-f]+ ', line):
                guests = '/memfd:' in line
            elif line.startswith('Rss:') and not guests:
                total += int(line.split()[1])
    return total


def main(bhyve, payload):
    if not os.access('/dev/kvm', os.R_OK | os.W_OK):
        print('no /dev/kvm that can be opened')
        return 77
    tap = Tap()
    console = Console([bhyve, '-c', '2', '-m', '64M', '-H',
                       '-s', '0,hostbridge', '-s', '31,lpc',
                       '-l', 'com1,stdio', '-o', 'engine=kvm',
                       '-o', f'boot.kernel={payload}', 'idle'])
    try:
        console.expect(r'^done 1$', 30)
        pid = console.child.pid
        time.sleep(1)   # let it fall asleep: this is a measurement
        start, used = time.monotonic(), cpu_seconds(pid)
        time.sleep(SECONDS)
        used = cpu_seconds(pid) - used
        cpu = 100 * used / (time.monotonic() - start)
        memory = own_memory(pid)
        tap.case(cpu < CPU_MOST, f'idle: {cpu:.2f} % of a core, '
                 f'less than {CPU_MOST:.0f} %')
        tap.case(memory < MEMORY_MOST, f'memory: {memory} KiB beside the '
                 f"guest's, less than {MEMORY_MOST} KiB")
    except Failure as failure:
        tap.case(False, 'idle', f'{failure}\n{console.history}')
    finally:
        console.close()
    return tap.end()


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
