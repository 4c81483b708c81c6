"""What the three Python drivers share: the records to send, and a line a feature.

A driver is called `python DRIVER.py BOOTSTRAP_SERVERS PREFIX`; topics, groups and transactional
ids begin with PREFIX. It prints `FEATURE: ok`, `FEATURE: none: WHY` or `FEATURE: FAILED: WHY`, and
exits with 1 where one failed.
"""

import sys
import traceback

COMPRESSIONS = ["none", "gzip", "snappy", "lz4", "zstd"]


def records(count, tag="v", both_null=True, null_headers=True):
    """(key, value, headers): with keys, values and header values that are null, and empty ones.

    Some libraries refuse a record whose key and value are both null, or a header without a value.
    """
    out = []
    for i in range(count):
        key = None if i % 7 == 3 and (both_null or i % 5 != 4) else b"key-%d" % i
        value = None if i % 5 == 4 else b"" if i % 5 == 3 else (b"%s-%d " % (tag.encode(), i)) * 40
        headers = [] if i % 3 == 0 else [("n", b"%d" % i), ("n", b"again")]
        if headers and null_headers:
            headers.append(("null", None))
        out.append((key, value, headers))
    return out


def same(got, sent):
    """The same things, whatever their order."""
    def order(items):
        return sorted(items, key=repr)

    assert order(got) == order(sent), f"{len(got)} came back of {len(sent)}, or they differ"


class Features:
    """Runs features one after another and remembers whether one failed."""

    def __init__(self):
        self.failed = False

    def said(self, name, result):
        print(f"{name}: {result}", flush=True)

    def none(self, name, why):
        self.said(name, f"none: {why}")

    def broke(self, name):
        self.failed = True
        self.said(name, "FAILED: " + traceback.format_exc().strip().replace("\n", "\n    "))

    def run(self, name, function, *arguments):
        try:
            function(*arguments)
            self.said(name, "ok")
        except Exception:
            self.broke(name)

    async def run_async(self, name, function, *arguments):
        try:
            await function(*arguments)
            self.said(name, "ok")
        except Exception:
            self.broke(name)

    def end(self):
        sys.exit(1 if self.failed else 0)
