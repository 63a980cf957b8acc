"""One commit for the charges of many threads: whoever is first posts for all who came meanwhile."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import Final

from btt_bridge.errors import LedgerError
from btt_bridge.settle.billing import Billing, Delivered, Standing

#: Charges in one commit.
_MOST: Final = 2500


class Till:
    """Charges deliveries as `Billing.post` does. Nobody waits for company: a lone delivery is posted at once, and those
    that arrive while a commit is on its way to the disk share the next one."""

    def __init__(self, billing: Billing) -> None:
        self._billing = billing
        self._posting = threading.Lock()
        self._waiting: deque[tuple[Delivered, Future[Standing]]] = deque()

    def post(self, delivery: Delivered) -> Standing:
        """Charge a delivered result, durably, or raise what refuses it."""
        answer: Future[Standing] = Future()
        self._waiting.append((delivery, answer))
        while not answer.done():
            with self._posting:
                if not answer.done():
                    self._post_together()
        return answer.result()

    def _post_together(self) -> None:
        together = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST))]
        try:
            answers = self._billing.post_all([delivery for delivery, _ in together])
        except BaseException as problem:
            for _, future in together:
                future.set_exception(problem)
            return
        for (_, future), answer in zip(together, answers, strict=True):
            if isinstance(answer, LedgerError):
                future.set_exception(answer)
            else:
                future.set_result(answer)
