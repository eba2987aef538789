"""Starts ``broken_worker.py`` as a fork of a process that has already imported torch. That saves seconds per worker.

``python fork_worker.py SABOTAGE`` asks the process that listens on a socket for a worker, which gets the input, the
output, the folder and the variables of this process. This process ends as the worker ends. If this process is killed,
the worker is too. Without a socket, this process is the worker.
"""

import json
import os
import select
import signal
import socket
import sys
from pathlib import Path

SOCKET = "LSTMQ_TEST_WORKERS"  # the variable with the path of the socket
MAX_REQUEST = 2**20


def start_server(path, run):
    """Start the process that starts workers, and return its ID.

    Args:
        path: of the socket to listen on.
        run: what a worker does. Takes the sabotage, and the ID of the process that asked for the worker.
    """
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    if process := os.fork():
        listening.close()
        return process
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes below
    while True:
        client, _ = listening.accept()
        with client:
            if not os.fork():
                listening.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _start_worker(client, run)
                sys.exit()


def _start_worker(client, run):
    """Start a worker, and wait until it or its client ends."""
    request, streams, *_ = socket.recv_fds(client, MAX_REQUEST, 3)
    process = os.fork()
    if not process:
        client.close()
        _run_worker(streams, **json.loads(request), run=run)
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(process)
    if ended in select.select([client, ended], [], [])[0]:
        exit_code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        client.sendall(str(exit_code).encode())
    else:  # the client was killed
        os.kill(process, signal.SIGKILL)


def _run_worker(streams, *, folder, variables, session, sabotage, run):
    """Do what a worker does, and end this process."""
    for descriptor, stream in enumerate(streams):
        os.dup2(stream, descriptor)
        os.close(stream)
    sys.stdin = os.fdopen(0, encoding="utf-8")
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    run(sabotage, session)
    sys.exit()


def main(sabotage):
    """Ask for a worker, and end as it ends."""
    if SOCKET not in os.environ:
        import broken_worker

        broken_worker.main(sabotage, os.getppid())
        return
    request = {"folder": str(Path.cwd()), "variables": dict(os.environ), "session": os.getppid(), "sabotage": sabotage}
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ[SOCKET])
        socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
        exit_code = int(server.recv(16) or 1)
    if exit_code < 0:
        os.kill(os.getpid(), -exit_code)
    sys.exit(exit_code)


if __name__ == "__main__":
    main(sys.argv[1])
