"""Fixtures that several test files share."""

import importlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from PIL import Image

from tests.warm_python import WarmPython, warm_python


def pytest_configure() -> None:
    """Load torch's compiler before TensorFlow: each brings an LLVM, and the other order aborts Python.

    Only tests have both in one process.
    """
    importlib.import_module("torchvision")


# No test fails for being slow on a busy machine.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


NUMERICAL = """
agreement annealed arp attack_ranking_script attack_rec attacks_gradient attacks_ranking attention
attention_attack attention_metrics bounds bounds_audit bpr_mf cw ddn defences delta embedders
evaluate_attention evaluate_images evaluate_robustness expectation extractor extractor_contract hardness
heads image_quality inference inversion inversion_loop least_likely list_goals median_smoothing
metric_losses metrics_effects metrics_retrieval metrics_significance miners networks
open_clip_models pairwise_loss parameter_attack perceptual pgd preprocess privacy_training ranking_topk
reading_size rec_generator recipes semsim storage timm_models tour training vbpr vulnerability
"""
"""Names of the test files (``test_<name>.py``) whose outcomes pass through floating-point kernels."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Spare the imports of the other files if numerical tests alone are chosen."""
    is_test = collection_path.name.startswith("test_")
    others = is_test and collection_path.stem.removeprefix("test_") not in NUMERICAL.split()
    return True if others and config.option.markexpr.startswith("numerical") else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark numerical tests; files with most slow tests, then with most tests, come first.

    A worker that takes a long file last would be the only one at work.
    """
    slow: Counter[Path] = Counter()
    for item in items:
        if item.path.stem.removeprefix("test_") in NUMERICAL.split():
            item.add_marker(pytest.mark.numerical)
        slow[item.path] += item.get_closest_marker("slow") is not None
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (-slow[item.path], -tests[item.path], item.path))


@dataclass
class WebServer:
    """Server on 127.0.0.1 whose files and failures a test chooses. Paths begin with '/'."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    busy: Counter[str] = field(default_factory=Counter)
    """Number of first requests for a path that are answered with 503."""
    cuts: dict[str, int] = field(default_factory=dict)
    """Number of bytes after which the next answer for a path ends."""
    ranges: bool = True
    """True if a client can request the rest of a file."""
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Pairs (path, requested range) of all requests so far."""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path, wanted = request.path, request.headers.get("Range")
        self.requests.append((path, wanted))
        if self.busy[path] > 0:
            self.busy[path] -= 1
            request.send_error(503)
            return
        if path not in self.files:
            request.send_error(404)
            return
        content, first = self.files[path], 0
        if wanted and self.ranges:
            first = int(wanted.removeprefix("bytes=").split("-")[0])
            if first >= len(content):
                request.send_error(416)
                return
            request.send_response(206)
            last = len(content) - 1
            request.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(len(content) - first))
        request.end_headers()
        request.wfile.write(content[first : self.cuts.pop(path, len(content))])


@pytest.fixture
def web_server(monkeypatch) -> Iterator[WebServer]:
    server = WebServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, *_: object) -> None:
            """Keep the test output clean."""

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listener.server_port}"
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    listener.shutdown()
    listener.server_close()


@pytest.fixture
def draw_images() -> Callable[[Path, int], Path]:
    """Return ``draw_images(folder, n, size=48)``, which writes n JPEGs 0.jpg ... of random gradients."""

    def draw(folder: Path, n: int, size: int = 48) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for item in range(n):
            corners = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
            picture = Image.fromarray(corners).resize((size, size), Image.Resampling.BILINEAR)
            picture.save(folder / f"{item}.jpg", quality=95)
        return folder

    return draw


@pytest.fixture
def stopped_after_an_epoch(monkeypatch) -> Callable[..., None]:
    """Return ``stopped_after_an_epoch(train, ...)``: a call, interrupted after its first saved epoch."""
    from src.training import loop

    save = loop._save

    def save_and_stop(*arguments: object) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    def call(train: Callable[..., object], *arguments: object) -> None:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(loop, "_save", save_and_stop)
            train(*arguments)

    return call


@pytest.fixture(scope="session")
def python(tmp_path_factory) -> Iterator[WarmPython]:
    """Python that has loaded the libraries: programs that it stands for start in a moment."""
    with warm_python(tmp_path_factory.mktemp("python"), os.environ) as warm:
        yield warm


@pytest.fixture
def gpu_holds(monkeypatch) -> Callable[..., list[int]]:
    """Return ``gpu_holds(n)``: forward passes of more than n images run out of memory from then on.

    ``gpu_holds(n, kind, name)`` limits the images of another method. Both return a list that grows: the
    number of images in each pass that was not too large.
    """
    import torch

    from src.extractors.extractor import Extractor

    def limit(n_images: int, kind: type = Extractor, name: str = "forward") -> list[int]:
        method, sizes = getattr(kind, name), []

        def small_gpu(self: object, images: torch.Tensor, *others: object) -> object:
            if len(images) > n_images:
                raise torch.OutOfMemoryError("CUDA out of memory")
            sizes.append(len(images))
            return method(self, images, *others)

        monkeypatch.setattr(kind, name, small_gpu)
        return sizes

    return limit


@pytest.fixture(scope="session")
def tiny_extractor():
    """Untrained ShuffleNet of 5 classes, with batch norm statistics, which tests must not change."""
    torch = pytest.importorskip("torch")
    from src.extractors.architectures import build_network
    from src.extractors.extractor import Extractor

    torch.manual_seed(0)
    network = build_network("shufflenet_v2_x0_5", 5)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    # Far enough apart to give several images different classes.
    network.fc.weight.data.mul_(20)
    labels = ("sandal", "running shoe", "jeans, denims", "hat", "watch")
    extractor = Extractor(network, labels, "fc", arch="shufflenet_v2_x0_5")
    return extractor.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_extractor, tmp_path_factory) -> Path:
    """Checkpoint of ``tiny_extractor`` in the project's own format."""
    from src.extractors.checkpoints import save_extractor

    path = tmp_path_factory.mktemp("checkpoint") / "tiny.pt"
    save_extractor(path, tiny_extractor)
    return path
