#!/usr/bin/env python3
"""Arrows point down: check the #include lines of src/.

usage: arrows.py ROOT

The rows are those of the block marked `layers` in ROOT/doc/architecture.md,
highest first.  A row is the names of directories; behind ", but not" it lists
those below that it must not use.  Checked are, for each .c and .h:

    - it includes its own row and those below, nothing else of src/
    - an _impl.h is included from its directory and those in it only
    - <linux/kvm.h> is included by src/engine/kvm only
    - first the system's headers, then ours, sorted and named from src/
"""
import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
LAYERS = re.compile(r'^```layers\n(.*?)^```', re.MULTILINE | re.DOTALL)


def read_layers(root):
    """The row of each directory, the lowest having 0; what it must not use."""
    text = (root / 'doc/architecture.md').read_text(encoding='utf-8')
    found = LAYERS.search(text)
    if not found:
        sys.exit('doc/architecture.md: no block of layers')
    row, barred = {}, {}
    for number, line in enumerate(reversed(found[1].splitlines())):
        names, _, but_not = line.partition(', but not ')
        for name in names.split():
            row[name] = number
            barred[name] = but_not.split()
    return row, barred


def check_target(root, path, name, row, barred):
    """What is wrong with a file including one of ours, or None."""
    place = path.relative_to(root)
    own = place.parts[1]
    if name.startswith('test/') and path.stem.endswith(('_test', '_fuzz')):
        return None
    if not (root / 'src' / name).is_file():
        return f'"{name}" is not a file of src/'
    directory = name.split('/')[0]
    if row.get(directory, -1) > row[own]:
        return f'{own} includes "{name}", which is above it'
    if directory in barred[own]:
        return f'{own} includes "{name}", which it must not know'
    home = (root / 'src' / name).parent
    if name.endswith('_impl.h') and home not in path.parents:
        return f'"{name}" belongs to src/{home.relative_to(root / "src")}'
    return None


def check_file(root, path, row, barred):
    text = path.read_text(encoding='utf-8')
    ours = []
    for found in INCLUDE.finditer(text):
        kind, name = found.groups()
        line = text.count('\n', 0, found.start(2)) + 1
        where = f'{path.relative_to(root)}:{line}: '
        if kind == '<':
            if ours:
                yield where + f'<{name}> stands below our own headers'
            if name == 'linux/kvm.h' and \
                    root / 'src/engine/kvm' not in path.parents:
                yield where + f'<{name}> is for src/engine/kvm'
            continue
        if ours and name < ours[-1]:
            yield where + f'"{name}" should stand above "{ours[-1]}"'
        ours.append(name)
        complaint = check_target(root, path, name, row, barred)
        if complaint:
            yield where + complaint


def check(root):
    row, barred = read_layers(root)
    for directory in sorted(p for p in (root / 'src').iterdir() if p.is_dir()):
        if directory.name not in row:
            yield f'src/{directory.name}: not among the layers'
            continue
        for path in sorted(directory.rglob('*.[ch]')):
            yield from check_file(root, path, row, barred)


def main():
    complaints = list(check(pathlib.Path(sys.argv[1]).resolve()))
    for complaint in complaints:
        print(complaint)
    return 1 if complaints else 0


if __name__ == '__main__':
    sys.exit(main())
