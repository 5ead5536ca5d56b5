#!/usr/bin/env python3
"""The checks themselves, on trees made up for them.

usage: selftest.py COMPILER [ARGUMENT...]
"""
import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
COMPILER = sys.argv[1:]

GOOD = {
    'doc/architecture.md':
        'Words.\n\n```layers\ncmd\ndisk, but not cpu\ncpu engine\nbase mem\n'
        '```\n',
    'src/base/base.h': '#include <stdint.h>\ntypedef uint8_t byte;\n',
    'src/mem/mem.h': '#include "base/base.h"\nbyte mem(void);\n',
    'src/cpu/cpu.h': '#include "base/base.h"\n',
    'src/cpu/cpu_impl.h': '#include "cpu/cpu.h"\n',
    'src/cpu/jit/jit.c': '#include "cpu/cpu_impl.h"\n',
    'src/engine/kvm/kvm.c': '#include <linux/kvm.h>\n',
    'src/disk/disk.c': '#include <a.h>\n\n#include <b.h>\n\n'
                       '#include "base/base.h"\n#include "mem/mem.h"\n',
    'src/disk/disk_test.c': '#include "test/bench.h"\n',
    'src/cmd/x/main.c': '#include "cpu/cpu.h"\n#include "mem/mem.h"\n',
    'test/bench.h': '#include "cpu/cpu.h"\n',
}


def run(script, changes):
    """Status and output on the good tree with some files changed."""
    with tempfile.TemporaryDirectory() as root:
        for name, text in {**GOOD, **changes}.items():
            path = pathlib.Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding='utf-8')
        argv = [sys.executable, HERE / script, root]
        if script == 'headers.py':
            argv += COMPILER
        done = subprocess.run(argv, capture_output=True, text=True,
                              check=False)
    return done.returncode, done.stdout + done.stderr


class Arrows(unittest.TestCase):
    def refused(self, changes, complaint):
        status, output = run('arrows.py', changes)
        self.assertEqual(status, 1)
        self.assertEqual(output.strip(), complaint)

    def test_good_tree_passes(self):
        self.assertEqual(run('arrows.py', {}), (0, ''))

    def test_upward_arrow(self):
        self.refused({'src/mem/mem.c': '\n#include "disk/disk.h"\n',
                      'src/disk/disk.h': ''},
                     'src/mem/mem.c:2: mem includes "disk/disk.h", '
                     'which is above it')

    def test_upward_arrow_of_a_subdirectory(self):
        self.refused({'src/cpu/jit/jit.h': '#include "cmd/x/x.h"\n',
                      'src/cmd/x/x.h': ''},
                     'src/cpu/jit/jit.h:1: cpu includes "cmd/x/x.h", '
                     'which is above it')

    def test_barred_directory(self):
        self.refused({'src/disk/disk.h': '# include "cpu/cpu.h"\n'},
                     'src/disk/disk.h:1: disk includes "cpu/cpu.h", '
                     'which it must not know')

    def test_foreign_impl_header(self):
        self.refused({'src/cmd/x/main.c': '#include "cpu/cpu_impl.h"\n'},
                     'src/cmd/x/main.c:1: "cpu/cpu_impl.h" belongs to '
                     'src/cpu')

    def test_name_that_is_not_from_src(self):
        self.refused({'src/mem/mem.c': '#include "mem.h"\n'},
                     'src/mem/mem.c:1: "mem.h" is not a file of src/')

    def test_bench_outside_of_tests(self):
        self.refused({'src/mem/mem.c': '#include "test/bench.h"\n'},
                     'src/mem/mem.c:1: "test/bench.h" is not a file of src/')

    def test_unsorted(self):
        self.refused({'src/cmd/x/main.c': '#include "mem/mem.h"\n'
                                          '#include "cpu/cpu.h"\n'},
                     'src/cmd/x/main.c:2: "cpu/cpu.h" should stand above '
                     '"mem/mem.h"')

    def test_system_header_below_ours(self):
        self.refused({'src/cpu/cpu.c': '#include "cpu/cpu.h"\n'
                                       '#include <errno.h>\n'},
                     'src/cpu/cpu.c:2: <errno.h> stands below our own '
                     'headers')

    def test_kvm_outside_of_its_engine(self):
        self.refused({'src/cpu/cpu.c': '#include <linux/kvm.h>\n'},
                     'src/cpu/cpu.c:1: <linux/kvm.h> is for src/engine/kvm')

    def test_directory_without_a_layer(self):
        self.refused({'src/new/new.c': ''}, 'src/new: not among the layers')

    def test_no_layers(self):
        self.refused({'doc/architecture.md': ''},
                     'doc/architecture.md: no block of layers')


class Headers(unittest.TestCase):
    def test_good_tree_passes(self):
        self.assertEqual(run('headers.py', {}), (0, ''))

    def test_missing_include(self):
        status, output = run('headers.py',
                             {'src/mem/mem.h': 'byte mem(void);\n'})
        self.assertEqual(status, 1)
        self.assertIn('mem.h:1', output)

    def test_test_headers_count(self):
        status, output = run('headers.py', {'test/bench.h': 'size_t n;\n'})
        self.assertEqual(status, 1)
        self.assertIn('bench.h:1', output)


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
