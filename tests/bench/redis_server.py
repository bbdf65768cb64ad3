# SPDX-License-Identifier: BSD-2-Clause
"""A Redis that holds a data set's files as values under their names."""

import os
import socket
import subprocess
import time

import observe
import probes
from contenders import Contender
from corpus import BenchError

SERVER_SECONDS = 60  # to start, and to stop


class Redis(Contender):
    """The server is our child, on a Unix socket alone, and writes nothing to disk."""

    name = "redis"
    tools = ("redis-server",)
    writable = has_cold = False

    def __init__(self, ground, dataset, options=""):
        super().__init__(ground, dataset, options)
        self.socket = self.dir / "socket"
        self.log = self.dir / "log"
        self.process = None

    def prepare(self):
        self.dir.mkdir()
        self.mount()

    def mount(self):
        argv = ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no",
                "--daemonize", "no", "--dir", self.dir, "--logfile", self.log]
        # In a session of its own, or ^C would reach it as well.
        self.process = subprocess.Popen([str(word) for word in argv], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + SERVER_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"redis-server does not start: {self._last_words()}")
            time.sleep(0.005)
        probes.ask("redis", "load", self.socket, self.dataset.source, self.dataset.names)

    def unmount(self):
        if self.process is None:
            return
        process, self.process = self.process, None
        process.terminate()
        try:
            process.wait(SERVER_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def daemon(self):
        return {"cpu_seconds": observe.cpu_seconds(self.process.pid),
                "memory_bytes": observe.anonymous_bytes(self.process.pid)}

    def values(self, _how):
        return "redis", ("get", self.socket, self.dataset.names)

    def hold(self):
        return "redis", ("hold", self.socket, self.dataset.names)

    def _answers(self):
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(os.fspath(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(5) == b"+PONG"
            except OSError:
                return False

    def _last_words(self):
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return " / ".join(lines[-3:]) or "it said nothing"
