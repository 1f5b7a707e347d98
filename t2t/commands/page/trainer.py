"""Trainings of leave-one-out in a process of their own: `python -m t2t.commands.page.trainer`, started by
`t2t.commands.page.trainings` only.

Reads one line of JSON a training from its standard input, and ends when that closes, whatever it is at.
"""

from __future__ import annotations

import os
import sys
from queue import Queue
from threading import Thread

from t2t.commands.page.contribution import LeaveOneOut
from t2t.commands.page.material import Material
from t2t.commands.page.trainings import ADVANCED, DONE, Order
from t2t.core.errors import T2TError
from t2t.core.progress import relayed


def main() -> None:
    orders: Queue[Order] = Queue()
    Thread(target=_listen, args=[orders], daemon=True).start()

    def advance(n: int = 1, note: str = "") -> None:
        print(ADVANCED, flush=True)

    found = None
    while True:
        order = orders.get()
        assert order.training is not None
        try:
            # One campaign and one number of steps for as long as the process lives.
            found = found or LeaveOneOut(Material(order.workspace, order.campaign), order.steps)
            with relayed(advance):
                found.make(order.training)
        except T2TError as error:
            sys.exit(str(error))
        print(DONE, flush=True)


def _listen(orders: Queue[Order]) -> None:
    for line in sys.stdin:
        orders.put(Order.model_validate_json(line))
    os._exit(0)


if __name__ == "__main__":
    main()
