"""A Linux guest whose init is linux-init: talking to its shell, and judging
what its kernel makes of the machine."""
import re

PROMPT = r'guest# (?:\x1b\[6n)?$'  # its line editor asks where the cursor is
IDLE = 'GUEST IDLE'

# What a kernel may not say.
COMPLAINT = re.compile(r'BUG|WARNING|Call Trace|ACPI.*[Ee]rror|[Ff]irmware '
                       r'[Bb]ug|unexpected|[Uu]nstable|not responding|failed|'
                       r'rcu:.* stall|lockup|nobody cared|conflict|'
                       r"can't claim|no compatible bridge")

# On a busy host a kernel's measurements of time may fail: how long the loops of
# a second processor take, and, if it did not even get the quick look at the TSC
# that it says so of, whether the TSC can be trusted at all.
BUSY = r'calibrate_delay_direct\(\) failed'
BUSY_CLOCK = (BUSY + r'|\] (tsc|clocksource|sched_clock): |'
              r'TSC found unstable|Unstable clock detected')
CLOCK = '/sys/devices/system/clocksource/clocksource0/current_clocksource'


def ask(console, command, seconds=20):
    """Type a command at the prompt; what it answers."""
    console.send(command + '\r')
    console.expect(re.escape(command) + r'\n', seconds)
    match = console.expect(PROMPT, seconds)
    return match.string[:match.start()]


def complaints(console, forgiven=r'(?!)'):
    """Lines of the kernel's log that are any and do not match `forgiven`."""
    return '\n'.join(line for line in ask(console, 'dmesg').split('\n')
                     if COMPLAINT.search(line) and
                     not re.search(forgiven, line))


def judge(console, cpus, case, forgiven=r'(?!)'):
    """Look around at the prompt; case(passed, label, why) for each fact."""
    answer = ask(console, 'nproc')
    case(answer == f'{cpus}\n', f'{cpus} processors', answer)
    answer = ask(console, 'cat /proc/interrupts')
    lines = {words[0].rstrip(':'): words[1:] for words in
             (line.split() for line in answer.split('\n')) if words}
    case(sum(int(n) for n in lines['4'][:cpus]) > 0 and
         'IO-APIC' in lines['4'] and 'ttyS0' in lines['4'],
         'com1 interrupts by the I/O APIC', answer)
    case('acpi' in lines.get('9', []), 'the SCI is in use', answer)
    case(all(int(n) > 0 for n in lines['LOC'][:cpus]),
         'every local APIC ticks', answer)
    case(int(lines['ERR'][0]) == 0, 'no APIC errors', answer)
    bad = complaints(console, forgiven)
    case(not bad, 'the kernel complains of nothing', bad)
    answer = ask(console, 'ls /sys/bus/pci/devices')
    case(answer.split() == ['0000:00:00.0', '0000:00:1f.0'],
         'the host bridge and the LPC bridge', answer)
    answer = ask(console, 'ls /sys/firmware/acpi/tables')
    case({'APIC', 'DSDT', 'FACP', 'FACS', 'HPET', 'MCFG'} <=
         set(answer.split()), 'the ACPI tables', answer)
