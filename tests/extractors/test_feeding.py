"""A device is fed in order, and batches are halved until it can hold them."""

import contextlib

import pytest
import torch

from src.artifacts.errors import UserError
from src.extractors.feeding import FittingBatches, copied_ahead, read_back

CPU = torch.device("cpu")


OF_TENSORS = torch.OutOfMemoryError("CUDA out of memory")
OF_A_LIBRARY = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")


def holding(limit, error=OF_TENSORS):
    """Return work on rows that runs out of memory above ``limit`` rows, and the sizes it was given."""
    sizes = []

    def work(rows):
        sizes.append(rows.stop - rows.start)
        if sizes[-1] > limit:
            raise error
        return list(range(rows.start, rows.stop))

    return work, sizes


@pytest.mark.parametrize("n", [1, 3, 8, 11])
@pytest.mark.parametrize("limit", [1, 2, 5, 100])
@pytest.mark.parametrize("error", [OF_TENSORS, OF_A_LIBRARY])
def test_every_row_is_worked_on_once_and_in_order(n, limit, error):
    work, _ = holding(limit, error)
    results = FittingBatches().run(work, n)
    assert [row for result in results for row in result] == list(range(n))
    assert max(map(len, results)) <= limit


def test_later_batches_are_as_small_from_the_start_and_one_line_says_so(capsys):
    work, sizes = holding(3)
    fitting = FittingBatches()
    fitting.run(work, 8)
    assert sizes == [8, 4, 2, 2, 2, 2]
    sizes.clear()
    fitting.run(work, 8)
    assert sizes == [2, 2, 2, 2]
    assert capsys.readouterr().out.count("the GPU cannot hold 8 images at once") == 1


def test_a_gpu_that_cannot_hold_one_image_is_one_line():
    work, _ = holding(0)
    with pytest.raises(UserError, match="the GPU cannot hold one user"):
        FittingBatches(of="user").run(work, 4)


def test_other_errors_are_not_repeated():
    calls = []

    def work(rows):
        calls.append(rows)
        raise RuntimeError("a kernel failed")

    with pytest.raises(RuntimeError, match="kernel"):
        FittingBatches().run(work, 4)
    assert len(calls) == 1


def test_the_cpu_works_on_each_batch_when_it_is_asked_for():
    made = []

    def batches():
        for number in range(3):
            made.append(number)
            yield number, torch.full((2,), number)

    ahead = copied_ahead(batches(), CPU)
    results = read_back(((number, {"x": pixels}) for number, pixels in ahead), CPU)
    for expected in range(3):
        number, arrays = next(results)
        assert number == expected == arrays["x"][0]
        assert made == list(range(expected + 1))


class NotedStream:
    """Stream of a GPU that notes in a log which events it waits for."""

    def __init__(self, log):
        self.log, self.n_events = log, 0

    def record_event(self):
        self.n_events += 1
        return NotedEvent(self.log, self.n_events - 1)

    def wait_event(self, event):
        self.log.append(f"stream waits for copy {event.number}")


class NotedEvent:
    def __init__(self, log, number):
        self.log, self.number = log, number

    def synchronize(self):
        self.log.append(f"wait for result {self.number}")


class NotedTensor:
    """Tensor of one batch, whose copies are noted."""

    device = torch.device("cuda", 0)

    def __init__(self, log, number):
        self.log, self.number = log, number

    def to(self, device, *, non_blocking):
        assert non_blocking
        self.log.append(f"copy {self.number} to {torch.device(device).type}")
        return self

    def record_stream(self, stream):
        self.log.append(f"keep {self.number}")

    def numpy(self):
        return self.number


@pytest.fixture
def log(monkeypatch):
    """Let streams of a GPU note what they are asked for, in order."""
    log = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: NotedStream(log))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    results = NotedStream(log)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: results)
    return log


def test_a_gpu_gets_the_next_batch_before_it_works_on_this_one(log):
    batches = ((number, NotedTensor(log, number)) for number in range(3))
    for number, tensor in copied_ahead(batches, NotedTensor.device):
        assert number == tensor.number
        log.append(f"work on {number}")
    arrivals = [[f"stream waits for copy {n}", f"keep {n}", f"work on {n}"] for n in range(3)]
    copies = [[f"copy {n} to cuda"] for n in range(3)]
    assert log == [*copies[0], *copies[1], *arrivals[0], *copies[2], *arrivals[1], *arrivals[2]]


def test_a_gpu_gets_the_work_of_the_next_result_before_anybody_waits_for_this_one(log):
    def results():
        for number in range(3):
            log.append(f"work on {number}")
            yield number, {"x": NotedTensor(log, number)}

    found = [(number, arrays["x"]) for number, arrays in read_back(results(), NotedTensor.device)]
    assert found == [(0, 0), (1, 1), (2, 2)]
    issued = [[f"work on {n}", f"copy {n} to cpu"] for n in range(3)]
    waits = [[f"wait for result {n}"] for n in range(3)]
    assert log == [*issued[0], *issued[1], *waits[0], *issued[2], *waits[1], *waits[2]]
