# SPDX-License-Identifier: BSD-2-Clause
"""Names fill a disk too, and can be removed from a full one."""

import os

import harness
from harness import wait_for
from small_disk import FullByOneWay


class Names(FullByOneWay):
    def fill_with_names(self, make, remove):
        self.take_room_but(3 << 20)
        count = self.until_full(make, 40_000)
        # What failed has left nothing.
        self.assertEqual(len(os.listdir(self.mount / "full")), count)
        self.assertGreater(count, 10)
        for index in range(10):
            wait_for(lambda path=self.mount / f"full/{index:0200}": self.removed(path, remove), what="room to remove")
        self.assert_goes_on()

    def test_directories(self):
        self.fill_with_names(lambda index: os.mkdir(self.mount / f"full/{index:0200}"), os.rmdir)

    def test_symbolic_links(self):
        self.fill_with_names(lambda index: os.symlink("x" * 1900, self.mount / f"full/{index:0200}"), os.unlink)

    def test_long_symbolic_links(self):
        self.fill_with_names(lambda index: os.symlink("x" * 4000, self.mount / f"full/{index:0200}"), os.unlink)

    def test_links(self):
        target = self.mount / "kept500"
        self.fill_with_names(lambda index: os.link(target, self.mount / f"full/{index:0200}"), os.unlink)


if __name__ == "__main__":
    harness.main()
