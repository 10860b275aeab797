import torch
from hypothesis import Phase, settings

# A shared machine stalls now and then: a deadline would fail what is only late. Runs repeat the same examples.
settings.register_profile("mpvit", deadline=None, derandomize=True)
# Of a changed program one example that fails is enough: see [tool.mutmut] in pyproject.toml.
settings.register_profile("mutants", settings.get_profile("mpvit"), phases=[Phase.explicit, Phase.generate], max_examples=10)
settings.load_profile("mpvit")

# Hundreds of small networks: threads that wait for each other cost more than they bring.
torch.set_num_threads(1)
