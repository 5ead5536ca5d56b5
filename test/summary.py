#!/usr/bin/env python3
"""Count what the builds' tests did, from Meson's logs.

A test that speaks TAP counts once for each of its cases, another once.  The
arguments name builds that came to nothing: each counts as a failure.  The last
line is the sum; the status is 1 if anything failed.
"""
import glob
import json
import re
import sys

# cmocka's TAP: "ok 1 - name", "not ok 2 - name", "# why" and then "not ok 3 #
# SKIP name"; and a verdict without a number for the whole.
CASE = re.compile(r'^(?:# (.*)\n)?(not ok|ok) \d+(?: - ([^#\n]*))? ?'
                  r'(?:# SKIP (.*))?', re.MULTILINE)
count = {'passed': 0, 'failed': 0, 'skipped': 0}
notes = {'failed': [], 'skipped': []}


def add(result, name, why=''):
    count[result] += 1
    if result != 'passed':
        notes[result].append(f'{result}: {name}' + (f': {why}' if why else ''))


def read(build, test):
    name = f"{build}: {test['name'].split(' / ')[-1]}"
    output = test.get('stdout', '') + '\n' + test.get('stderr', '')
    result = test['result']
    cases = 0
    broken = False
    if re.search(r'^\s*1\.\.\d+', output, re.MULTILINE):
        for note, verdict, case, skip in CASE.findall(output):
            cases += 1
            case = case.strip()
            if skip:
                add('skipped', f'{name}: {case or skip}',
                    skip if case else note)
            elif verdict == 'ok':
                add('passed', f'{name}: {case}')
            else:
                add('failed', f'{name}: {case}')
                broken = True
    if result in ('OK', 'EXPECTEDFAIL'):
        if not cases:
            add('passed', name)
    elif result == 'SKIP':
        if not cases:
            add('skipped', name, output.strip().split('\n')[0])
    elif not broken:
        add('failed', name, result.lower())


for path in sorted(glob.glob('build/*/meson-logs/testlog.json')):
    build = path.split('/')[1]
    with open(path, encoding='utf-8') as log:
        for line in log:
            read(build, json.loads(line))
for build in sys.argv[1:]:
    add('failed', build, 'did not build, or ran no test')

for line in notes['skipped'] + notes['failed']:
    print(line)
print(', '.join(f'{n} {what}' for what, n in count.items()))
sys.exit(1 if count['failed'] or not count['passed'] else 0)
