"""What clients are told when the process that served them was killed.

A serving process gives its parent a copy of each connection on which something was asked
(`witness.py`, `copies.py`), and notes in memory that both share where in the bytes that it writes
an answer could be ended (`written.py`, `pages.py`). When it has died, the parent asks the kernel
how many bytes it has taken of each connection (`counting.py`): at such a place it ends the answer
with what is fit there (`heir.py`); anywhere else, amid a chunk, nothing can be said, and the
connection is closed. Nothing crosses between the processes for a request or an event.
"""

from .heir import Heir
from .witness import Watched, Witness

__all__ = ["Heir", "Watched", "Witness"]
