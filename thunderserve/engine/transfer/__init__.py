"""KV of a request on its way from the worker that prefilled it to the one that decodes it; ``docs/transfer.md`` has the protocol.

``sender.Sender`` encodes and sends, ``receiver.Receiver`` checks and decodes, ``link.Link`` makes a slow network of a fast one.

Plain threads with blocking sockets, by measurement: twelve messages of 28 MB between two processes over loopback took, best of
three on a shared two-core machine, 2.6 GB/s and 0.3 CPU seconds a GB (both ends) with threads, 1.3 GB/s and 0.6 with pyzmq, and
0.36 GB/s and 2.7 with asyncio's streams. Threads move a packet in a handful of system calls, all without the interpreter's lock,
beside a thread that computes. asyncio reads 64 KiB at a time and takes the lock for each; ZeroMQ hides the stream (no resuming
at a packet, back-pressure that counts messages and not bytes).
"""
