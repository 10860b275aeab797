"""The bytes that ``memory`` says are kept are those that autograd keeps on the CPU, counted here by hooks of its own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from mpvit.training_memory import MemoryOptions
from mpvit.training_memory.live import training_memory
from mpvit.user_model import UserModel
from mpvit.user_model.inputs import Input


def kept_on_the_cpu(network: nn.Module, inputs: list[Tensor]) -> int:
    """By the addresses of storages, which tensors on the CPU have; all are held, so that none is given out twice."""
    held: list[Tensor] = []
    sizes: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and storage.nbytes():
            held.append(tensor)
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        out = network(*inputs)
    del out
    return sum(sizes.values())


def assert_agree(make: Callable[[], nn.Module], *inputs: Input) -> None:
    model = UserModel("network", lambda: make().eval(), inputs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kept = kept_on_the_cpu(make().train(), model.tensors("cpu"))
    assert training_memory(model, MemoryOptions()).activations.saved_bytes == kept


class Cells(nn.Module):
    """Steps over the 5 tokens of (2, 5, 8)."""

    def __init__(self, cell: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.cell = cell(8, 8)

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - LSTM cells have two states
        state = None
        for token in x.unbind(1):
            state = self.cell(token, state)
        return state


class Encoded(nn.Module):
    """Recurrent layers amid others, whose copies depend on how the results lie in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(8, 8), nn.Linear(32, 3)
        self.layers = nn.LSTM(8, 16, 2, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.layers(self.before(x).relu())[0].transpose(1, 2).flatten(1).view(2, -1, 32).softmax(-1))


TOKENS = Input((2, 5, 8))
WORDS = Input((3, 5), "int64")

RECURRENT: dict[str, tuple[Callable[[], nn.Module], Input]] = {
    "lstm": (lambda: nn.LSTM(8, 16), TOKENS),
    "lstm of three layers both ways": (lambda: nn.LSTM(8, 16, 3, bidirectional=True, batch_first=True), TOKENS),
    "projected lstm": (lambda: nn.LSTM(8, 16, proj_size=4), TOKENS),
    "lstm without biases": (lambda: nn.LSTM(8, 16, bias=False, batch_first=True), TOKENS),
    "lstm amid others": (Encoded, TOKENS),
    "gru": (lambda: nn.GRU(8, 16, 2, bidirectional=True), TOKENS),
    "rnn": (lambda: nn.RNN(8, 16, 2), TOKENS),
    "rnn with relu": (lambda: nn.RNN(8, 16, nonlinearity="relu", batch_first=True), TOKENS),
    "lstm cells": (lambda: Cells(nn.LSTMCell), TOKENS),
    "gru cells": (lambda: Cells(nn.GRUCell), TOKENS),
    "rnn cells": (lambda: Cells(nn.RNNCell), TOKENS),
    "bag of means": (lambda: nn.EmbeddingBag(10, 4), WORDS),
    "bag of sums": (lambda: nn.EmbeddingBag(10, 4, mode="sum"), WORDS),
    "bag of maxima": (lambda: nn.EmbeddingBag(10, 4, mode="max"), WORDS),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_and_bags(name: str) -> None:
    assert_agree(*RECURRENT[name])


def tiny(name: str, **changes: Any) -> Callable[[], nn.Module]:  # noqa: ANN401 - a configuration's fields
    """Return what makes the network ``name`` of transformers from a tiny configuration, with random weights."""
    transformers = pytest.importorskip("transformers")
    model = getattr(transformers, f"{name}Model")
    return lambda: model(getattr(transformers, f"{name}Config")(**changes))


PIXELS = Input((2, 3, 32, 32))
IDS = Input((2, 7), "int64")
WIDTH = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
VISION = {**WIDTH, "image_size": 32, "patch_size": 8}
TEXT = {**WIDTH, "vocab_size": 50, "max_position_embeddings": 32}
STAGES = {"depths": [1, 1], "hidden_sizes": [8, 16]}

TRANSFORMERS: dict[str, tuple[dict[str, Any], tuple[Input, ...]]] = {
    "ViT": (VISION, (PIXELS,)),
    "DeiT": (VISION, (PIXELS,)),
    "Beit": (VISION, (PIXELS,)),
    "Dinov2": (VISION, (PIXELS,)),
    "ViTMSN": (VISION, (PIXELS,)),
    "SiglipVision": (VISION, (PIXELS,)),
    "CLIPVision": (VISION, (PIXELS,)),
    "Swin": ({"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2]}, (PIXELS,)),
    "ConvNext": ({"num_stages": 2, **STAGES}, (PIXELS,)),
    "ResNet": ({"embedding_size": 8, **STAGES}, (PIXELS,)),
    "RegNet": ({"embedding_size": 8, "groups_width": 4, **STAGES}, (PIXELS,)),
    "PoolFormer": ({"hidden_sizes": [4, 8, 8, 16], "depths": [1, 1, 1, 1]}, (PIXELS,)),
    "Bert": (TEXT, (IDS,)),
    "Roberta": (TEXT, (IDS,)),
    "DistilBert": ({"vocab_size": 50, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}, (IDS,)),
    "GPT2": ({"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}, (IDS,)),
    "Whisper": (
        {
            "vocab_size": 50,
            "num_mel_bins": 8,
            "d_model": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 24,
            "decoder_ffn_dim": 24,
            "max_source_positions": 10,
            "max_target_positions": 10,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
        },
        (Input((2, 8, 20)), IDS._replace(name="decoder_input_ids")),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_networks_of_transformers(name: str) -> None:
    from mpvit.user_model.making import prepared

    changes, inputs = TRANSFORMERS[name]
    make = tiny(name, **changes)
    assert_agree(lambda: prepared(make(), name, inputs), *inputs)
