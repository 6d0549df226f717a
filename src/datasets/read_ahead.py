"""Reading batches in threads while the caller works on earlier ones."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Batch = TypeVar("Batch")
Read = TypeVar("Read")

THREADS = 4


def read_ahead(
    read: Callable[[Batch], Read], batches: Iterable[Batch], threads: int = THREADS
) -> Iterator[tuple[Batch, Read]]:
    """Yield (batch, ``read(batch)``) of each of the ``batches``, in their order.

    Up to ``threads`` batches are read at once, and twice as many ahead; 0 threads read each batch when
    it is asked for. Decoding of images runs in parallel, as it does not hold Python's lock.
    """
    if threads == 0:
        yield from ((batch, read(batch)) for batch in batches)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[Batch, Future[Read]]] = deque()
        try:
            for batch in batches:
                waiting.append((batch, pool.submit(read, batch)))
                if len(waiting) > 2 * threads:
                    first, found = waiting.popleft()
                    yield first, found.result()
            while waiting:
                first, found = waiting.popleft()
                yield first, found.result()
        finally:
            for _, found in waiting:
                found.cancel()
