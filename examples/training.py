"""A training run that can stop after any step and go on from there, to the same bits.

A ``Run`` holds all that a run is: the network, the optimizer, the schedule, the loader with the epoch's permutation,
the random numbers' state (in ``minidl``) and the record so far. ``Run.checkpoint`` writes it, ``Run.resumed`` reads it.
"""

import csv
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lenet import lenet5
from tqdm import tqdm
from whole_file import whole_file

import minidl
from minidl import nn
from minidl.optim import SGD
from minidl.optim.lr_scheduler import OneCycleLR
from minidl.utils.data import DataLoader

MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
CHECKPOINT = "checkpoint.safetensors"
LAST = "last.safetensors"
BEST = "best.safetensors"
RECORD = "run.csv"


class DivergedError(Exception):
    """The loss is no number any more."""


class Run:
    """A run with these ``options`` (data, variant, epochs, batch_size, lr, seed, threads, device) at its first step.

    ``losses`` and ``rates`` hold the loss and the learning rate of every step, ``history`` a row for each finished
    epoch, ``epoch_sums`` the sums of the unfinished one.
    """

    def __init__(self, options: dict[str, Any], train_set: Any, test_set: Any, out: Path) -> None:
        self.options, self.out = options, out
        self.train_set, self.test_set = train_set, test_set
        minidl.set_num_threads(options["threads"])
        minidl.manual_seed(options["seed"])
        self.net = lenet5(nn, options["variant"]).to(options["device"])
        self.loss_function = nn.CrossEntropyLoss()
        self.optimizer = SGD(self.net.parameters(), lr=options["lr"], momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        self.loader = DataLoader(train_set, batch_size=options["batch_size"], shuffle=True)
        self.schedule = OneCycleLR(
            self.optimizer, max_lr=options["lr"], epochs=options["epochs"], steps_per_epoch=len(self.loader)
        )
        self.losses: list[float] = []
        self.rates: list[float] = []
        self.history: list[dict[str, float]] = []
        self.epoch_sums = _empty_sums()

    @classmethod
    def resumed(cls, state: dict[str, Any], train_set: Any, test_set: Any, out: Path) -> "Run":
        """The run whose ``state`` a checkpoint holds, at the step at which it was written."""
        run = cls(state["options"], train_set, test_set, out)
        run.net.load_state_dict(state["net"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.schedule.load_state_dict(state["schedule"])
        run.loader.load_state_dict(state["loader"])
        run.losses, run.rates = state["losses"].tolist(), state["rates"].tolist()
        run.history, run.epoch_sums = state["history"], state["epoch_sums"]
        minidl.set_rng_state(state["random"])
        return run

    @property
    def finished(self) -> bool:
        return len(self.history) == self.options["epochs"]

    @property
    def total_steps(self) -> int:
        return self.options["epochs"] * len(self.loader)

    @property
    def best(self) -> dict[str, float]:
        """The row of the epoch with the highest test accuracy, the first of equals."""
        return max(self.history, key=lambda row: row["test_accuracy"])

    def train(self, stop: Callable[[], bool] = lambda: False, report: Callable[[str], None] = print) -> None:
        """Train to the end, or until ``stop()`` is true after a step.

        Every finished epoch is reported in a line; a checkpoint is written after it and when the run stops. Raises
        ``DivergedError`` when the loss is no number.
        """
        while not (self.finished or stop()):
            if self._train_epoch(stop):
                self._finish_epoch(report)
        if not self.finished:
            self.checkpoint()

    def _train_epoch(self, stop: Callable[[], bool]) -> bool:
        """Take the steps that are left of this epoch; returns whether all were taken."""
        sums, samples = self.epoch_sums, len(self.train_set)
        taken_before, last = len(self.losses) % len(self.loader), len(self.loader)
        self.net.train()
        number = len(self.history) + 1
        with tqdm(total=samples, initial=sums["samples"], desc=f"epoch {number:2d}/{self.options['epochs']}",
                  unit=" images", unit_scale=True, leave=False, disable=None) as bar:
            began = time.perf_counter() - sums["seconds"]
            for step, (images, labels) in enumerate(self.loader, start=taken_before + 1):
                loss, correct = self._step(images, labels)
                sums["seconds"] = time.perf_counter() - began
                sums["loss"] += loss * len(labels)
                sums["correct"] += correct
                sums["samples"] += len(labels)
                bar.set_postfix_str(_loss_and_accuracy(sums), refresh=False)
                bar.update(len(labels))
                if stop() and step < last:
                    return False
        return True

    def _step(self, images: Any, labels: Any) -> tuple[float, int]:
        """One step of the optimizer and of the schedule; the batch's mean loss and its number of right answers."""
        images, labels = images.to(self.options["device"]), labels.to(self.options["device"])
        self.optimizer.zero_grad()
        logits = self.net(images)
        loss = self.loss_function(logits, labels)
        value = loss.item()
        if not math.isfinite(value):
            raise DivergedError(f"the loss of step {len(self.losses) + 1} is {value}: the weights ran away; "
                           f"start again with a smaller --lr than {self.options['lr']:g}")
        loss.backward()
        self.optimizer.step()
        self.rates.append(self.schedule.get_last_lr()[0])
        self.losses.append(value)
        self.schedule.step()
        return value, int((logits.argmax(1) == labels).sum().item())

    def _finish_epoch(self, report: Callable[[str], None]) -> None:
        """Test, add a row to the record, save all."""
        sums = self.epoch_sums
        test_loss, test_accuracy = self.test()
        row = {
            "epoch": len(self.history) + 1,
            "steps": len(self.losses),
            "learning_rate": self.rates[-1],
            "train_loss": sums["loss"] / sums["samples"],
            "train_accuracy": sums["correct"] / sums["samples"],
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "seconds": sums["seconds"],
        }
        self.history.append(row)
        self.epoch_sums = _empty_sums()
        if self.best is row:
            minidl.save(self.net.state_dict(), self.out / BEST)
        self.checkpoint()
        report(
            f"epoch {row['epoch']:2d}/{self.options['epochs']}  training: {_loss_and_accuracy(sums)}  "
            f"test: accuracy {100 * test_accuracy:.2f} %  ({sums['seconds']:.1f} s, "
            f"{sums['samples'] / sums['seconds']:,.0f} images/s)"
        )

    def predict(self) -> Any:
        """The logits (N, 10) of the test images."""
        self.net.eval()
        batches = []
        with minidl.no_grad():
            for images, _ in DataLoader(self.test_set, batch_size=500):
                batches.append(self.net(images.to(self.options["device"])))
        return minidl.cat(batches)

    def test(self) -> tuple[float, float]:
        """Mean loss and accuracy on the test set."""
        logits = self.predict()
        labels = minidl.as_tensor(self.test_set.targets).to(self.options["device"])
        correct = (logits.argmax(1) == labels).sum().item()
        return self.loss_function(logits, labels).item(), correct / len(labels)

    def checkpoint(self) -> None:
        """Write the last weights, the record and all that going on needs."""
        if not self.history:
            (self.out / BEST).unlink(missing_ok=True)  # an earlier run's
        minidl.save(self.net.state_dict(), self.out / LAST)
        self._write_record()
        minidl.save(
            {
                "options": self.options,
                "net": self.net.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "loader": self.loader.state_dict(),
                "random": minidl.get_rng_state(),
                "losses": minidl.tensor(self.losses, dtype=minidl.float64),
                "rates": minidl.tensor(self.rates, dtype=minidl.float64),
                "history": self.history,
                "epoch_sums": self.epoch_sums,
            },
            self.out / CHECKPOINT,
        )

    def _write_record(self) -> None:
        """The finished epochs as CSV."""
        columns = ["epoch", "steps", "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy",
                   "seconds"]
        with whole_file(self.out / RECORD) as path, open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.history)


def _empty_sums() -> dict[str, Any]:
    return {"loss": 0.0, "correct": 0, "samples": 0, "seconds": 0.0}


def _loss_and_accuracy(sums: dict[str, Any]) -> str:
    return f"loss {sums['loss'] / sums['samples']:.4f}, accuracy {100 * sums['correct'] / sums['samples']:.2f} %"
