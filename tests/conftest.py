from hypothesis import settings

# A shared machine stalls now and then: a deadline would fail what is only late. Runs repeat the same examples.
settings.register_profile("mpvit", deadline=None, derandomize=True)
settings.load_profile("mpvit")
