"""Where the published weights are: in the cache folder or, the first time, at their published address."""

import http.client
import math
import tempfile
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from urllib.error import HTTPError, URLError

import platformdirs

from mpvit.dense.torch_network import empty_network
from mpvit.errors import WeightsError, file_reason
from mpvit.model.weights import load_weights
from mpvit.variants import DEFAULT_VARIANT, SHIPPED, get_variant

TIMEOUT_S = 10
"""How long the published address may stay silent."""

_CHUNK = 1 << 18
"""Bytes read at a time."""

Watch = Callable[[Iterable[bytes], str, int], Iterable[bytes]]
"""Takes the pieces of a download, what it is, and how many pieces are expected (0: unknown); hands the pieces on."""


def cache_folder() -> Path:
    """Return the folder in which this person's system keeps what can be downloaded again."""
    return platformdirs.user_cache_path("mpvit")


def shipped_weights(name: str) -> Path:
    """Return the file of weights that came with the package."""
    return Path(str(files("mpvit") / "data" / f"{name}.safetensors"))


def find_weights(variant: str | None, cache: Path | None = None, watch: Watch | None = None) -> Path:
    """Return the file of a variant's weights: the shipped one, or the published one, ``mpvit_<variant>.pth`` in ``cache``.

    None is the default variant. Where a published file is not there it is downloaded, and kept only if it really loads.
    Raises ``WeightsError`` that says which file to get and where to put it, ``UsageError`` for an unknown variant.
    """
    if variant in SHIPPED:
        return shipped_weights(variant)
    variant = variant or DEFAULT_VARIANT
    url = get_variant(variant).weights_url
    place = (cache or cache_folder()) / f"mpvit_{variant}.pth"
    try:
        if not place.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            _download(url, place, variant, watch)
    except (OSError, http.client.HTTPException, ValueError, WeightsError) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        raise WeightsError(
            f"no weights of {variant!r}: {place} is not there, and getting {url} failed ({_reason(error)})",
            hint="--variant digits-nano names handwritten digits with a network that came along, --random-init shows the way "
            f"of a picture on an untrained one; or put that file at {place}, or name it with --weights",
        ) from error
    return place


def _download(url: str, place: Path, variant: str, watch: Watch | None) -> None:
    """Fetch ``url`` into ``place`` whole or not at all, and not before the network of ``variant`` has taken it."""
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".download-") as folder:
        part = Path(folder) / place.name
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer, part.open("wb") as file:  # noqa: S310 - from VARIANTS
            expected = math.ceil(int(answer.headers.get("Content-Length", 0)) / _CHUNK)
            pieces: Iterable[bytes] = _pieces(answer)
            for piece in watch(pieces, f"Downloading {place.name}", expected) if watch else pieces:
                file.write(piece)
        try:
            load_weights(empty_network(get_variant(variant).config, "cpu"), part)
        except WeightsError as error:
            raise WeightsError(str(error).replace(str(part), "its answer")) from None
        part.replace(place)


def _pieces(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while piece := answer.read(_CHUNK):
        yield piece


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    return file_reason(cause) if isinstance(cause, BaseException) else str(cause)
