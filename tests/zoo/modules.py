"""Small modules of every kind that people write, each with its inputs as ``--input`` takes them, blanks between."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as people write it
from zoo.layers import ELEMENTWISE, NORMS, RESAMPLING
from zoo.written import ByKeyword, Cells, Checkpointed, First, Made, Nested, Packed, Twice, Written, squared, twice

CONVOLUTIONS: dict[str, Made] = {
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, groups=2), "2x4x9"),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1), "2x4x9x8"),
    "conv3d": (lambda: nn.Conv3d(2, 4, 3, bias=False), "2x2x5x5x5"),
    "conv2d dilated": (lambda: nn.Conv2d(4, 4, 3, dilation=2, groups=4), "2x4x9x9"),
    "conv2d same": (lambda: nn.Conv2d(4, 6, (3, 5), padding="same"), "2x4x9x8"),
    "conv1d same, even window": (lambda: nn.Conv1d(4, 6, 4, padding="same"), "2x4x9"),
    "conv2d same, dilated and strided apart": (
        lambda: nn.Sequential(nn.Conv2d(4, 4, (4, 3), padding="same", dilation=(3, 2)), nn.Conv2d(4, 6, 2, 2, 1)),
        "2x4x9x8",
    ),
    "conv2d circular": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), "2x4x9x8"),
    "conv2d without a batch": (lambda: nn.Conv2d(4, 6, 3, groups=2), "4x9x8"),
    "conv1d without a batch": (lambda: nn.Conv1d(4, 6, 3), "4x9"),
    "conv3d without a batch": (lambda: nn.Conv3d(2, 4, 2), "2x5x5x5"),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2), "2x4x9"),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1, groups=2), "2x4x5x6"),
    "conv_transpose2d plain": (lambda: nn.ConvTranspose2d(4, 6, 2, stride=2, bias=False), "2x4x5x6"),
    "conv_transpose3d": (lambda: nn.ConvTranspose3d(2, 4, 2, stride=2), "1x2x3x3x3"),
    "conv_transpose2d without a batch": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), "4x5x6"),
    "F.conv2d, weight by keyword": (
        lambda: Written(lambda own, x: F.conv2d(x, weight=own.weight), weight=(8, 8, 3, 3)),
        "1x8x12x12",
    ),
    "F.conv2d, all by keyword": (
        lambda: Written(lambda own, x: F.conv2d(input=x, bias=own.bias, weight=own.weight), weight=(6, 4, 3, 3), bias=(6,)),
        "2x4x9x8",
    ),
    "F.conv_transpose2d by keyword": (
        lambda: Written(lambda own, x: F.conv_transpose2d(x, weight=own.weight, stride=2), weight=(4, 6, 2, 2)),
        "2x4x5x6",
    ),
    "F.conv1d, computed weight": (lambda: Written(lambda own, x: F.conv1d(x, own.weight * 2), weight=(6, 4, 3)), "2x4x9"),
    "conv2d of a weight from outside": (lambda: Written(lambda _, x, w: F.conv2d(x, w)), "2x4x9x8 6x4x3x3"),
    "torch.conv2d": (lambda: Written(lambda own, x: torch.conv2d(x, own.weight, groups=2), weight=(6, 2, 3, 3)), "2x4x9x8"),
    "aten.convolution": (
        lambda: Written(
            lambda own, x: torch.ops.aten.convolution(
                x, own.weight, own.bias, [1, 1], [0, 0], [1, 1], False, [0, 0], 1  # noqa: FBT003 - aten's order
            ),
            weight=(6, 4, 3, 3), bias=(6,),
        ),
        "2x4x9x8",
    ),
}  # fmt: skip

PRODUCTS: dict[str, Made] = {
    "linear": (lambda: nn.Linear(4, 6), "2x3x4"),
    "linear of one vector": (lambda: nn.Linear(4, 6), "4"),
    "linear over four axes": (lambda: nn.Linear(4, 6, bias=False), "2x3x5x4"),
    "F.linear, computed weight": (lambda: Written(lambda own, x: F.linear(x, own.weight.tanh()), weight=(6, 4)), "2x3x4"),
    "F.linear, weight by keyword": (
        lambda: Written(lambda own, x: F.linear(x, weight=own.weight, bias=own.bias), weight=(6, 4), bias=(6,)),
        "2x3x4",
    ),
    "F.linear of a flat weight": (lambda: Written(lambda own, x: F.linear(x, own.weight), weight=(4,)), "2x3x4"),
    "bilinear": (lambda: Written(lambda own, x, y: own.layer(x, y), layer=nn.Bilinear(4, 5, 6)), "3x4 3x5"),
    "matmul": (lambda: Written(lambda _, x, y: torch.matmul(x, y)), "2x3x4 2x4x5"),
    "matmul by keyword": (lambda: Written(lambda _, x, y: torch.matmul(input=x, other=y)), "2x3x4 2x4x5"),
    "matmul by keyword, turned": (lambda: Written(lambda _, x, y: torch.matmul(other=y, input=x)), "2x3x4 2x4x5"),
    "matmul, broadcast": (lambda: Written(lambda _, x, y: x.matmul(y)), "3x4 2x4x5"),
    "matmul of matrix and vector": (lambda: Written(lambda _, x, y: torch.matmul(x, y)), "2x3x4 4"),
    "matmul of vector and matrix": (lambda: Written(lambda _, x, y: torch.matmul(x, y)), "4 4x5"),
    "matmul of vectors": (lambda: Written(lambda _, x, y: torch.matmul(x, y)), "4 4"),
    "@": (lambda: Written(lambda own, x: x @ own.weight, weight=(4, 5)), "2x3x4"),
    "matmul by reference": (
        lambda: Written(lambda own, x: own.product(x, x.mT) + own.product(x, x.mT), product=torch.matmul),
        "2x3x4",
    ),
    "bmm": (lambda: Written(lambda _, x, y: torch.bmm(x, y)), "2x3x4 2x4x5"),
    "bmm by keyword": (lambda: Written(lambda _, x, y: torch.bmm(x, mat2=y)), "2x3x4 2x4x5"),
    "bmm into out": (lambda: Written(lambda _, x, y: torch.bmm(x, y, out=x.new_empty(2, 3, 5))), "2x3x4 2x4x5"),
    "mm": (lambda: Written(lambda _, x, y: x.mm(y)), "3x4 4x5"),
    "mv": (lambda: Written(lambda _, x, y: torch.mv(x, y)), "3x4 4"),
    "mv by keyword": (lambda: Written(lambda _, x, y: x.mv(vec=y)), "3x4 4"),
    "dot": (lambda: Written(lambda _, x, y: torch.dot(x, y)), "4 4"),
    "vdot": (lambda: Written(lambda _, x, y: torch.vdot(x, y)), "4 4"),
    "inner": (lambda: Written(lambda _, x, y: torch.inner(x, y)), "2x3x4 5x4"),
    "outer": (lambda: Written(lambda _, x, y: torch.outer(x, y)), "4 5"),
    "vecdot": (lambda: Written(lambda _, x, y: torch.linalg.vecdot(x, y)), "2x3x4 2x3x4"),
    "addmv": (lambda: Written(lambda _, x, y, z: torch.addmv(x, y, z)), "3 3x4 4"),
    "addmm": (lambda: Written(lambda _, x, y, z: torch.addmm(x, y, z)), "3x5 3x4 4x5"),
    "addmm of a row": (lambda: Written(lambda _, x, y, z: torch.addmm(x, y, z)), "5 3x4 4x5"),
    "addmm by keyword": (lambda: Written(lambda _, x, y, z: torch.addmm(x, mat1=y, mat2=z)), "5 3x4 4x5"),
    "addmm, nothing added": (lambda: Written(lambda _, x, y, z: torch.addmm(x, y, z, beta=0)), "3x5 3x4 4x5"),
    "Tensor.addmm": (lambda: Written(lambda _, x, y, z: x.addmm(y, z)), "3x5 3x4 4x5"),
    "baddbmm": (lambda: Written(lambda _, x, y, z: torch.baddbmm(x, y, z)), "2x3x5 2x3x4 2x4x5"),
    "Tensor.baddbmm": (lambda: Written(lambda _, x, y, z: x.baddbmm(y, z)), "2x3x5 2x3x4 2x4x5"),
    "addbmm": (lambda: Written(lambda _, x, y, z: torch.addbmm(x, y, z)), "3x5 2x3x4 2x4x5"),
    "addr": (lambda: Written(lambda _, x, y, z: torch.addr(x, y, z)), "3x5 3 5"),
    "multi_dot": (lambda: Written(lambda _, x, y, z: torch.linalg.multi_dot([x, y, z])), "3x4 4x5 5x2"),
    "chain_matmul": (lambda: Written(lambda _, x, y: torch.chain_matmul(x, y)), "3x4 4x5"),
    "tensordot": (lambda: Written(lambda _, x, y: torch.tensordot(x, y, dims=2)), "2x3x4 3x4x5"),
    "kron": (lambda: Written(lambda _, x, y: torch.kron(x, y)), "2x3 4x5"),
    "matrix_power": (lambda: Written(lambda _, x: torch.linalg.matrix_power(x, 3)), "4x4"),
    "einsum of one": (lambda: Written(lambda _, x: torch.einsum("bnc->b", x)), "2x3x4"),
    "einsum of two": (lambda: Written(lambda _, x, y: torch.einsum("bnc,bmc->bnm", x, y)), "2x3x4 2x5x4"),
    "einsum of two, listed": (lambda: Written(lambda _, x, y: torch.einsum("bnc,cd->bnd", [x, y])), "2x3x4 4x5"),
    "einsum of three": (lambda: Written(lambda _, x, y, z: torch.einsum("bnc,bmc,bmd->bnd", x, y, z)), "2x3x4 2x5x4 2x5x6"),
    "einsum without a sum": (lambda: Written(lambda _, x, y: torch.einsum("bn,bm->bnm", x, y)), "2x3 2x4"),
    "einsum, elementwise": (lambda: Written(lambda _, x, y: torch.einsum("bnc,bnc->bnc", x, y)), "2x3x4 2x3x4"),
    "complex product": (lambda: Written(lambda _, x, y: (x.to(torch.complex64) @ y.to(torch.complex64)).abs()), "2x3x4 2x4x5"),
    "Fourier and complex weight": (
        lambda: Written(
            lambda own, x: torch.fft.irfft(torch.einsum("bix,iox->box", torch.fft.rfft(x), torch.view_as_complex(own.weight))),
            weight=(4, 6, 5, 2),
        ),
        "2x4x8",
    ),
    "cdist": (lambda: Written(lambda _, x, y: torch.cdist(x, y)), "2x3x4 2x5x4"),
    "aten.mm": (lambda: Written(lambda _, x, y: torch.ops.aten.mm(x, y)), "3x4 4x5"),
    "aten.addmm": (
        lambda: Written(lambda own, x: torch.ops.aten.addmm(own.bias, x, own.weight), weight=(4, 5), bias=(5,)),
        "3x4",
    ),
    "autograd.Function": (lambda: Written(lambda own, x: squared(x, own.weight), weight=(5, 4)), "2x3x4"),
    "autograd.Function of two": (lambda: Written(lambda own, x: twice(x, own.weight) @ own.weight, weight=(4, 4)), "2x3x4"),
}  # fmt: skip

RECURRENT: dict[str, Made] = {
    "lstm": (lambda: First(nn.LSTM(4, 6)), "5x2x4"),
    "lstm of two layers": (lambda: First(nn.LSTM(4, 6, num_layers=2, batch_first=True)), "2x5x4"),
    "lstm, bidirectional": (lambda: First(nn.LSTM(4, 6, num_layers=2, bidirectional=True)), "5x2x4"),
    "lstm, projected": (lambda: First(nn.LSTM(4, 6, proj_size=3, num_layers=2, batch_first=True)), "2x5x4"),
    "lstm, projected both ways": (lambda: First(nn.LSTM(4, 6, num_layers=2, proj_size=3, bidirectional=True)), "5x2x4"),
    "lstm without biases": (lambda: First(nn.LSTM(4, 6, bias=False)), "5x2x4"),
    "lstm without a batch": (lambda: First(nn.LSTM(4, 6)), "5x4"),
    "lstm, packed": (Packed, "2x5x4"),
    "lstm with a state": (lambda: Written(lambda own, x, h: own.layer(x, (h, h))[0], layer=nn.LSTM(4, 6)), "5x2x4 1x2x6"),
    "lstm of doubles": (lambda: First(nn.LSTM(4, 6, batch_first=True).double()), "2x5x4:float64"),
    "lstm by itself": (lambda: nn.LSTM(4, 6), "5x2x4"),
    "gru": (lambda: First(nn.GRU(4, 6)), "5x2x4"),
    "gru, bidirectional": (lambda: First(nn.GRU(4, 6, num_layers=2, bidirectional=True, batch_first=True)), "2x5x4"),
    "gru of turned inputs": (lambda: Written(lambda own, x: own.layer(x.mT)[0], layer=nn.GRU(5, 6)), "2x5x4"),
    "gru without biases": (lambda: First(nn.GRU(4, 6, bias=False)), "5x2x4"),
    "rnn": (lambda: First(nn.RNN(4, 6, num_layers=2)), "5x2x4"),
    "rnn of rectifiers": (lambda: First(nn.RNN(4, 6, nonlinearity="relu", bidirectional=True)), "5x2x4"),
    "lstm cells": (lambda: Cells(nn.LSTMCell(4, 6)), "2x5x4"),
    "gru cells": (lambda: Cells(nn.GRUCell(4, 6)), "2x5x4"),
    "rnn cells without biases": (lambda: Cells(nn.RNNCell(4, 6, bias=False)), "2x5x4"),
    "lstm and a head": (lambda: nn.Sequential(First(nn.LSTM(4, 6, batch_first=True)), nn.Linear(6, 3)), "2x5x4"),
}

ATTENTION: dict[str, Made] = {
    "MultiheadAttention": (lambda: First(nn.MultiheadAttention(8, 2, batch_first=True), 3), "2x5x8"),
    "MultiheadAttention, length first": (lambda: First(nn.MultiheadAttention(8, 2), 3, need_weights=False), "5x2x8"),
    "MultiheadAttention, other widths": (
        lambda: Written(lambda own, x, y: own.layer(x, y, y)[0], layer=nn.MultiheadAttention(8, 2, kdim=6, vdim=6)),
        "5x2x8 3x2x6",
    ),
    "MultiheadAttention without a batch": (lambda: First(nn.MultiheadAttention(8, 2), 3), "5x8"),
    "MultiheadAttention, keywords": (
        lambda: Written(lambda own, x: own.layer(query=x, key=x, value=x)[0], layer=nn.MultiheadAttention(8, 2)),
        "5x2x8",
    ),
    "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), "2x5x8"),
    "TransformerEncoderLayer of GELUs": (lambda: nn.TransformerEncoderLayer(8, 2, 16, activation="gelu"), "5x2x8"),
    "TransformerEncoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False),
        "2x5x8",
    ),
    "TransformerDecoderLayer": (lambda: nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), "2x5x8 2x3x8"),
    "fused attention": (lambda: Written(lambda _, q, k: F.scaled_dot_product_attention(q, k, k)), "2x3x5x4 2x3x6x4"),
    "fused attention, masked": (
        lambda: Written(lambda _, q, m: F.scaled_dot_product_attention(q, q, q, attn_mask=m)),
        "2x3x5x4 5x5",
    ),
    "fused attention, causal": (
        lambda: Written(lambda _, q: F.scaled_dot_product_attention(q, q, q, is_causal=True)),
        "2x3x5x4",
    ),
    "fused attention, grouped queries": (
        lambda: Written(lambda _, q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True)),
        "2x4x5x4 2x2x5x4",
    ),
    "fused attention by keyword": (
        lambda: Written(lambda _, q: F.scaled_dot_product_attention(query=q, key=q, value=q)),
        "2x3x5x4",
    ),
    "attention by hand": (
        lambda: Written(lambda own, x: torch.matmul((own.q(x) @ x.mT).softmax(-1), x), q=nn.Linear(4, 4)),
        "2x5x4",
    ),
}  # fmt: skip

OTHERS: dict[str, Made] = {
    "Embedding": (lambda: nn.Embedding(10, 4), "2x3:int64"),
    "Embedding and head, tied": (
        lambda: Written(lambda own, x: F.linear(own.layer(x), own.layer.weight), layer=nn.Embedding(10, 4)),
        "2x3:int64",
    ),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(10, 4), "2x3:int64"),
    "F.embedding": (lambda: Written(lambda own, x: F.embedding(x, own.weight), weight=(10, 4)), "2x3:int64"),
    "positions": (lambda: Written(lambda own, x: F.embedding(torch.add(x, 1).mul(2), own.weight), weight=(10, 4)), "2x3:int64"),
    "one_hot": (lambda: Written(lambda own, x: F.one_hot(x, 10).float() @ own.weight, weight=(10, 4)), "2x3:int64"),
    "shared and tied": (Twice, "3x4"),
    "nested containers": (Nested, "3x4"),
    "checkpointed": (Checkpointed, "3x4"),
    "frozen": (lambda: nn.Sequential(nn.Linear(4, 4).requires_grad_(requires_grad=False), nn.Linear(4, 3)), "3x4"),
    "layers by keyword": (ByKeyword, "3x4"),
    "Flatten": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), "2x3x4"),
    "double": (lambda: Written(lambda _, x: x @ x.mT), "2x3x4:float64"),
    "whole numbers": (lambda: Written(lambda _, x: x @ x.mT), "2x3x4:int64"),
    "whole numbers by name": (lambda: Written(lambda own, x: torch.matmul(x, x.mT) * own.weight, weight=(1,)), "2x3x4:int64"),
    "no parameters": (lambda: Written(lambda _, x: x.mean(-1).cumsum(0)), "2x3x4"),
}

MODULES: dict[str, Made] = CONVOLUTIONS | PRODUCTS | RECURRENT | ATTENTION | NORMS | RESAMPLING | ELEMENTWISE | OTHERS
"""Each module's factory and its inputs."""
