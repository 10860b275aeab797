import torch
from hypothesis import settings

# A shared machine stalls now and then: a deadline would fail what is only late. Runs repeat the same examples.
settings.register_profile("mpvit", deadline=None, derandomize=True)
settings.load_profile("mpvit")

# Hundreds of small networks: threads that wait for each other cost more than they bring.
torch.set_num_threads(1)
