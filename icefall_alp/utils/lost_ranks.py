# SPDX-License-Identifier: Apache-2.0
"""Which process of a run is lost, judged by the signs of life that all of them give.

Time is counted in looks, not by the clock: a process that was suspended with all others, or had to wait for a busy
machine, has looked less often and accuses nobody when it goes on.
"""

from __future__ import annotations

from typing import NamedTuple


class Sign(NamedTuple):
    """What a process tells the others, again and again; nothing yet where all is empty."""

    tick: int = 0  # grows as long as the process lives
    collectives: int = 0  # that it has come to
    batches: int = 0  # that it has finished
    patient: bool = False  # it does what may take long
    verdict: str = ""  # who it thinks is lost


class Judge:
    """Says who is lost.

    Args:
        silence: looks without a sign of life until a process is lost.
        stillness: looks in which nothing moves until somebody hangs. Where steps take long by nature it is twice the
            longest pause so far, after which training went on.
    """

    def __init__(self, silence: int, stillness: int) -> None:
        self._silence, self._stillness = silence, stillness
        self._unanswered = 0
        self._silent: dict[int, int] = {}
        self._before: dict[int, Sign] = {}
        self._still = self._longest = 0

    def look(self, signs: dict[int, Sign] | None) -> str | None:
        """Judge once more.

        Args:
            signs: of each rank; None where the first process, which passes them on, has not answered since.

        Returns:
            Who is lost and why, if anyone is.
        """
        if signs is None:
            self._unanswered += 1
            return "rank 0 is lost: it does not answer" if self._unanswered > self._silence else None
        self._unanswered = 0
        told = [sign.verdict for sign in signs.values() if sign.verdict]
        verdict = told[0] if told else self._find_silent(signs) or self._find_hanging(signs)
        self._before = signs
        return verdict

    def _find_silent(self, signs: dict[int, Sign]) -> str | None:
        for rank, sign in signs.items():
            lives = rank not in self._before or sign.tick != self._before[rank].tick
            self._silent[rank] = 0 if lives else self._silent[rank] + 1
            if self._silent[rank] > self._silence:
                return f"rank {rank} is lost: it gives no sign of life"
        return None

    def _find_hanging(self, signs: dict[int, Sign]) -> str | None:
        fewest_batches = min(sign.batches for sign in signs.values())
        if fewest_batches == 0 or any(sign.patient for sign in signs.values()):
            self._still = 0  # what comes before the first batch may take its time
            return None
        if _work(signs) != _work(self._before):
            self._longest, self._still = max(self._longest, self._still), 0
            return None
        self._still += 1
        # The second batch is the first to tell how long one takes.
        stillness = max(self._stillness, 2 * self._longest) if fewest_batches > 1 else 10 * self._stillness
        if self._still <= stillness:
            return None
        # The others wait for whoever has come to the fewest collectives.
        fewest = min(sign.collectives for sign in signs.values())
        slowest = [str(rank) for rank, sign in signs.items() if sign.collectives == fewest]
        who = "every rank" if len(slowest) == len(signs) else f"rank {' and '.join(slowest)}"
        return f"{who} hangs: nothing moves"


def _work(signs: dict[int, Sign]) -> list[tuple[int, int]]:
    return [(sign.collectives, sign.batches) for sign in signs.values()]
