# SPDX-License-Identifier: BSD-2-Clause
"""
Contents that say which version of what they are, so that a reader can tell a whole version from a mixture, a
shortened one or that of another file.
"""

import hashlib

HEADER = 96
# Lengths of contents in every layout, also those that share none of their last pages.
SIZES = (HEADER, 500, 1926, 1927, 4000, 4080, 4081, 12_289, 65_536, 131_072, 131_073, 200_001)


def content(key, version, size):
    """The content of that version of a key, at least HEADER bytes long."""
    head = b"%s %d %d " % (key.encode(), version, size)
    block = hashlib.sha256(head).digest() + b"%09d" % (version % 10**9)  # 41 bytes: no page repeats another
    body = head.ljust(HEADER, b".") + block * (size // len(block) + 1)
    return body[:size]


def parse(found):
    """The key and version that a content claims to be, or None if it is not a whole one."""
    try:
        key, version, size = found[:HEADER].split(b" ")[:3]
        key, version, size = key.decode(), int(version), int(size)
    except ValueError:
        return None
    return (key, version) if found == content(key, version, size) else None
