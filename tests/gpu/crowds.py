"""What a crowd of one adapter costs sixteen others on a device, by `--adapter-share`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from server.engine.engine import Engine
from tests.torture.asking import Question
from tests.torture.crowding import Crowding, crowding, pooled

GUESTS, CROWD, THRONG = 16, 100, 1000  # adapters with a stream each; streams of one
SHARES = (0.125, 0.2, 0.25)  # the first is the default
WARM_UP = 4.0  # seconds


def compare_shares(
    engine: Engine,
    url: str,
    question: Question,
    *,
    seconds: float,
    rounds: int,
    after_round: Callable[[], None],
) -> None:
    """Beside one stream of another adapter and beside a hundred, in turns; then beside a thousand.

    seconds: of each case.
    """

    def beside(num_crowd: int, share: float, seconds: float = seconds) -> Crowding:
        engine.fair_time.fraction = share
        return crowding(url, GUESTS, num_crowd, seconds, question)

    beside(CROWD, 1.0, WARM_UP)  # adapters come into slots, and what is compiled at first is there
    few, many = list[Crowding](), defaultdict[float, list[Crowding]](list)
    for _ in range(rounds):
        few.append(beside(1, SHARES[0]))
        print(few[-1].line("beside 1 of one", few[-1]), flush=True)
        for share in SHARES:
            many[share].append(beside(CROWD, share))
            title = f"share {share:g}: beside {CROWD} of one"
            print(many[share][-1].line(title, few[-1]), flush=True)
        after_round()
    base = pooled(few)
    print("All rounds together:")
    print(base.line("beside 1 of one", base))
    for share, runs in many.items():
        print(pooled(runs).line(f"share {share:g}: beside {CROWD} of one", base), flush=True)
    for num_crowd, share in ((THRONG, SHARES[0]), (CROWD, 1.0)):
        line = beside(num_crowd, share).line(f"share {share:g}: beside {num_crowd} of one", base)
        print(line, flush=True)
    engine.fair_time.fraction = SHARES[0]
