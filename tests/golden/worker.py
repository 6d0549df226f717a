"""Run scripts in forks of a process that has loaded the libraries already.

It reads one JSON object per line, ``{"arguments": [script, ...], "stdout": path, "stderr": path}``, and
answers each with the exit code of the script.
"""

import functools
import gc
import importlib
import json
import os
import runpy
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

# torch comes first: each of the two brings an LLVM, and the other order aborts Python.
LIBRARIES = ("torchvision", "tensorflow", "pandas", "scipy.stats", "matplotlib.pyplot", "tqdm")


def next_script() -> dict | None:
    """Return the next script in a new fork; None in the parent process after the end of its input."""
    for line in sys.stdin:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            return json.loads(line)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return None


def redirect(stream: int, path: str) -> None:
    """Let the file descriptor ``stream`` write to ``path``."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, stream)
    os.close(file)


def main() -> None:
    for library in LIBRARIES:
        importlib.import_module(library)
    # A collection in a fork would write to, and so copy, every page that it shares.
    gc.freeze()
    script = next_script()
    if script is None:
        return
    redirect(1, script["stdout"])
    redirect(2, script["stderr"])
    # The folder of this file would shadow libraries by the names of its modules.
    sys.path[0] = str(Path.cwd())
    is_module = script["arguments"][0] == "-m"
    sys.argv = script["arguments"][is_module:]
    start = functools.partial(runpy.run_module, alter_sys=True) if is_module else runpy.run_path
    # Taking down this process's many libraries would take longer than most scripts.
    os._exit(run_to_the_end(start))


def run_to_the_end(start: Callable[..., object]) -> int:
    """Return the exit code of the script or module that ``sys.argv`` begins with; flush the streams."""
    code: object = 0
    try:
        start(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    main()
