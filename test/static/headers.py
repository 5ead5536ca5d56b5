#!/usr/bin/env python3
"""Headers compile alone: hand each to the compiler by itself.

usage: headers.py ROOT COMPILER [ARGUMENT...]
"""
import concurrent.futures
import os
import pathlib
import subprocess
import sys

FLAGS = ['-std=gnu17', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Werror',
         '-Wno-unused-parameter', '-fsyntax-only', '-x', 'c', '-']


def compile_alone(root, compiler, header):
    """What the compiler says against it: nothing, if all is well."""
    done = subprocess.run(
        compiler + ['-I', root / 'src', '-I', root] + FLAGS,
        input=f'#include "{root / header}"\n', text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout if done.returncode else ''


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    headers = sorted(p.relative_to(root) for d in ('src', 'test')
                     for p in (root / d).rglob('*.h'))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        said = list(pool.map(
            lambda h: compile_alone(root, sys.argv[2:], h), headers))
    print(''.join(said), end='')
    return 1 if any(said) or not headers else 0


if __name__ == '__main__':
    sys.exit(main())
