"""What the machine offers: devices, their memory, their compute types."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ..errors import InvalidRequest, NotSupported
from .cpu import native

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def choose_device(name: str) -> torch.device:
    """Return the device that `name` asks for; `auto` prefers CUDA, then Metal, then the CPU.

    Raises InvalidRequest for an unknown name and NotSupported where the machine has no such device.
    """
    if name not in DEVICES:
        raise InvalidRequest(f"unknown device '{name}'", field="device", hint=f"one of {', '.join(DEVICES)}")
    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if has[kind])
    if not has[name]:
        raise NotSupported(f"this machine has no {name} device", field="device", hint="--device cpu")
    return torch.device(name)


def choose_dtype(name: str, stored: str, device: torch.device) -> torch.dtype:
    """Return the compute type: `auto` keeps float32 files in float32 and computes all others in bfloat16.

    stored: the type that holds most of the checkpoint's weights. Apple's GPUs take float16 for bfloat16.
    """
    if name == "auto":
        if stored in ("f32", "f64"):
            return torch.float32
        return torch.float16 if device.type == "mps" else torch.bfloat16
    if name not in DTYPES:
        raise InvalidRequest(
            f"unknown dtype '{name}'", field="dtype", hint=f"one of auto, {', '.join(DTYPES)}"
        )
    return DTYPES[name]


def maps_files(device: torch.device) -> bool:
    """Tell whether tensors on `device` can lie in a mapped file instead of memory of their own."""
    return device.type == "cpu"


def available_memory(device: torch.device) -> int:
    """Return the bytes that can still be taken on `device` without swapping (a generous guess elsewhere)."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if sys.platform == "linux":
        return min(_free_of_machine(), _free_of_container())
    if not hasattr(os, "sysconf"):
        return 8 << 30
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) // 2


def _free_of_machine() -> int:
    with open("/proc/meminfo", encoding="ascii") as meminfo:
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in meminfo}
    return sizes["MemAvailable"]


def _free_of_container(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return what the memory limit of this process's container leaves (cgroup v2); without one, everything."""
    try:
        limit = (cgroup / "memory.max").read_text("ascii").strip()
        used = int((cgroup / "memory.current").read_text("ascii"))
        parts = dict(line.split() for line in (cgroup / "memory.stat").read_text("ascii").splitlines())
        # Pages of files count as used, and go as soon as others are needed.
        return (
            sys.maxsize
            if limit == "max"
            else max(0, int(limit) - used + int(parts["file"]) - int(parts["shmem"]))
        )
    except (OSError, ValueError, KeyError):
        return sys.maxsize


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given; CPUs always have."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    if device.type == "mps":
        torch.mps.synchronize()


def trim_memory() -> None:
    """Give memory that loading has used and freed back to the system, where the C library can (glibc)."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


@contextmanager
def loading() -> Iterator[None]:
    """Have Python's interpreter serve two threads, of which one computes in Python and the other calls kernels.

    Each time that it comes back from one it would wait for 5 ms.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(interval / 50)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def set_threads(count: int) -> None:
    """Set how many CPU threads torch and the native kernels use."""
    torch.set_num_threads(count)
    native.set_threads(count)


def choose_threads(wanted: int | None) -> int:
    """Return how many CPU threads to use: as wanted, but not so many that the system refuses them."""
    return min(wanted, 16 * (os.cpu_count() or 1)) if wanted else physical_cores()


def physical_cores() -> int:
    """Count the physical cores that this process may run on; logical ones where the system does not tell."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = set()
    for cpu in allowed:
        path = f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        try:
            with open(path, encoding="ascii") as siblings:
                cores.add(siblings.read().strip())
        except OSError:
            return len(allowed)
    return len(cores)
