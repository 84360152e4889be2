"""Addresses as people write them, and listening there."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from mull.errors import InvalidRequest
from mull.server.address import Address, CannotListen, listen, parse_address
from mull.server.options import ServerOptions


@pytest.mark.parametrize(
    ("text", "address", "url"),
    [
        ("127.0.0.1", Address("127.0.0.1", 11434), "http://127.0.0.1:11434"),
        ("0.0.0.0", Address("0.0.0.0", 11434), "http://127.0.0.1:11434"),
        ("example.com:8080", Address("example.com", 8080), "http://example.com:8080"),
        (":8080", Address("127.0.0.1", 8080), "http://127.0.0.1:8080"),
        ("http://host", Address("host", 80), "http://host:80"),
        ("https://host", Address("host", 443, "https"), "https://host:443"),
        ("https://host:8443/api", Address("host", 8443, "https"), "https://host:8443"),
        ("[::1]:99", Address("::1", 99), "http://[::1]:99"),
        ("[::]", Address("::", 11434), "http://[::1]:11434"),
        ("::1", Address("::1", 11434), "http://[::1]:11434"),
    ],
)
def test_addresses_are_read(text: str, address: Address, url: str):
    assert parse_address(text) == address
    assert parse_address(text).url == url


@pytest.mark.parametrize(
    "text", ["host:99999", "host:port", "ftp://host", "a b:c", "a b", "[::1", "host:1:2"]
)
def test_what_is_no_address_is_refused_by_the_name_of_its_source(text: str):
    with pytest.raises(InvalidRequest, match=r"OLLAMA_HOST: .* is no address"):
        parse_address(text, "OLLAMA_HOST")


def test_a_port_in_use_is_told():
    first = listen(ServerOptions(port=0))
    try:
        port = first[0].getsockname()[1]
        with pytest.raises(CannotListen, match=f"127.0.0.1:{port} is in use"):
            listen(ServerOptions(port=port))
    finally:
        first[0].close()


def test_an_address_of_another_machine_is_told():
    with pytest.raises(CannotListen, match=r"cannot listen on 192\.0\.2\.1:4711"):
        listen(ServerOptions(host="192.0.2.1", port=4711))


def test_a_unix_socket_is_its_owners_alone_and_a_dead_one_gives_way(tmp_path: Path):
    path = str(tmp_path / "mull.sock")
    (first,) = listen(ServerOptions(socket=path))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with pytest.raises(CannotListen, match="is in use"):
        listen(ServerOptions(socket=path))
    first.close()
    (second,) = listen(ServerOptions(socket=path))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    second.close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(CannotListen):
        listen(ServerOptions(socket=str(path)))
    assert path.read_text() == "mine"
