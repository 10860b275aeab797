import gc
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, settings

# A shared machine stalls now and then: a deadline would fail what is only late. Runs repeat the same examples.
settings.register_profile("mpvit", deadline=None, derandomize=True)
# Of a changed program one example that fails is enough: see [tool.mutmut] in pyproject.toml.
settings.register_profile("mutants", settings.get_profile("mpvit"), phases=[Phase.explicit, Phase.generate], max_examples=10)
settings.load_profile("mpvit")

# Hundreds of small networks: threads that wait for each other cost more than they bring.
torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """Collect garbage more rarely and leave the imported modules alone: it takes 7 % of the processor time otherwise."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``small.safetensors`` and the same network exported to every target; nobody writes there."""
    from exports import export_all

    folder = tmp_path_factory.mktemp("exported")
    export_all(folder)
    return folder
