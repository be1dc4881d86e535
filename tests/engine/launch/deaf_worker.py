"""A worker that says hello, and then neither serves nor ends, whatever it is told."""

import os
import signal
import socket
import sys
import time

from thunderserve.engine.messages import VERSION, Hello, encode
from thunderserve.engine.options import WorkerOptions

signal.signal(signal.SIGTERM, signal.SIG_IGN)
options = WorkerOptions.from_json(sys.argv[1])
line = socket.create_connection(options.coordinator)
line.sendall(encode(Hello(VERSION, options.replica, os.getpid(), "127.0.0.1", 1, 10, 16, 100, "cpu", 0.0)))
print("hello said", flush=True)
time.sleep(600)
