"""Compares int8-native with torch.ao, ONNX Runtime and OpenVINO: ``tox -e peers``.

Everything but the last table runs on one thread. In a round, all engines of a row run in turn; the next round is in
reverse order. The tables show the CPU time of the process: the median of the rounds and the quartiles. Quotients are
medians of the quotients within a round.

All tables take less than 15 minutes. These options take less than 5: --only modules --rounds 7
"""

import argparse
import sys
from datetime import UTC, datetime
from importlib.metadata import version

import torch
from tables import TABLES

from lstmq.comparison import describe_machine
from lstmq.progress import progress

PEERS = ("torch", "onnxruntime", "openvino", "nncf")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="tox -e peers --", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=TABLES, action="append", help="measure this table; may be given again")
    parser.add_argument("--rounds", type=int, default=15, help="of each row, 3 or more (default: 15)")
    options = parser.parse_args()
    if options.rounds < 3:
        parser.error(f"argument --rounds: expected 3 or more, found {options.rounds}")
    torch.set_num_threads(1)
    machine, versions = describe_machine(), ", ".join(f"{name} {version(name)}" for name in PEERS)
    print(f"{machine.cpu}; int8-native {machine.kernels}, {versions}; {datetime.now(UTC):%Y-%m-%d}", flush=True)
    for name in options.only or TABLES:
        table = TABLES[name](options.rounds)
        print(f"\n### {table.title}\n\n{table.note}\n")
        print(markdown(table.header), markdown(["---", *["---:"] * (len(table.header) - 1)]), sep="\n", flush=True)
        with progress(name, len(table.rows)) as advance:
            for row, measure_row in table.rows.items():
                advance(0, row)
                cells = measure_row()
                advance(1)
                print(markdown([row, *cells]), flush=True)


def markdown(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
