"""``lstmq train``: trains a model on a corpus."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lstmq.cli.interrupts import interrupts
from lstmq.cli.options import FILE, FOLDER, SEED, threads_option
from lstmq.cli.output import echo, echo_beside
from lstmq.errors import prefix_errors
from lstmq.figures import check_figure_path
from lstmq.files import is_stdout
from lstmq.model import ModelConfig
from lstmq.progress import progress
from lstmq.training import DTYPES, OPTIMIZERS, TrainConfig

if TYPE_CHECKING:
    from lstmq.training import EpochResult, StepResult

SHAPE, CONFIG = ModelConfig(dropout=0.2), TrainConfig()
WIDTH_OPTIONS = ("ninp", "nhid", "nlayers", "tied")  # which a checkpoint determines
SHAPE_OPTIONS = (*WIDTH_OPTIONS, "dropout")
LEARNING_RATES = {"sgd": CONFIG.lr, "adamw": 0.001}


@click.command("train")
@click.option("--corpus", type=FOLDER, help="Folder of text, or wikitext-2 after a fetch. [bundled sample]")
@click.option("--out", type=FILE, required=True, help="Checkpoint of the best model, .safetensors or .pth.")
@click.option("--init", "init_file", type=FILE, help="Checkpoint to start from. [random weights]")
@click.option("--vocabulary", type=FOLDER, help="Corpus that the checkpoint was trained on. [--corpus]")
@click.option("--ninp", type=int, default=SHAPE.ninp, help="Width of the embedding.")
@click.option("--nhid", type=int, default=SHAPE.nhid, help="Width of the LSTM's hidden state.")
@click.option("--nlayers", type=int, default=SHAPE.nlayers, help="Number of LSTM layers.")
@click.option("--tied", is_flag=True, help="Share one matrix between embedding and decoder.")
@click.option("--dropout", type=float, default=SHAPE.dropout, help="Probability of dropout.")
@click.option("--epochs", type=int, default=CONFIG.epochs, help="Number of epochs.")
@click.option("--batch-size", type=int, default=CONFIG.batch_size, help="Columns, over all processes together.")
@click.option("--bptt", type=int, default=CONFIG.bptt, help="Longest window, in tokens.")
@click.option("--lr", type=float, help="Learning rate. [20.0; 0.001 for adamw]")
@click.option("--clip", type=float, default=CONFIG.clip, help="Largest norm of the gradient.")
@click.option("--optimizer", type=click.Choice([*OPTIMIZERS]), default=CONFIG.optimizer)
@click.option("--device", default="auto", help="cpu, cuda or cuda:N; auto is a GPU if there is one.")
@click.option("--dtype", type=click.Choice([*DTYPES]), default=CONFIG.dtype, help="Precision of matrix products.")
@click.option("--seed", type=SEED, default=CONFIG.seed, help="Seed of weights and dropout.")
@threads_option(default=None, help="Number of threads. [torch's default]")
@click.option("--resume", is_flag=True, help="Continue the unfinished run in OUT.resume, with its options.")
@click.option("--save-every", type=click.FloatRange(min=0), default=5.0, help="Minutes between saves to OUT.resume.")
@click.option(
    "--log",
    "--log-file",  # torchrun takes --log for an abbreviation of its own options
    "log_file",
    type=FILE,
    help="Write the losses to this file, one JSON object per line.",
)
@click.option("--plot", "plot_file", type=FILE, help="Draw the losses of the log: .png, .svg or .pdf.")
@click.pass_context
def train_command(
    context: click.Context,
    /,
    *,
    corpus: Path | None,
    out: Path,
    init_file: Path | None,
    vocabulary: Path | None,
    device: str,
    resume: bool,
    save_every: float,
    log_file: Path | None,
    plot_file: Path | None,
    **options: Any,
) -> None:
    """Train a model on a corpus.

    Follows PyTorch's word language model example, and keeps the model with the best validation loss. Start from any
    checkpoint that lstmq loads with --init. Continue an interrupted run with --resume; on a CPU it ends with the same
    bits. Several processes share the work under torchrun: torchrun --nproc-per-node 2 -m lstmq train ...
    """
    import torch

    from lstmq import training
    from lstmq.model import LSTMModel, load_checkpoint, perplexity
    from lstmq.training import TrainingError
    from lstmq.workload import check_vocabulary, describe_unknown, find_corpus, load_text

    line_out = echo_beside(log_file, plot_file)
    if plot_file and (not log_file or is_stdout(log_file)):
        raise click.UsageError("--plot draws what --log writes to a file: give both")
    if plot_file:
        check_figure_path(plot_file)
    files = [path for path in (out, log_file, plot_file) if path]
    if len(set(files)) < len(files):
        raise click.UsageError("--out, --log and --plot must be different files")
    given = {name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if init_file and (shape_options := given.intersection(WIDTH_OPTIONS)):
        raise click.UsageError(f"--init determines the shape of the model: omit --{min(shape_options)}")
    state = training.read_state(out, resume)
    cannot_resume = f"cannot resume from {training.resume_path(out)}"
    if state is not None:
        with prefix_errors(cannot_resume, TrainingError, TrainingError):
            settings = training.saved_settings(state)
        options |= {name: settings[name] for name in options.keys() - given}
    elif options["lr"] is None:
        options["lr"] = LEARNING_RATES[options["optimizer"]]
    config = TrainConfig(**{name: value for name, value in options.items() if name not in SHAPE_OPTIONS})
    with training.process_group(device) as (torch_device, writes):
        folder = find_corpus(corpus)
        text = load_text(folder, vocabulary)
        describe_unknown(text.train, text.dictionary, f"the train split of {folder}")
        if init_file and state is None:
            model = load_checkpoint(init_file, options["dropout"])
            check_vocabulary(init_file, model.config, text.dictionary, vocabulary or folder)
        else:
            shape = ModelConfig(ntoken=len(text.dictionary), **{name: options[name] for name in SHAPE_OPTIONS})
            model = LSTMModel(shape, torch.Generator().manual_seed(config.seed))
        trainer = training.Trainer(model.to(torch_device), text.train, text.valid, config)
        if state is not None:
            with prefix_errors(cannot_resume, TrainingError, TrainingError):
                trainer.restore(state)
        with (
            training.TrainingLog(log_file if writes else None, trainer.epoch, trainer.step) as log,
            interrupts() as interrupted,
            progress("training", trainer.steps * config.epochs, shown=writes) as advance,
        ):

            def on_step(result: "StepResult", speed: float) -> None:
                losses = _format_loss("loss", result.loss)
                advance(result.steps, f"{result.epoch + 1}/{config.epochs}: {losses} {speed:,.0f} tokens/s")

            def on_epoch(result: "EpochResult", seconds: float) -> None:
                if writes:
                    line_out(_format_epoch(result, config.epochs, seconds))

            advance(trainer.epoch * trainer.steps + trainer.step)
            outputs = training.Outputs(best=out, log=log, save_every=save_every, writes=writes)
            finished = training.run_training(trainer, outputs, interrupted, on_step, on_epoch)
        if not finished:
            if writes:
                is_last = trainer.epoch == config.epochs
                where = "the end" if is_last else f"epoch {trainer.epoch + 1}, step {trainer.step}"
                echo(f"lstmq: interrupted at {where}: go on with --resume", err=True)
            raise SystemExit(130)
        outputs.delete_state()
        if writes:
            best = trainer.best_loss
            line_out(f"best validation loss {best:.4f}, perplexity {perplexity(best):,.2f}: {out}")
            if log_file and plot_file:
                training.plot_log(log_file, plot_file)


def _format_epoch(result: "EpochResult", epochs: int, seconds: float) -> str:
    train, valid = _format_loss("train loss", result.loss), _format_loss("valid loss", result.valid_loss)
    best = " *" if result.improved else ""
    return f"epoch {result.epoch + 1}/{epochs}  {seconds:.1f} s  lr {result.lr:g}  {train}  {valid}{best}"


def _format_loss(name: str, loss: float) -> str:
    from lstmq.model import perplexity

    return f"{name} {loss:.4f} perplexity {perplexity(loss):,.2f}"
