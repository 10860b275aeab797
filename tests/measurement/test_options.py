"""The options of every command that measures time: wrong ones are refused with the name of the field."""

import pytest

from mpvit.errors import UsageError
from mpvit.measurement.options import TimingOptions


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"device": "gpu"}, "device 'gpu'"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"dtype": "float8"}, "unknown dtype 'float8'"),
        ({"dtype": "tf32"}, "dtype 'tf32' on cpu: must be on CUDA"),
        ({"threads": 0}, "threads = 0"),
        ({"min_time_s": -1.0}, "min_time_s = -1.0"),
        ({"budget_s": 0.0}, "budget_s = 0.0: must be a number of seconds above 0"),
        ({"budget_s": float("nan")}, "budget_s = nan"),
    ],
)
def test_a_wrong_option_is_refused_with_its_name(wrong: dict[str, object], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        TimingOptions(**wrong)  # type: ignore[arg-type]
