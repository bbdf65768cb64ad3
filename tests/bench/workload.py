# SPDX-License-Identifier: BSD-2-Clause
"""What a workload is: something done with a contender, and how long that takes."""

import dataclasses

WARM, COLD, WRITE = "warm", "cold", "write"


@dataclasses.dataclass
class Outcome:
    seconds: float
    result: str  # equal for all contenders, or one of them is wrong
    memory: dict = None  # what a reader costs, in bytes: private, pss, and the values it has at hand


class Workload:
    """Its run() works on one contender and says how long it took and what came out, which must be the same for all."""

    name = ""  # for --only
    title = ""  # for the table
    groups = ()  # other names for --only
    data = "tree"  # the data set
    ground = "ext4"  # what the contenders' bytes lie on; another one has rivals of its own
    table = "files"  # where its figures are shown
    options = ""  # what lmdbfs is mounted with for it, besides what the command line says
    with_redis = False
    alone = False  # True: there is nobody to compare lmdbfs with
    states = (WARM, COLD)
    tools = ()
    memory_bytes = 256 << 20  # page cache that a run takes, if it isn't warm, about
    on_mount = True  # False: it works beside the mount

    def files(self, dataset):
        """How many files a run handles, for "requests per file"."""
        return dataset.files

    def run(self, place):
        raise NotImplementedError

    def warm_up(self, place):
        """The untimed pass before a run that is not cold."""
        self.run(place)
