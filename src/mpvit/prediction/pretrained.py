"""Weights of the published networks: in the cache folder or, the first time, from their published address."""

import http.client
import math
import tempfile
import urllib.request
from functools import partial
from importlib.resources import files
from pathlib import Path
from urllib.error import HTTPError, URLError

import platformdirs

from mpvit.architecture.variants import DEFAULT_VARIANT, SHIPPED, get_variant
from mpvit.dense.torch_network import empty_network
from mpvit.errors import WeightsError, file_reason
from mpvit.model.weights import load_weights
from mpvit.progress import Track, untracked

TIMEOUT_S = 10
"""Longest time without an answer from the published address, in seconds."""

_CHUNK = 1 << 18
"""Bytes that are read at a time."""


def cache_folder() -> Path:
    """Return the folder of the current user for files that can be downloaded again."""
    return platformdirs.user_cache_path("mpvit")


def shipped_weights(name: str) -> Path:
    """Return the file of weights that is part of the package."""
    return Path(str(files("mpvit") / "data" / f"{name}.safetensors"))


def find_weights(variant: str | None, cache: Path | None = None, track: Track = untracked) -> Path:
    """Return the file of a variant's weights: part of the package, or ``mpvit_<variant>.pth`` in the folder ``cache``.

    None is the default variant. A file that is missing in the cache is downloaded, and kept only if it loads. Raises
    ``WeightsError`` that names the file and the place for it, and ``UsageError`` for an unknown variant.
    """
    if variant in SHIPPED:
        return shipped_weights(variant)
    variant = variant or DEFAULT_VARIANT
    url = get_variant(variant).weights_url
    path = (cache or cache_folder()) / f"mpvit_{variant}.pth"
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            _download(url, path, variant, track)
    except (OSError, http.client.HTTPException, ValueError, WeightsError) as error:
        if isinstance(error, HTTPError):
            error.close()  # it keeps the connection
        raise WeightsError(
            f"no weights of {variant!r}: {path} is missing, and getting {url} failed ({_reason(error)})",
            hint="digits-nano, for handwritten digits, and an untrained network need no download; "
            f"or save that file as {path}, or pass the file as weights",
        ) from error
    return path


def _download(url: str, path: Path, variant: str, track: Track) -> None:
    """Download ``url`` to ``path``, whole or not at all, and only if it fits the network of ``variant``."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
        part = Path(folder) / path.name
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer, part.open("wb") as file:  # noqa: S310 - from VARIANTS
            total = math.ceil(int(answer.headers.get("Content-Length", 0)) / _CHUNK)
            for piece in track(iter(partial(answer.read, _CHUNK), b""), f"Downloading {path.name}", total):
                file.write(piece)
        try:
            load_weights(empty_network(get_variant(variant).config, "cpu"), part)
        except WeightsError as error:
            raise WeightsError(str(error).replace(str(part), "its answer")) from None
        part.replace(path)


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    return file_reason(cause) if isinstance(cause, BaseException) else str(cause)
