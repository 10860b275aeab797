"""Training and evaluating networks on pictures in classes.

Whatever is random is drawn from a number that says what it is for: the network's first weights from the seed, the order of an
epoch from (seed, epoch), what is done to a picture from (seed, epoch, picture), and so on. So nothing has to be remembered
to go on where a run was stopped but the step that it had reached, and the number of processes changes nothing.
"""

import hashlib


def seed_of(*what: int | str) -> int:
    """Return the seed, in [0, 2^63), of what is named: numbers or words, the run's seed first."""
    digest = hashlib.blake2b("/".join(map(str, what)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
