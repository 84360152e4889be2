"""What the machine is said to offer."""

from __future__ import annotations

import os
import sys

import torch
from mull.kernels import device
from mull.kernels.device import available_memory, choose_threads, maps_files


def limit(folder, most, current):
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    (folder / "memory.stat").write_text("anon 100\nfile 700\nshmem 200\n")


def test_a_containers_limit_counts_and_pages_of_files_are_free(tmp_path):
    limit(tmp_path, 4000, 3000)
    assert device._free_of_container(tmp_path) == 1500
    limit(tmp_path, 1000, 3000)
    assert device._free_of_container(tmp_path) == 0


def test_without_a_limit_the_machines_memory_counts(tmp_path):
    assert device._free_of_container(tmp_path) == sys.maxsize
    limit(tmp_path, "max", 3000)
    assert device._free_of_container(tmp_path) == sys.maxsize


def test_memory_is_known_on_systems_that_tell_little(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(device.os, "sysconf")
    assert available_memory(torch.device("cpu")) > 1 << 30


def test_only_the_cpu_reads_weights_from_the_file():
    assert maps_files(torch.device("cpu"))
    assert not maps_files(torch.device("cuda"))


def test_threads_are_as_wanted_within_reason():
    assert choose_threads(1) == 1
    assert choose_threads(None) == choose_threads(0) >= 1
    assert choose_threads(1_000_000) == 16 * (os.cpu_count() or 1)
