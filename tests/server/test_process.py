"""`llm serve` as a process: starting, its one line, signals, Unix sockets and TLS."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

PROGRAM = "import sys; sys.argv[0] = 'llm'; from mull.cli.main import main; main()"
HI = [{"role": "user", "content": "What is 3 + 4?"}]
LONG = {"num_predict": 1500, "logit_bias": {"505": -100, "507": -100}, "think": "off"}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Return what starts `llm serve` with arguments and variables; it returns the process and its address."""
    processes = []

    def begin(*args: str, **variables: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "serve", *args],
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        line = process.stdout.readline()
        assert line.startswith("mull listens on "), process.stderr.read()
        return process, line.split()[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a process; return its exit code and what it said."""
    _, said = process.communicate(timeout=200)
    return process.returncode, said


@pytest.fixture
def connect() -> Iterator[Callable[[str], HTTPConnection]]:
    """Return what connects to an address until the test ends."""
    with contextlib.ExitStack() as open_:
        yield lambda address: open_.enter_context(
            contextlib.closing(HTTPConnection(*address.removeprefix("http://").split(":"), timeout=200))
        )


def ask(connection: HTTPConnection, path: str, body: object = None):
    connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body))
    return connection.getresponse()


def test_a_server_needs_no_torch_until_a_model_is_asked_for():
    code = "import sys, mull.server.running, mull.cli.serve; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_an_idle_server_ends_at_a_signal_with_exit_code_0(start, connect):
    for number in (signal.SIGTERM, signal.SIGINT):
        process, address = start("--port", "0")
        assert ask(connect(address), "/health").status == 200
        process.send_signal(number)
        assert ended(process) == (0, "")


def test_running_replies_may_end_and_new_requests_are_refused(start, connect):
    process, address = start("--port", "0")
    running, later = connect(address), connect(address)
    reply = ask(running, "/mull/chat", {"model": "pocket", "request": {"messages": HI, "options": LONG}})
    assert json.loads(reply.readline())
    assert ask(later, "/health").read()
    process.send_signal(signal.SIGTERM)
    answer = ask(later, "/health")
    while answer.status == 200:  # until the signal has come
        answer.read()
        answer = ask(later, "/health")
    assert answer.status == 503
    answer.read()
    refused = ask(later, "/api/chat", {"model": "pocket", "messages": HI})
    assert (refused.status, json.loads(refused.read())) == (503, {"error": "the server is about to end"})
    *_, last = reply.read().splitlines()
    assert json.loads(last)["Done"]["reason"] == "length"
    later.close()
    running.close()
    code, said = ended(process)
    assert code == 0
    assert "1 replies may still end" in said
    assert "thinking=" in said  # the log of the reply


def test_a_second_signal_ends_at_once(start, connect):
    process, address = start("--port", "0")
    running = connect(address)
    reply = ask(running, "/mull/chat", {"model": "pocket", "request": {"messages": HI, "options": LONG}})
    assert json.loads(reply.readline())
    process.send_signal(signal.SIGINT)
    told = threading.Event()
    while not told.wait(0.005):
        line = process.stderr.readline()
        if "a second signal" in line:
            told.set()
    process.send_signal(signal.SIGINT)
    code, said = ended(process)
    assert code in (0, 130)  # 0: the reply was quicker
    assert "Traceback" not in said


def test_replies_that_outlast_their_grace_are_cut(start, connect):
    process, address = start("--port", "0", "--grace", "0")
    running = connect(address)
    reply = ask(running, "/mull/chat", {"model": "pocket", "request": {"messages": HI, "options": LONG}})
    assert json.loads(reply.readline())
    process.send_signal(signal.SIGTERM)
    code, said = ended(process)
    assert code == 0
    assert "Traceback" not in said


def test_a_unix_socket_is_listened_on_and_removed(start, tmp_path: Path):
    path = tmp_path / "mull.sock"
    process, address = start("--socket", str(path))
    assert address == str(path)
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(path))
        link.sendall(b"GET /health HTTP/1.1\r\nHost: mull\r\nConnection: close\r\n\r\n")
        assert b"200 OK" in link.recv(1000)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0
    assert not path.exists()


def test_the_environment_sets_what_the_command_line_does_not(start, connect):
    process, address = start(
        "--log-level", "error", OLLAMA_HOST="127.0.0.1:0", MULL_API_KEY="k", OLLAMA_DEBUG="1"
    )
    connection = connect(address)
    assert ask(connection, "/api/version").status == 401
    connection.close()
    connection.request("GET", "/api/version", headers={"Authorization": "Bearer k"})
    assert connection.getresponse().status == 200
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (0, "")


def test_models_of_the_command_line_are_loaded_at_once(start, connect):
    process, address = start("pocket", "--port", "0")
    connection = connect(address)
    pause = threading.Event()
    for _ in range(4000):
        answer = json.loads(ask(connection, "/health").read())
        if answer["models"] == 1:
            break
        pause.wait(0.005)
    assert answer["models"] == 1
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["--port", "x"], "--port must be a whole number from 0 to 65535", None),
        (["--parallel", "0"], "--parallel must be a whole number from 1", None),
        (["--keep-alive", "soon"], "--keep-alive must be seconds or a duration", None),
        (["--overflow", "newest"], "--overflow: 'newest' is unknown", "one of error, oldest, middle"),
        (["--log-level", "loud"], "--log-level: 'loud' is unknown", "one of debug, info, warning, error"),
        (["--host", "a b"], "--host: 'a b' is no address", None),
        (["--host", "192.0.2.1", "--port", "1"], "cannot listen on 192.0.2.1:1", None),
        (["--tls-key", "k.pem"], "a key needs its certificate", "--tls-cert FILE"),
        (["--tls-cert", "/no/such.pem"], "the certificate or its key cannot be used", None),
        (["--api-key-file", "/no/such"], "the keys cannot be read", None),
        (["--api-key", " "], "no API key was given", None),
        (["--speculate", "much"], "'much' is no way to speculate", None),
        (["no-such-model"], "model 'no-such-model' not found", None),
    ],
)
def test_what_is_wrong_with_the_command_line_is_told(args, message, hint, capsys, monkeypatch, tmp_path):
    from mull.cli.main import run_command

    monkeypatch.setenv("MULL_MODELS", str(tmp_path))
    # It would go on writing to what stands for stderr here.
    monkeypatch.setattr("mull.server.running.start_log", lambda level: None)
    assert run_command(["serve", "--port", "0", *args]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {message}")
    assert hint is None or f"hint: {hint}\n" in said


def test_a_bad_variable_is_told_by_its_name(capsys, monkeypatch):
    from mull.cli.main import run_command

    monkeypatch.setenv("OLLAMA_NUM_PARALLEL", "many")
    assert run_command(["serve"]) == 1
    assert capsys.readouterr().err.startswith(
        "error: OLLAMA_NUM_PARALLEL must be a whole number from 1 to 256"
    )


def test_https_with_a_certificate(start, tmp_path: Path):
    cert = tmp_path / "cert.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(tmp_path / "key.pem"),
         "-out", str(cert), "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("needs openssl")
    _, address = start("--port", "0", "--tls-cert", str(cert), "--tls-key", str(tmp_path / "key.pem"))
    assert address.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cafile=str(cert))
    with (
        socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1]))) as link,
        context.wrap_socket(link, server_hostname="localhost") as secure,
    ):
        secure.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b"200 OK" in secure.recv(1000)
