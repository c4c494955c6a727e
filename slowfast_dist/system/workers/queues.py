"""What a loader and its workers say to each other: a queue and an event, without threads or locks.

multiprocessing's queue has a thread in each process that writes, which makes forking unsafe, and a
lock, which stays locked where its holder is killed; torch adds a thread that hands out its files.
Here a message is one packet of a Unix socket, written whole or not at all. Linux alone.
"""

import copyreg
import io
import os
import pickle
import queue
import select
import socket
from collections import ChainMap
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any, ClassVar, cast

from slowfast_dist.system.workers.shared import SharedFlags, file_of, mapped, new_memory

PACKET_BYTES = 1 << 16
"""Bytes of the largest packet: less than any system's buffer of a socket. A longer message goes as
a file."""

SMALL_BYTES = 1 << 12
"""Bytes of an array up to which it lies in the message itself: a page, the least a file takes."""

MOST_FILES = 64
"""Files that go with one message: Linux allows 253."""

Reduce = Callable[[Any], tuple[Any, ...]]


class Queue:
    """Messages of any number of writers to any number of readers; each gets to one reader.

    Large arrays are sent as the files of memory in which they lie, or are copied into new ones.
    """

    reducers: ClassVar[dict[type, Reduce]] = {}
    """How values of a type are pickled here, where that is not their own way (as `copyreg`)."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def __getstate__(self) -> list[Any]:
        return [reduction.DupFd(end.fileno()) for end in (self._reader, self._writer)]

    def __setstate__(self, state: list[Any]) -> None:
        self._reader, self._writer = (socket.socket(fileno=fd.detach()) for fd in state)

    def put(self, value: object, block: bool = True, timeout: float | None = None) -> None:
        """Returns when it is written; waits, without a time limit, while very many wait unread."""
        files: list[int] = []

        def takes_part(buffer: pickle.PickleBuffer) -> bool:
            """False: the buffer is sent beside the pickle."""
            raw = buffer.raw()
            if raw.nbytes <= SMALL_BYTES or len(files) == MOST_FILES:
                return True
            files.append(file_of(raw))
            return False

        try:
            content = io.BytesIO()
            pickler = pickle.Pickler(content, protocol=5, buffer_callback=takes_part)
            own: Any = ChainMap(self.reducers, cast(Any, copyreg.dispatch_table))
            pickler.dispatch_table = own
            pickler.dump(value)
            message = content.getvalue()
            if len(message) > PACKET_BYTES:
                files.append(new_memory(len(message)))
                mapped(files[-1], len(message))[:] = memoryview(message)
                message = b""
            socket.send_fds(self._writer, [b"f" + message if message else b"F"], files)
        finally:
            for fd in files:
                os.close(fd)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The next message; raises queue.Empty where none comes in ``timeout`` seconds."""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        if not poll.poll(None if timeout is None and block else 1e3 * (timeout or 0)):
            raise queue.Empty
        packet, files, _, _ = socket.recv_fds(self._reader, PACKET_BYTES + 1, MOST_FILES + 1)
        try:
            if not packet:
                raise EOFError("the queue was closed")
            arrays = [mapped(fd, os.fstat(fd).st_size) for fd in files]
            content: Any = arrays.pop() if packet == b"F" else memoryview(packet)[1:]
            return pickle.loads(content, buffers=arrays)
        finally:
            for fd in files:
                os.close(fd)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def cancel_join_thread(self) -> None:
        """There is no thread."""

    join_thread = cancel_join_thread


class Event:
    """Set once, by any process, for all that it was given to."""

    def __init__(self) -> None:
        self._flags = SharedFlags(1)

    def set(self) -> None:
        self._flags.array[0] = 1

    def is_set(self) -> bool:
        return bool(self._flags.array[0])
