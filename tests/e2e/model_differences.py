# SPDX-License-Identifier: BSD-2-Clause
"""
What lmdbfs does otherwise than ext4, and wants to: the only place where the model test (test_model.py) learns of it, in
the same order as the manual page tells it under "Differences from ext4". Everything else must be equal.
"""

import collections
import errno
import os
import stat

import harness

CONTROL = "/.lmdbfs"
STAGING = CONTROL + "/staging"
STATS = CONTROL + "/stats"

WRITES = ("write", "pwrite", "ftruncate", "fallocate", "copy")
NAMES = ("unlink", "rmdir", "mkdir", "symlink", "mknod", "rename", "link", "link_open")
COLLAPSE, INSERT, UNSHARE = 0x08, 0x20, 0x40

# `applies(model, step)` is asked before a step. If it says yes, lmdbfs must fail with one of `errors`, and ext4, which
# would do it, is left out; it may also fail just as ext4 does (for it looks at something else first).
Difference = collections.namedtuple("Difference", "name applies errors ext4 lmdbfs why")


def target_published(model, step):
    """Of a step that changes the content of what it has open."""
    who, operation, *arguments = step
    if operation not in WRITES or (operation in ("write", "pwrite") and arguments[2] == 0):
        return False
    opened = model.open[who, arguments[1 if operation == "copy" else 0]]
    return opened.write and model.is_published(opened.ino)


def path_published(model, step):
    """Of a step that changes the content of what a path leads to."""
    _, operation, *arguments = step
    truncates = operation == "truncate" or (operation == "open" and arguments[2] & os.O_TRUNC)
    return bool(truncates) and model.leads_to_published


def opens_published(model, step):
    _, operation, *arguments = step
    writes = operation == "open" and arguments[2] & os.O_ACCMODE != os.O_RDONLY
    return writes and model.leads_to_published and model.asked


def special(model, step):
    return step[1] == "mknod" and not stat.S_ISREG(step[3])


def attribute(model, step):
    return step[1] == "setxattr"


def whiteout(model, step):
    return step[1] == "rename" and bool(step[4] & harness.RENAME_WHITEOUT) and not model.same


def other_allocation(model, step):
    return step[1] == "fallocate" and bool(step[3] & (COLLAPSE | INSERT | UNSHARE))


def reserved(model, step):
    """Names in .lmdbfs and its own name, and its attributes."""
    if model.same:
        return False
    creates = step[1] == "open" and step[4] & os.O_CREAT
    if step[1] in NAMES or creates:
        return any(place == CONTROL or os.path.dirname(place) == CONTROL for place in model.places)
    asks_nothing = step[1] == "chown" and tuple(step[3:5]) == (-1, -1)  # the kernel asks nobody
    return step[1] in ("chmod", "chown", "utime") and not asks_nothing and model.leads_to in (CONTROL, STATS)


def reserved_temporary(model, step):
    return step[1] == "open" and step[4] & os.O_TMPFILE == os.O_TMPFILE and model.leads_to == CONTROL


REFUSED = [
    Difference("writing to a published file", target_published, (errno.EPERM,),
               "writes", "EPERM", "whoever has it open or mapped keeps what they saw"),
    Difference("truncating a published file", path_published, (errno.EPERM,),
               "truncates", "EPERM, for root; to others it shows no write bits: EACCES", "likewise"),
    Difference("opening a published file for writing", opens_published, (errno.EPERM,),
               "opens", "EPERM, for root, where the kernel asks to open files (records=large)", "likewise"),
    Difference("special files", special, (errno.EPERM,),
               "makes them", "EPERM", "a store holds content"),
    Difference("extended attributes", attribute, (errno.ENOTSUP,),
               "sets them", "ENOTSUP", "a record has none but its hash"),
    Difference("RENAME_WHITEOUT", whiteout, (errno.EINVAL,),
               "leaves a device node behind", "EINVAL", "there are no device nodes"),
    Difference("moving content within a file", other_allocation, (errno.EOPNOTSUPP,),
               "does it, by the block", "EOPNOTSUPP", "FUSE does not carry FALLOC_FL_COLLAPSE_RANGE and its like"),
    Difference("changing .lmdbfs", reserved, (errno.EBUSY, errno.EPERM),
               "is a directory as any", "EBUSY for what is there, EPERM for new names", "the name is reserved"),
    Difference("temporary files in .lmdbfs", reserved_temporary, (errno.EPERM,),
               "makes them", "EPERM", "likewise"),
]

# What is not refused but looks different, with the function of the model that makes up for it:
#
# a published file      shows no write bits, and gets none by chmod      Model.publish, Model.learn_chmod
# a directory           has link count 1 and size 0                      model_agent.facts
# .lmdbfs               is not listed in the root, its times are those   Model.without_reserved, out_of_question
#                       of the root, stats has whatever size
# the access time       is that of the reader's own cache, or as set     only what utimensat sets is looked at
# st_blocks, st_blksize are the host's or none                           model_agent.facts
# chown(path, -1, -1)   leaves set-user-ID and set-group-ID bits: FUSE   out_of_question
#                       does not say who changes nothing
# O_TMPFILE             works in a directory that was removed as well    out_of_question
# a directory's end     is at another position                           out_of_question
# who opened a file     again, that was closed before, can't write it    Model.release
#                       once it has left staging, if he has not yet
# holes                 are found where the host's file has them, and    nobody asks with SEEK_HOLE
#                       not any more in a published file


def out_of_question(model, step):
    """Steps that neither side is asked to do: what comes of them is not determined, or ever-changing."""
    who, operation, *arguments = step
    if operation == "map":
        # What root stores through it is undone when the kernel writes it back, some time later.
        opened = model.open[who, arguments[1]]
        return arguments[2] and opened.write and model.is_published(opened.ino)
    if operation == "open" and arguments[2] & os.O_TMPFILE == os.O_TMPFILE:
        if (model.leads_to or "").endswith(" (deleted)"):
            return True
    if operation == "chown" and arguments[1] == arguments[2] == -1:
        return True
    if operation == "seek":
        return model.open[who, arguments[0]].directory
    if operation in ("fstat", "fchmod"):
        return model.open[who, arguments[0]].place in (CONTROL, STATS)
    if operation in ("list", "list_open", "readlink") or operation in NAMES:
        return False
    if operation in ("chmod", "chown", "utime", "open"):
        return model.leads_to == STATS and operation == "open"
    return model.leads_to in (CONTROL, STATS)
