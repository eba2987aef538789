"""``lstmq train``: a checkpoint from a corpus."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
import torch
import torch.distributed as dist

from lstmq import checkpoint
from lstmq.cli.common import FILE, Advance, progress
from lstmq.corpus import Corpus
from lstmq.curves import Log, plot
from lstmq.evaluation import perplexity
from lstmq.files import whole_file
from lstmq.model import LSTMModel, ModelConfig
from lstmq.training import DTYPES, OPTIMIZERS, Epoch, Step, TrainConfig, Trainer, TrainingError
from lstmq.workload import find_corpus

SHAPE, HOW = ModelConfig(dropout=0.2), TrainConfig()


@click.command("train")
@click.option("--corpus", type=FILE, help="Folder of text, or wikitext-2 once fetched. [the embedded sample]")
@click.option("--out", type=FILE, required=True, help="The best model, .safetensors or .pth, after every epoch.")
@click.option("--ninp", type=int, default=SHAPE.ninp, help="Width of the embedding.")
@click.option("--nhid", type=int, default=SHAPE.nhid, help="Width of the LSTM's state.")
@click.option("--nlayers", type=int, default=SHAPE.nlayers, help="LSTM layers.")
@click.option("--dropout", type=float, default=SHAPE.dropout)
@click.option("--epochs", type=int, default=HOW.epochs)
@click.option("--batch-size", type=int, default=HOW.batch_size, help="Columns, over all processes together.")
@click.option("--bptt", type=int, default=HOW.bptt, help="Longest window, in tokens.")
@click.option("--lr", type=float, help="Learning rate. [20.0; 0.001 for adamw]")
@click.option("--clip", type=float, default=HOW.clip, help="Largest norm of the gradient.")
@click.option("--optimizer", type=click.Choice([*OPTIMIZERS]), default=HOW.optimizer)
@click.option("--device", default="auto", help="auto: a GPU if there is one; or cpu, cuda, cuda:1, ...")
@click.option("--dtype", type=click.Choice([*DTYPES]), default=HOW.dtype, help="What products are computed in.")
@click.option("--seed", type=int, default=HOW.seed)
@click.option("--threads", type=click.IntRange(min=1), help="Threads that torch computes on. [torch's own]")
@click.option("--resume", is_flag=True, help="Go on where OUT.resume was left.")
@click.option("--save-every", type=float, default=5.0, help="Minutes between two writings of OUT.resume.")
@click.option(
    "--log",
    "--log-file",  # torchrun takes --log for a short form of its own options
    "log_file",
    type=FILE,
    help="Write the losses to this file, a JSON object a line.",
)
@click.option("--plot", "plot_file", type=FILE, help="Draw the log's curves: .png, .svg or .pdf.")
def train_command(
    *,
    corpus: Path | None,
    out: Path,
    ninp: int,
    nhid: int,
    nlayers: int,
    dropout: float,
    lr: float | None,
    device: str,
    threads: int | None,
    resume: bool,
    save_every: float,
    log_file: Path | None,
    plot_file: Path | None,
    **how: Any,
) -> None:
    """Train a model as PyTorch's word language model example does, and keep the one that validates best.

    An interrupted run goes on with --resume and ends bit by bit where it would have ended. Several processes share
    the work under torchrun: torchrun --nproc-per-node 2 -m lstmq train ...
    """
    if threads:
        torch.set_num_threads(threads)
    if plot_file and not log_file:
        raise click.UsageError("--plot draws what --log writes: give both")
    if lr is None:
        lr = 0.001 if how["optimizer"] == "adamw" else HOW.lr
    config = TrainConfig(lr=lr, **how)
    with _process_group(device) as (place, writes):
        text = Corpus(find_corpus(corpus))
        shape = ModelConfig(ntoken=len(text.dictionary), ninp=ninp, nhid=nhid, nlayers=nlayers, dropout=dropout)
        model = LSTMModel(shape, torch.Generator().manual_seed(config.seed)).to(place)
        trainer = Trainer(model, text.train, text.valid, config)
        unfinished = out.with_name(f"{out.name}.resume")
        _begin(trainer, out, unfinished, resume)
        with (
            Log(log_file if writes else None, trainer.epoch, trainer.step) as log,
            _interrupts() as interrupted,
            progress("training", trainer.steps * config.epochs, shown=writes) as advance,
        ):
            finished = _train(trainer, writes, out, unfinished, save_every, log, advance, interrupted)
        if not finished:
            if writes:
                where = f"epoch {trainer.epoch + 1}, step {trainer.step}"
                click.echo(f"lstmq: interrupted at {where}: go on with --resume", err=True)
            raise SystemExit(130)
        if writes:
            unfinished.unlink(missing_ok=True)
            best = trainer.best_loss
            click.echo(f"best validation loss {best:.4f}, perplexity {perplexity(best):,.2f}: {out}")
            if log_file and plot_file:
                plot(log_file, plot_file)


def _begin(trainer: Trainer, out: Path, unfinished: Path, resume: bool) -> None:
    """Take up an unfinished run, or see that a new one overwrites none."""
    if not out.parent.is_dir():
        raise ValueError(f"no such folder to write to: {out.parent}")
    if resume and not unfinished.exists() and out.exists():
        raise ValueError(f"nothing to resume: {out} is there and {unfinished.name} is not, so the run was finished")
    if unfinished.exists():
        if not resume:
            raise ValueError(f"{unfinished} is an unfinished run: go on with --resume, or delete it")
        try:
            trainer.restore(checkpoint.read(unfinished))
        except TrainingError as error:
            raise TrainingError(f"cannot resume from {unfinished}: {error}") from None


def _train(
    trainer: Trainer,
    writes: bool,
    out: Path,
    unfinished: Path,
    save_every: float,
    log: Log,
    advance: Advance,
    interrupted: threading.Event,
) -> bool:
    """Run, and write down what is worth it: return whether the end was reached."""
    epochs, tokens, seconds, epoch_seconds = trainer.config.epochs, 0, 0.0, 0.0
    advance(trainer.epoch * trainer.steps + trainer.step)
    saved = last = time.monotonic()
    for event in trainer.run():
        elapsed = time.monotonic() - last
        epoch_seconds += elapsed
        epoch, loss = event.epoch + 1, event.loss
        if isinstance(event, Step):
            tokens, seconds = tokens + event.tokens, seconds + elapsed
            rate = tokens / seconds
            log.write("step", epoch, event.step, of=trainer.steps, loss=loss, tokens_per_second=round(rate, 1))
            advance(
                event.steps,
                f"{epoch}/{epochs}: loss {loss:.3f} perplexity {perplexity(loss):,.1f} {rate:,.0f} tokens/s",
            )
        else:
            log.write("epoch", epoch, trainer.steps, lr=event.lr, train_loss=loss, valid_loss=event.valid_loss)
            if writes:
                valid = f"valid loss {event.valid_loss:.4f} perplexity {perplexity(event.valid_loss):,.2f}"
                train = f"train loss {loss:.4f} perplexity {perplexity(loss):,.2f}"
                mark = " *" if event.improved else ""
                click.echo(f"epoch {epoch}/{epochs}  {epoch_seconds:.1f} s  lr {event.lr:g}  {train}  {valid}{mark}")
                if event.improved:
                    checkpoint.save(trainer.best_model(), out)
            epoch_seconds = 0.0
        stop = trainer.any_process(interrupted.is_set())
        due = isinstance(event, Epoch) or time.monotonic() - saved > save_every * 60
        if trainer.any_process(stop or due):
            state = trainer.state()
            if writes:
                with whole_file(unfinished) as temporary:
                    torch.save(state, temporary)
            saved = time.monotonic()
        if stop:
            return False
        last = time.monotonic()
    return True


@contextmanager
def _process_group(device: str) -> Iterator[tuple[torch.device, bool]]:
    """Join the processes that torchrun started, if it did; give this one's device, and whether it is to write."""
    gpu = torch.cuda.is_available() if device == "auto" else device.startswith("cuda")
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    if device == "auto":
        device = f"cuda:{local}" if gpu else "cpu"
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:  # torch says either, of a device that it has not
        raise ValueError(f"no device {device!r}: {str(error).partition(chr(10))[0]}") from None
    if "WORLD_SIZE" not in os.environ:
        yield place, True
        return
    dist.init_process_group("nccl" if gpu else "gloo")
    try:
        yield place, rank == 0
    finally:
        dist.destroy_process_group()


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Give what is set at the first interrupt or termination, so that a step is never cut in two; the second kills."""
    asked = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.set()
        signal.signal(number, signal.SIG_DFL)

    try:
        for number in signals:
            signal.signal(number, ask)
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
