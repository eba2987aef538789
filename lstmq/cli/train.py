"""``lstmq train``: a checkpoint from a corpus."""

import threading
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lstmq.cli.interrupts import interrupts
from lstmq.cli.options import FILE, FOLDER, SEED, THREADS
from lstmq.figures import check_figure_path
from lstmq.files import atomic_write
from lstmq.model import ModelConfig
from lstmq.progress import Advance, progress
from lstmq.training import DTYPES, OPTIMIZERS, TrainConfig

if TYPE_CHECKING:
    from lstmq.training import Trainer, TrainingLog

SHAPE, HOW = ModelConfig(dropout=0.2), TrainConfig()
SHAPE_NAMES = ("ninp", "nhid", "nlayers", "dropout")


@click.command("train")
@click.option("--corpus", type=FOLDER, help="Folder of text, or wikitext-2 once fetched. [the embedded sample]")
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
@click.option("--seed", type=SEED, default=HOW.seed)
@click.option("--threads", type=THREADS, help="Threads that torch computes on. [torch's own]")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on where OUT.resume was left: what shapes the model and the training is taken over from there.",
)
@click.option(
    "--save-every", type=click.FloatRange(min=0), default=5.0, help="Minutes between two writings of OUT.resume."
)
@click.option(
    "--log",
    "--log-file",  # torchrun takes --log for a short form of its own options
    "log_file",
    type=FILE,
    help="Write the losses to this file, a JSON object a line.",
)
@click.option("--plot", "plot_file", type=FILE, help="Draw the log's curves: .png, .svg or .pdf.")
@click.pass_context
def train_command(
    context: click.Context,
    /,
    *,
    corpus: Path | None,
    out: Path,
    device: str,
    threads: int | None,
    resume: bool,
    save_every: float,
    log_file: Path | None,
    plot_file: Path | None,
    **options: Any,
) -> None:
    """Train a model on a corpus.

    It follows PyTorch's word language model example, and keeps the model that validates best. An interrupted run
    goes on with --resume and ends bit by bit where it would have ended. Several processes share the work under
    torchrun: torchrun --nproc-per-node 2 -m lstmq train ...
    """
    import torch

    from lstmq.model import LSTMModel, perplexity
    from lstmq.text import Corpus
    from lstmq.training import Trainer, TrainingError, TrainingLog, plot_log, process_group
    from lstmq.workload import find_corpus

    if threads:
        torch.set_num_threads(threads)
    if plot_file and not log_file:
        raise click.UsageError("--plot draws what --log writes: give both")
    if plot_file:
        check_figure_path(plot_file)
    if len({out, log_file, plot_file} - {None}) < sum(path is not None for path in (out, log_file, plot_file)):
        raise click.UsageError("--out, --log and --plot must be different files")
    unfinished = out.with_name(f"{out.name}.resume")
    state = _state_to_resume(out, unfinished, resume)
    if state is not None:
        given = {name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
        options |= {name: value for name, value in _options(state, unfinished).items() if name not in given}
    elif options["lr"] is None:
        options["lr"] = 0.001 if options["optimizer"] == "adamw" else HOW.lr
    config = TrainConfig(**{name: value for name, value in options.items() if name not in SHAPE_NAMES})
    with process_group(device) as (place, writes):
        text = Corpus(find_corpus(corpus))
        shape = ModelConfig(ntoken=len(text.dictionary), **{name: options[name] for name in SHAPE_NAMES})
        model = LSTMModel(shape, torch.Generator().manual_seed(config.seed)).to(place)
        trainer = Trainer(model, text.train, text.valid, config)
        if state is not None:
            try:
                trainer.restore(state)
            except TrainingError as error:
                raise TrainingError(f"cannot resume from {unfinished}: {error}") from None
        with (
            TrainingLog(log_file if writes else None, trainer.epoch, trainer.step) as log,
            interrupts() as interrupted,
            progress("training", trainer.steps * config.epochs, shown=writes) as advance,
        ):
            outputs = Outputs(writes=writes, best=out, unfinished=unfinished, log=log, save_every=save_every)
            finished = _train(trainer, outputs, advance, interrupted)
        if not finished:
            if writes:
                last = trainer.epoch == config.epochs
                where = "the end" if last else f"epoch {trainer.epoch + 1}, step {trainer.step}"
                click.echo(f"lstmq: interrupted at {where}: go on with --resume", err=True)
            raise SystemExit(130)
        if writes:
            unfinished.unlink(missing_ok=True)
            best = trainer.best_loss
            click.echo(f"best validation loss {best:.4f}, perplexity {perplexity(best):,.2f}: {out}")
            if log_file and plot_file:
                plot_log(log_file, plot_file)


def _state_to_resume(out: Path, unfinished: Path, resume: bool) -> Any:
    """Return the state of an unfinished run, if one is to be taken up; see that a new one overwrites none."""
    if not out.parent.is_dir():
        raise ValueError(f"no such folder to write to: {out.parent}")
    if unfinished.exists():
        if not resume:
            raise ValueError(f"{unfinished} is an unfinished run: go on with --resume, or delete it")
        from lstmq.model import read_tensors

        return read_tensors(unfinished)
    if resume and out.exists():
        raise ValueError(f"nothing to resume: {out} is there and {unfinished.name} is not, so the run was finished")
    return None


def _options(state: Any, unfinished: Path) -> dict[str, Any]:
    """Return the options that a run was started with."""
    from lstmq.training import TrainingError

    names = [field.name for field in fields(TrainConfig)]
    try:
        shape, how = state["model_config"], state["train_config"]
        options = {name: shape[name] for name in SHAPE_NAMES} | {name: how[name] for name in names}
        if len(how) != len(names) or not all(isinstance(value, int | float | str) for value in options.values()):
            raise TypeError("other options than this version's")
        return options
    except (KeyError, TypeError, IndexError):
        raise TrainingError(f"cannot resume from {unfinished}: it is not the state of a run of this version") from None


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a run writes, if this process is the one of them that writes."""

    writes: bool
    best: Path
    unfinished: Path
    log: "TrainingLog"
    save_every: float  # minutes

    def save_state(self, trainer: "Trainer") -> None:
        """Write down where the run is; every process must call it."""
        import torch

        state = trainer.state()
        if self.writes:
            with atomic_write(self.unfinished) as temporary:
                torch.save(state, temporary)

    def save_best(self, trainer: "Trainer") -> None:
        """Write the best model so far, if there is one."""
        from lstmq.model import save_checkpoint

        if self.writes and trainer.best_loss < float("inf"):
            save_checkpoint(trainer.best_model(), self.best)


def _train(trainer: "Trainer", outputs: Outputs, advance: Advance, interrupted: threading.Event) -> bool:
    """Run, and write down what is worth it: return whether the end was reached.

    A run is unfinished as long as its state is there, so the state is written first of all, and before every best
    model; one that was killed between the two writes the best model when it goes on.
    """
    from lstmq.model import perplexity
    from lstmq.training import EpochResult, StepResult

    log, epochs, tokens, seconds, epoch_seconds = outputs.log, trainer.config.epochs, 0, 0.0, 0.0
    outputs.save_state(trainer)
    outputs.save_best(trainer)
    advance(trainer.epoch * trainer.steps + trainer.step)
    saved = last = time.monotonic()
    for event in trainer.run():
        elapsed = time.monotonic() - last
        epoch_seconds += elapsed
        epoch, loss = event.epoch + 1, event.loss
        losses = f"loss {loss:.4f} perplexity {perplexity(loss):,.2f}"
        if isinstance(event, StepResult):
            tokens, seconds = tokens + event.tokens, seconds + elapsed
            rate = tokens / seconds
            log.write("step", epoch, event.step, of=trainer.steps, loss=loss, tokens_per_second=round(rate, 1))
            advance(event.steps, f"{epoch}/{epochs}: {losses} {rate:,.0f} tokens/s")
        else:
            log.write("epoch", epoch, trainer.steps, lr=event.lr, train_loss=loss, valid_loss=event.valid_loss)
            if outputs.writes:
                valid = f"valid loss {event.valid_loss:.4f} perplexity {perplexity(event.valid_loss):,.2f}"
                mark = " *" if event.improved else ""
                click.echo(
                    f"epoch {epoch}/{epochs}  {epoch_seconds:.1f} s  lr {event.lr:g}  train {losses}  {valid}{mark}"
                )
            epoch_seconds = 0.0
        stop = trainer.group.any(interrupted.is_set())
        due = isinstance(event, EpochResult) or time.monotonic() - saved > outputs.save_every * 60
        if trainer.group.any(stop or due):
            outputs.save_state(trainer)
            saved = time.monotonic()
        if isinstance(event, EpochResult) and event.improved:
            outputs.save_best(trainer)
        if stop:
            return False
        last = time.monotonic()
    return True
