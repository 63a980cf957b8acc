"""What this node computes on, as torch sees it; called in child processes, for the node itself loads no torch."""

from __future__ import annotations

import platform

from btt_bridge import plugins


def describe(device: str) -> tuple[str, str]:
    """Return the torch device that `device` (auto, cpu, cuda, cuda:N) stands for, and what to call it."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device, f"CPU {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    facts = torch.cuda.get_device_properties(torch.device(device))
    memory_gib = facts.total_memory / 2**30
    return device, f"{facts.name}, {memory_gib:.0f} GiB, CUDA {torch.version.cuda}, torch {torch.__version__}"


def warm(device: str, threads: int) -> None:
    """Do in a new child what need not wait for a job: find the services, start torch's threads, or wake the GPU."""
    import torch

    plugins.services()
    device, _ = describe(device)
    set_threads(device, threads)
    square = torch.ones(512, 512, device=device)
    (square @ square).sum().item()


def set_threads(device: str, threads: int) -> None:
    """Limit torch to so many CPU threads, where a limit is set."""
    if threads and device == "cpu":
        import torch

        torch.set_num_threads(threads)
