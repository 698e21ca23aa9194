"""Train LeNet-5 on handwritten digits and keep what it learned.

    python examples/train_lenet.py                                   the digits that come with minidl
    python examples/train_lenet.py --data mnist --download           all of MNIST
    python examples/train_lenet.py --resume                          go on after Ctrl-C, to the same bits

SGD with momentum 0.9 and weight decay, the learning rate in one cycle. The folder ``--out`` gets

    last.safetensors, best.safetensors   the weights at the end, and those with the highest test accuracy
    checkpoint.safetensors               all that going on needs, after every epoch and at Ctrl-C
    run.csv                              a row per epoch
    curves.png, mistakes.png, ...        five pictures, where matplotlib is installed (``examples/pictures.py``)

Exit code 0: trained; 130: interrupted, the checkpoint is written; 1: the run failed; 2: wrong options.
"""

import argparse
import importlib.util
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from digits import DATASETS, ROOT, load_data
from lenet import VARIANTS
from pictures import CONFUSION, CURVES, MISTAKES, PICTURES, draw_confusion, draw_curves, draw_mistakes, draw_network
from training import BEST, CHECKPOINT, LAST, RECORD, DivergedError, Run

import minidl

DEFAULTS = {
    "data": "embedded",
    "variant": "relu",
    "epochs": 10,
    "batch_size": 64,
    "lr": 0.05,
    "seed": 0,
    "threads": minidl.get_num_threads(),
    "device": "cpu",
}
OUT = Path("runs/lenet")


class Parser(argparse.ArgumentParser):
    """Answers a wrong option with one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def positive(kind: type) -> Any:
    """An option's type: a number of this ``kind`` above zero."""

    def convert(text: str) -> Any:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    convert.__name__ = kind.__name__  # argparse names it in "invalid int value"
    return convert


def parser() -> Parser:
    # An option that is not given is not in the result: a resumed run has its own value.
    parser = Parser(prog="train_lenet", description="Train LeNet-5 on handwritten digits.",
                    argument_default=argparse.SUPPRESS)
    add = parser.add_argument
    add("--data", choices=DATASETS, help=f"data set (default: {DEFAULTS['data']}, 12,000 digits of MNIST)")
    add("--root", metavar="DIR", help=f"folder of the files of mnist or fashion-mnist (default: {ROOT})")
    add("--download", action="store_true", help="fetch these files into the root where they are missing")
    add("--variant", choices=VARIANTS, help="relu: ReLU and max-pooling (default); classic: tanh and average pooling")
    add("--epochs", type=positive(int), metavar="N", help=f"passes over the data (default: {DEFAULTS['epochs']})")
    add("--batch-size", type=positive(int), metavar="N", help=f"images per step (default: {DEFAULTS['batch_size']})")
    add("--lr", type=positive(float), help=f"highest learning rate of the cycle (default: {DEFAULTS['lr']})")
    add("--seed", type=int, metavar="N", help=f"of weights and shuffles (default: {DEFAULTS['seed']})")
    add("--threads", type=positive(int), metavar="N", help=f"CPU threads (default here: {DEFAULTS['threads']})")
    add("--device", help="where to compute (default: cpu)")
    add("--resume", nargs="?", const=None, metavar="PATH",
        help="go on with the run in this folder or checkpoint (default: the folder --out)")
    add("--out", type=Path, metavar="DIR", help=f"folder for what the run writes (default: {OUT})")
    return parser


def main(arguments: list[str] | None = None, max_steps: int | None = None) -> int:
    """Run the program; returns the exit code. ``max_steps`` stops a run as Ctrl-C does, when it has taken so many."""
    options = parser()
    given = vars(options.parse_args(arguments))
    check_device(options, given.get("device", "cpu"))
    out = given.pop("out", None)
    try:
        run = resumed_run(options, given, out) if "resume" in given else new_run(given, OUT if out is None else out)
    except (OSError, RuntimeError, ValueError) as error:  # files that are missing or damaged
        return failed(error)
    except KeyboardInterrupt:
        return failed("interrupted before the first step", 130)
    try:
        with CtrlC() as ctrl_c:
            return train(run, lambda: ctrl_c.pressed or len(run.losses) == max_steps)
    except (OSError, DivergedError) as error:
        return failed(error)
    except KeyboardInterrupt:
        return failed(f"interrupted twice: what {run.out} holds is from the step that was saved last", 130)


def failed(reason: object, code: int = 1) -> int:
    print(f"train_lenet: {reason}", file=sys.stderr)
    return code


def check_device(options: Parser, name: str) -> None:
    try:
        device = minidl.device(name)
    except RuntimeError as error:
        options.error(f"--device {name}: {error}")
    if device.type == "cuda" and not minidl.cuda.is_available():
        options.error(f"--device {name}: minidl finds no GPU to compute on here; leave it out to compute on the CPU")
    if device.type not in ("cpu", "cuda"):
        options.error(f"--device {name}: minidl computes on cpu or cuda")


def new_run(given: dict[str, Any], out: Path) -> Run:
    root, download = given.pop("root", ROOT), given.pop("download", False)
    settings = DEFAULTS | given
    return Run(settings | {"root": root}, *load_data(settings["data"], root, download), out)


def resumed_run(options: Parser, given: dict[str, Any], out: Path | None) -> Run:
    """The run of the checkpoint that ``--resume`` names; an option that is not the run's own is an error."""
    path = Path(given.pop("resume") or out or OUT)
    if path.is_dir() or not path.suffix:
        path = path / CHECKPOINT
    if out is not None and out.resolve() != path.parent.resolve():
        options.error(f"--out {out} is not the folder of {path}: a resumed run stays where it is")
    state = read_checkpoint(path)
    settings = state["options"]
    settings["root"] = given.pop("root", settings["root"])
    download = given.pop("download", False)
    differences = [
        f"--{name.replace('_', '-')} {value} (the run has {settings[name]})"
        for name, value in given.items()
        if value != settings[name]
    ]
    if differences:
        options.error(f"{path} is a run with other options: {', '.join(differences)}; leave them out, or start anew")
    return Run.resumed(state, *load_data(settings["data"], settings["root"], download), path.parent)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state in the file ``path``. Raises ``ValueError`` when it is missing, damaged or no checkpoint."""
    try:
        state = minidl.load(path)
    except FileNotFoundError:
        raise ValueError(f"nothing to resume: {path} does not exist") from None
    except Exception as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(state, dict) or "options" not in state:
        raise ValueError(f"{path} holds no run; resume from its {CHECKPOINT}")
    return state


class CtrlC:
    """While this is open, Ctrl-C only sets ``pressed``; a second one interrupts as usual."""

    def __enter__(self) -> "CtrlC":
        self.pressed = False
        self._usual = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def _on_signal(self, number: int, frame: Any) -> None:
        self.pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._usual)


def train(run: Run, stop: Any) -> int:
    """Train, draw, sum up; returns the exit code."""
    run.out.mkdir(parents=True, exist_ok=True)
    print(describe(run))
    for name in PICTURES:
        (run.out / name).unlink(missing_ok=True)
    run.train(stop)
    if run.finished:
        pictures = draw(run)
    else:
        pictures = "pictures are drawn when the run is finished"
    print(summary(run, pictures))
    return 0 if run.finished else 130


def describe(run: Run) -> str:
    settings, steps = run.options, len(run.losses)
    begins = f"goes on after step {steps:,} of {run.total_steps:,}" if steps else f"{run.total_steps:,} steps"
    return (
        f"LeNet-5 ({settings['variant']}) on {settings['data']}: {len(run.train_set):,} training images, "
        f"{len(run.test_set):,} test images; {plural(settings['threads'], 'thread')}, seed {settings['seed']}, {begins}"
    )


def draw(run: Run) -> str:
    """Draw the pictures where that is possible; a line about them."""
    if importlib.util.find_spec("matplotlib") is None:
        return "no pictures: matplotlib is not installed (pip install matplotlib)"
    title = f"LeNet-5 ({run.options['variant']}) on {run.options['data']}"
    accuracy = f"{100 * run.history[-1]['test_accuracy']:.2f} % of {len(run.test_set):,} test images right"
    draw_curves(run.out / CURVES, f"{title}: {accuracy}", run.history, run.losses, run.rates)
    beliefs = minidl.softmax(run.predict(), 1).cpu().numpy()
    data = run.test_set
    classes = [name.split(" - ")[0] for name in data.classes]
    draw_mistakes(run.out / MISTAKES, title, np.asarray(data.data), np.asarray(data.targets), beliefs, classes)
    draw_confusion(run.out / CONFUSION, np.asarray(data.targets), beliefs, classes)
    draw_network(run.out, run.net.cpu(), minidl.as_tensor(data.fetch(range(1))[0]), classes)
    return ", ".join(PICTURES)


def summary(run: Run, pictures: str) -> str:
    """The run in five lines."""
    rows, settings = run.history, run.options
    seconds = sum(row["seconds"] for row in rows) + run.epoch_sums["seconds"]
    images = len(rows) * len(run.train_set) + run.epoch_sums["samples"]
    if rows:
        accuracy = (f"{100 * rows[-1]['test_accuracy']:.2f} % of {len(run.test_set):,} test images after "
                    f"{plural(len(rows), 'epoch')}; best {100 * run.best['test_accuracy']:.2f} % after epoch "
                    f"{run.best['epoch']}")
    else:
        accuracy = "not tested yet: the first epoch is not finished"
    if run.finished:
        then = f"net.load_state_dict(minidl.load('{run.out / LAST}'))"
    else:
        where = f"stopped after step {len(run.losses):,} of {run.total_steps:,}"
        then = f"python {sys.argv[0]} --resume {run.out}  ({where})"
    return "\n".join([
        "",
        f"accuracy  {accuracy}",
        f"time      {seconds:.1f} s of training, {images / max(seconds, 1e-9):,.0f} images/s, "
        f"{plural(settings['threads'], 'thread')}, {settings['device']}",
        f"weights   {run.out / LAST}" + (f", {BEST}" if rows else ""),
        f"record    {run.out / RECORD}; {pictures}",
        f"next      {then}",
    ])


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


if __name__ == "__main__":
    sys.exit(main())
