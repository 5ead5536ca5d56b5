"""What a test program says, in the Test Anything Protocol."""


class Tap:
    def __init__(self):
        self.cases = 0
        self.failures = 0

    @staticmethod
    def _say(line):
        print(line, flush=True)

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
        """The plan; and the status to exit with."""
        self._say(f'1..{self.cases}')
        return 1 if self.failures or not self.cases else 0
