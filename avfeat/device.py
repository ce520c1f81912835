"""The torch device that the encoders run on."""

import os

from avfeat.errors import SetupError


def resolve_device(text: str) -> str:
    """Return a device that torch can use: ``auto`` is the first GPU, or the CPU where there is none.

    Raises:
        SetupError: the device named does not exist here; says what does.
    """
    import torch

    if text == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=text)
    except (RuntimeError, AssertionError) as error:
        count = torch.cuda.device_count()
        here = f"cuda:0 to cuda:{count - 1}" if count else "only the CPU: this torch sees no GPU"
        raise SetupError(f"device {text!r} cannot be used; here is {here}.") from error
    return text


def prepare_device(device: str) -> None:
    """Have torch use what we may use of the machine, in full single precision."""
    import torch

    if device == "cpu":
        # More threads than the CPUs that we may use fight each other.
        torch.set_num_threads(min(torch.get_num_threads(), len(os.sched_getaffinity(0))))
    else:
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
