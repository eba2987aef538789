"""Other processes as a session sees them: an :class:`Environment`, and a worker of it that is :class:`Asked`."""

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
from typing import IO, Any

import lstmq
from lstmq.gate.worker import PROTOCOL

HERE, THERE = "here", "there"
TIMEOUT = 120.0  # seconds of silence after which a worker hangs


class SessionError(ValueError):
    """A session that cannot go on: a worker that died, hangs, refuses, or is not one of ours."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A Python with lstmq in it, and what starts a worker there."""

    name: str
    command: tuple[str, ...]
    variables: Mapping[str, str]

    @classmethod
    def here(cls) -> "Environment":
        """Return this interpreter with the very lstmq that is running."""
        place = str(Path(lstmq.__file__).parents[1])
        folders = [place, os.environ.get("PYTHONPATH", "")]  # an empty one would be the current folder
        variables = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, folders))}
        return cls(name=HERE, command=_command(sys.executable), variables=variables)

    @classmethod
    def there(cls, python: str | Path) -> "Environment":
        """Return another interpreter with what is installed for it, and nothing of this one."""
        variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
        return cls(name=THERE, command=_command(str(python)), variables=variables)


def _command(python: str) -> tuple[str, ...]:
    return (python, "-P", "-m", "lstmq.gate.worker")  # -P: the current folder may be a checkout of another commit


class WorkerProcess:
    """A worker from outside: started on entering, asked, closed on leaving."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._hung = False

    def __enter__(self) -> "WorkerProcess":
        self._errors: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own interpreter
                self._environment.command,
                env=dict(self._environment.variables),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            self._errors.close()
            raise SessionError(f"cannot start {self._environment.command[0]}: {error.strerror}") from None
        self._greeted = False
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        self.send(**request)
        return self.answer()

    def send(self, **request: Any) -> None:
        """Send a request; its answer is to be asked for before the next."""
        if not self._greeted:
            self._greet()
        assert self._process.stdin  # noqa: S101 - it is a pipe
        try:
            with self._watched(TIMEOUT):  # a long request waits for its reader
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure(self._ended(TIMEOUT)) from None

    def answer(self, longer: float = 0.0) -> dict[str, Any]:
        """Wait for one answer, for :data:`PATIENCE` and so many seconds more."""
        patience = TIMEOUT + longer
        assert self._process.stdout  # noqa: S101 - it is a pipe
        with self._watched(patience):
            line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._failure(self._ended(patience))
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self._failure(f"said {line.strip()[:60]!r}")
        if "error" in answer:
            raise SessionError(f"the worker {self._environment.name}: {' '.join(str(answer['error']).split())}")
        return answer

    @contextmanager
    def _watched(self, patience: float) -> Iterator[None]:
        """Kill the worker if the block takes longer."""
        watch = threading.Timer(patience, self._give_up)
        watch.daemon = True  # an interrupt may come while it starts, and is not to wait for it
        try:
            watch.start()
            yield
        finally:
            watch.cancel()

    def _ended(self, patience: float) -> str:
        return f"said nothing for {patience:.0f} s" if self._hung else "ended"

    def _greet(self) -> None:
        self._greeted = True
        self.hello = self.answer()
        if self.hello.get("protocol") != PROTOCOL:
            raise self._failure(
                f"speaks version {self.hello.get('protocol')} of the protocol (lstmq {self.hello.get('lstmq')}), "
                f"this is version {PROTOCOL} (lstmq {lstmq.__version__})"
            )

    def _give_up(self) -> None:
        self._hung = True
        self._process.kill()

    def _failure(self, what: str) -> SessionError:
        """Say what went wrong, with the last line that the worker wrote to standard error."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5 if what == "ended" else 0)
        self._process.kill()
        self._process.wait()
        self._errors.seek(0)
        last = (self._errors.read().strip().splitlines() or [""])[-1]
        code = self._process.returncode
        how = f", exit code {code}" if what == "ended" else ""
        return SessionError(
            f"the worker {self._environment.name} ({self._environment.command[0]}) {what}{how}{': ' * bool(last)}{last}"
        )
