"""What a test program says, in the Test Anything Protocol."""


class Tap:
    """With `keep`, lines are kept until the end: the run may be made again."""

    def __init__(self, keep=False):
        self.cases = 0
        self.failures = 0
        self.kept = [] if keep else None

    def _say(self, line):
        if self.kept is None:
            print(line, flush=True)
        else:
            self.kept.append(line)

    def case(self, passed, label, why=''):
        self.cases += 1
        self.failures += not passed
        self._say(f"{'ok' if passed else 'not ok'} {self.cases} - {label}")
        if why and not passed:
            self.note(why)
        return passed

    def skip(self, label, why):
        self.cases += 1
        self._say(f'ok {self.cases} - {label} # SKIP {why}')

    def note(self, text):
        for line in text.rstrip('\n').split('\n'):
            self._say(f'# {line}')

    def end(self):
        """What was kept, and the plan; and the status to exit with."""
        for line in (self.kept or []) + [f'1..{self.cases}']:
            print(line, flush=True)
        return 1 if self.failures or not self.cases else 0
