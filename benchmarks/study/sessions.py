"""The file of sessions: one JSON object per line, compressed."""

import fcntl
import gzip
import json
from pathlib import Path
from typing import Any

SESSIONS = Path(__file__).with_name("sessions.jsonl.gz")
Session = dict[str, Any]

CONDITIONS = ("idle", "loaded")
LOADED = 0.1  # processors that others keep busy, from which on a session counts as loaded


def read_sessions(path: Path = SESSIONS) -> list[Session]:
    """Return the sessions of a file in the order in which they ended; an empty list if there is no such file."""
    if not path.exists():
        return []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def append_session(session: Session, path: Path) -> None:
    """Add a session to a file, to which other processes add theirs."""
    line = json.dumps(session, separators=(",", ":")) + "\n"
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(gzip.compress(line.encode()))


def condition_of(session: Session) -> str:
    """Return whether the machine did anything else during a session."""
    return CONDITIONS[session["others"] >= LOADED]
