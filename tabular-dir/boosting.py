"""Gradient boosting of scikit-learn on the same table: the baseline that a table's user would pick.

It has the splits, bins, shots and sample weights of the network, and writes the same files. It stops at the
tree of the lowest validation error, as the network at the checkpoint. It draws nothing at random: all seeds
give the same trees. No tree is kept: the command fits them again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from table_split import TableSplit

from common.errors import UserError
from common.files import write_json
from common.method import Method
from common.methods.criterion import CriterionFlags
from common.report import log, start_logging
from common.settings import Running, Settings
from common.task import Data, Draw, Prediction, Task
from common.training import checkpoint, command
from common.training.evaluate import Predictions
from common.training.result import as_result, report
from common.training.rundir import RunDir

MOST_TREES = 300
LOSSES = {"l1": "absolute_error", "mse": "squared_error"}
OF_A_NETWORK = ("build", "head", "setup", "features", "losses", "end_of_epoch")  # hooks that trees have not


def train_and_test(task: Task, settings: Settings, methods: Sequence[Method], directory: RunDir) -> int:
    """Fit the trees and test them; a finished run says so."""
    if directory.result is not None:
        return command.train_and_test(task, settings, methods, directory)
    start_logging(directory.log)
    try:
        check(settings, methods)
        data = command.load(task, settings)
        for method in methods:
            data = method.prepare(data)
    except UserError:
        directory.withdraw()  # the mended command may be another configuration
        raise
    directory.begin()
    directory.rewind(0)
    log.info("Gradient boosting; methods: %s", "; ".join(method.describe() for method in methods))
    began = time.monotonic()
    trees, predicted = fitted(task, settings, data)
    table = predicted["val"].table()
    directory.record(
        {"step": trees, "epoch": trees, "train_loss": 0.0, "seconds": round(time.monotonic() - began, 1), "val": table}
    )  # fmt: skip
    checkpoint.save(directory.best, {"dataset": task.name, "epoch": trees, "model": "boosting"})
    predicted["test"].rows().to_csv(directory.predictions, index=False)
    result = as_result(task, data, predicted["test"].table(), directory.best, trees)
    write_json(directory.metrics, result)
    report(result, task, settings)
    return 0


def check(settings: Settings, methods: Sequence[Method]) -> None:
    """Raise UserError for what trees cannot do."""
    for method in methods:
        own = [hook for hook in OF_A_NETWORK if getattr(type(method), hook) is not getattr(Method, hook)]
        if own and not method.gives_way:
            raise UserError(
                f"--boosting and {method.option()}: {method.label} needs a network; drop one of them"
            )
    loss = settings[CriterionFlags].loss
    if loss not in LOSSES:
        raise UserError(f"--boosting and --loss {loss}: trees have --loss {' or '.join(LOSSES)}")


def fitted(task: Task, settings: Settings, data: Data) -> tuple[int, dict[str, Predictions]]:
    """Return the number of trees that is best on validation, and what so many predict of validation and test."""
    train, loss = data.train, settings[CriterionFlags].loss
    assert isinstance(train, TableSplit)
    model = HistGradientBoostingRegressor(
        loss=LOSSES[loss],
        max_iter=MOST_TREES,
        early_stopping=False,
        random_state=settings[Running].seed % 2**32,
    )
    model.fit(train.vectors, train.labels.astype(np.float64), train.weights)
    assert isinstance(data.val, TableSplit) and isinstance(data.test, TableSplit)
    staged = list(model.staged_predict(data.val.vectors))
    errors = [np.mean(np.abs(p - data.val.labels) ** (2 if loss == "mse" else 1)) for p in staged]
    trees = int(np.argmin(errors)) + 1
    predictions = {"val": staged[trees - 1], "test": list(model.staged_predict(data.test.vectors))[trees - 1]}
    return trees, {
        name: predictions_of(task, getattr(data, name), data, values) for name, values in predictions.items()
    }


def predictions_of(task: Task, split: TableSplit, data: Data, values: np.ndarray) -> Predictions:
    """Return predictions over a whole split as evaluation has them."""
    found = Predictions(task, split, data)
    column = torch.from_numpy(values.astype(np.float32))[:, None]
    found.add(Draw(np.arange(len(split)), 0), Prediction(column), torch.from_numpy(split.labels)[:, None])
    return found
