"""The file of sessions: one JSON object per line, compressed."""

import gzip
import json
from pathlib import Path
from typing import Any

SESSIONS = Path(__file__).with_name("sessions.jsonl.gz")
RENAMED = {"pairs": "slices", "more": "quantized_slices"}  # fields of the plan since lstmq 0.1.0
Session = dict[str, Any]


def read_sessions(path: Path = SESSIONS) -> list[Session]:
    """Return the sessions of a file in the order in which they ended; an empty list if there is no such file.

    Sessions of lstmq 0.1.0 are returned with today's names.
    """
    if not path.exists():
        return []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        sessions = [json.loads(line) for line in lines]
    for session in sessions:
        plan = {RENAMED.get(name, name): value for name, value in session["plan"].items()}
        plan.pop("clock", None)
        session["plan"] = plan | {"schemes": tuple(plan["schemes"])}
        session["machine"].setdefault("kernels", "")
    return sessions


def append_session(session: Session, path: Path) -> None:
    """Add a session to a file."""
    with gzip.open(path, "at", encoding="utf-8") as file:
        file.write(json.dumps(session, separators=(",", ":")) + "\n")
