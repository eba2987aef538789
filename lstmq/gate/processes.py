"""Worker processes as a session sees them: an :class:`Environment`, and a :class:`WorkerProcess` that runs in it."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

import lstmq
from lstmq.gate.protocol import PROTOCOL, Hello

WORKER = ("-P", "-m", "lstmq.gate.worker")  # -P: the current folder may hold another version of lstmq
Answer = TypeVar("Answer")


def pin_process(pid: int, processor: int) -> bool:
    """Keep a process, 0 for this one, on a processor. Return whether the system allows it.

    It does nothing if the processor is -1.
    """
    if processor >= 0 and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):  # a container may forbid it
            os.sched_setaffinity(pid, {processor})
            return True
    return False


class SessionError(ValueError):
    """A session cannot go on: a worker died, hangs, refused a request, or speaks another protocol."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A Python with lstmq installed.

    Attributes:
        name: ``here`` or ``there``.
        command: the command that starts a worker.
        variables: its environment variables.
        timeout: seconds without an answer after which the worker is killed.
    """

    name: str
    command: tuple[str, ...]
    variables: Mapping[str, str]
    timeout: float = 120.0

    @classmethod
    def here(cls) -> "Environment":
        """Return this interpreter, with the lstmq that is running."""
        folder = str(Path(lstmq.__file__).parents[1])
        search_path = [folder, os.environ.get("PYTHONPATH", "")]  # an empty entry would mean the current folder
        variables = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, search_path))}
        return cls(name="here", command=(sys.executable, *WORKER), variables=variables)

    @classmethod
    def there(cls, python: str | Path) -> "Environment":
        """Return another interpreter, with what is installed for it, and nothing from this one."""
        variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
        return cls(name="there", command=(str(python), *WORKER), variables=variables)

    def start(self, processor: int = -1) -> "WorkerProcess":
        """Return a worker, which starts when its ``with`` block is entered.

        Args:
            processor: the processor to stay on, where the system allows it; -1 for any.
        """
        return WorkerProcess(self, processor)


class WorkerProcess:
    """A worker, as a context manager: the process starts on entering and ends on leaving."""

    def __init__(self, environment: Environment, processor: int = -1) -> None:
        self._environment, self._processor = environment, processor
        self._hello: Hello | None = None
        self._timed_out = False

    def __enter__(self) -> "WorkerProcess":
        self._errors: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own interpreter
                self._environment.command,
                env=dict(self._environment.variables),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            self._errors.close()
            raise SessionError(f"cannot start {self._environment.command[0]}: {error.strerror}") from None
        pin_process(self._process.pid, self._processor)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    @property
    def hello(self) -> Hello:
        """The first answer of the worker. Reads it at the first use.

        Raises:
            SessionError: in one line, if the worker speaks another protocol.
        """
        if self._hello is None:
            answer = self._read_answer(self._environment.timeout)
            if answer.get("protocol") != PROTOCOL:
                raise self._failure(
                    f"speaks version {answer.get('protocol')} of the protocol (lstmq {answer.get('lstmq')}), "
                    f"expected version {PROTOCOL} (lstmq {lstmq.__version__})"
                )
            self._hello = self._convert(answer, Hello)
        return self._hello

    def ask(self, answer: type[Answer], do: str, **arguments: Any) -> Answer:
        """Send a request and return its answer."""
        self.send(do, **arguments)
        return self.receive(answer)

    def send(self, do: str, **arguments: Any) -> None:
        """Send a request without waiting. Receive its answer before you send the next one."""
        request = json.dumps({"do": do, **msgspec.to_builtins(arguments)})
        assert self._process.stdin  # noqa: S101 - it is a pipe
        timeout = self._environment.timeout
        try:
            with self._time_limit(timeout):  # a long request waits until the worker reads
                self._process.stdin.write(request + "\n")
                self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure(self._ended(timeout)) from None

    def receive(self, answer: type[Answer], extra_seconds: float = 0.0) -> Answer:
        """Wait for an answer, for the timeout of the environment and so many seconds more."""
        _ = self.hello
        return self._convert(self._read_answer(self._environment.timeout + extra_seconds), answer)

    def _read_answer(self, timeout: float) -> dict[str, Any]:
        assert self._process.stdout  # noqa: S101 - it is a pipe
        with self._time_limit(timeout):
            line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._failure(self._ended(timeout))
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self._failure(f"wrote {line.strip()[:60]!r}")
        if "error" in answer:
            raise SessionError(f"the worker {self._environment.name}: {' '.join(str(answer['error']).split())}")
        return answer

    def _convert(self, answer: dict[str, Any], kind: type[Answer]) -> Answer:
        try:
            return msgspec.convert(answer, kind)
        except msgspec.ValidationError as error:
            raise self._failure(f"gave a wrong answer ({error})") from None

    @contextmanager
    def _time_limit(self, seconds: float) -> Iterator[None]:
        """Kill the worker if the block takes longer."""
        timer = threading.Timer(seconds, self._kill_after_timeout)
        timer.daemon = True  # an interrupt may arrive while it starts, and must not wait for it
        try:
            timer.start()
            yield
        finally:
            timer.cancel()

    def _kill_after_timeout(self) -> None:
        self._timed_out = True
        self._process.kill()

    def _ended(self, timeout: float) -> str:
        return f"did not answer for {timeout:.0f} s" if self._timed_out else "ended"

    def _failure(self, what: str) -> SessionError:
        """Return an error that says what went wrong, with the last line of the worker's standard error."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5 if what == "ended" else 0)
        self._process.kill()
        self._process.wait()
        self._errors.seek(0)
        last_line = (self._errors.read().strip().splitlines() or [""])[-1]
        exit_code = f", exit code {self._process.returncode}" if what == "ended" else ""
        message = f"the worker {self._environment.name} ({self._environment.command[0]}) {what}{exit_code}"
        return SessionError(f"{message}: {last_line}" if last_line else message)
