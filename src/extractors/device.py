"""Where networks run."""

import torch

from src.artifacts.errors import UserError


def select_device(gpu: int) -> torch.device:
    """CUDA device ``gpu``, or the CPU for -1 and, with a printed line, where CUDA is absent.

    On CUDA, fp32 means fp32 and results repeat: TF32 and the kernels whose result depends on timing
    are switched off.
    """
    if gpu < 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        print("no CUDA device here: using the CPU")
        return torch.device("cpu")
    if gpu >= torch.cuda.device_count():
        raise UserError(
            f"there is no CUDA device {gpu}: 0 to {torch.cuda.device_count() - 1}, or -1"
        )
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda", gpu)
