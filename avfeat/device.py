"""The torch device that the encoders run on."""

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
