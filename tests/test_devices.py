import pytest
import torch

from mpvit.devices import parse_device
from mpvit.errors import UsageError


@pytest.mark.parametrize("name", ["gpu", "", "cuda:9999", "cuda:x", "cpu:1", "meta", "cpu:-1", "mps:7"])
def test_a_device_that_this_machine_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"^device '{name}': "):
        parse_device(name)


def test_the_cpu_is_a_device() -> None:
    assert parse_device("cpu") == torch.device("cpu")
