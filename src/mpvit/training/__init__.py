"""Training networks on labelled images, and evaluating them.

Every random number comes from a seed that is derived from its purpose: the first weights from the run's seed, the order of an
epoch from (seed, epoch), the augmentation of an image from (seed, epoch, image), and so on. A run that was interrupted
therefore resumes from its step alone, and the number of processes does not change the result.
"""

import hashlib


def seed_of(*purpose: int | str) -> int:
    """Return the seed, in [0, 2^63), for a purpose: numbers and words, the seed of the run first."""
    digest = hashlib.blake2b("/".join(map(str, purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
