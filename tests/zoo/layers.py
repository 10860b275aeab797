"""Small modules that multiply no matrix: norms, pools, upsampling and what is done an element."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as people write it
from torch.nn.utils import parametrizations, weight_norm
from zoo.written import FrozenBatchNorm, Gelu, Made, Written, parametrized

NORMS: dict[str, Made] = {
    "BatchNorm1d of rows": (lambda: nn.BatchNorm1d(4), "3x4"),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4, affine=False), "2x4x5"),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), "2x4x5x6"),
    "BatchNorm2d without statistics": (lambda: nn.BatchNorm2d(4, track_running_stats=False), "2x4x5x6"),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(2), "2x2x3x4x5"),
    "SyncBatchNorm": (lambda: nn.SyncBatchNorm(4), "2x4x5x6"),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(4), "2x4x5"),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(4, affine=True), "2x4x5x6"),
    "InstanceNorm2d without a batch": (lambda: nn.InstanceNorm2d(4, affine=True), "4x5x6"),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), "2x4x5x6"),
    "LayerNorm": (lambda: nn.LayerNorm(4), "2x3x4"),
    "LayerNorm without a bias": (lambda: nn.LayerNorm((3, 4), bias=False), "2x3x4"),
    "LayerNorm without a scale": (lambda: nn.LayerNorm(4, elementwise_affine=False), "2x3x4"),
    "RMSNorm": (lambda: nn.RMSNorm(4), "2x3x4"),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(2), "2x4x5x6"),
    "frozen batch norm": (lambda: nn.Sequential(nn.Conv2d(4, 4, 3), FrozenBatchNorm(4)), "2x4x5x6"),
    "F.layer_norm": (lambda: Written(lambda own, x: F.layer_norm(x, (4,), own.weight), weight=(4,)), "2x3x4"),
    "F.batch_norm": (lambda: Written(lambda _, x: F.batch_norm(x, None, None, training=True)), "2x4x5"),
    "F.group_norm by keyword": (lambda: Written(lambda own, x: F.group_norm(x, 2, weight=own.weight), weight=(4,)), "2x4x5"),
    "F.normalize": (lambda: Written(lambda _, x: F.normalize(x, dim=-1)), "2x3x4"),
    "weight_norm": (lambda: parametrizations.weight_norm(nn.Linear(4, 6)), "2x4"),
    "weight_norm, old": (lambda: weight_norm(nn.Conv1d(4, 6, 3)), "2x4x9"),
    "spectral_norm": (lambda: parametrizations.spectral_norm(nn.Linear(4, 6)), "2x4"),
    "parametrized": (parametrized, "2x4"),
}

RESAMPLING: dict[str, Made] = {
    "MaxPool1d": (lambda: nn.MaxPool1d(2), "2x4x9"),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, ceil_mode=True), "2x4x6x6"),
    "MaxPool3d": (lambda: nn.MaxPool3d(2), "2x2x4x4x4"),
    "AvgPool1d": (lambda: nn.AvgPool1d(2), "2x4x9"),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), "2x4x6x6"),
    "AvgPool2d without a batch": (lambda: nn.AvgPool2d(2), "4x6x6"),
    "AvgPool3d": (lambda: nn.AvgPool3d(2), "2x2x4x4x4"),
    "LPPool2d": (lambda: nn.LPPool2d(2, 2), "2x4x6x6"),
    "AdaptiveAvgPool1d": (lambda: nn.AdaptiveAvgPool1d(3), "2x4x7"),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((3, None)), "2x4x7x6"),
    "AdaptiveAvgPool2d without a batch": (lambda: nn.AdaptiveAvgPool2d(2), "4x6x8"),
    "AdaptiveAvgPool3d": (lambda: nn.AdaptiveAvgPool3d(2), "2x2x4x4x4"),
    "AdaptiveMaxPool1d": (lambda: nn.AdaptiveMaxPool1d(3), "2x4x6"),
    "AdaptiveMaxPool2d": (lambda: nn.AdaptiveMaxPool2d(3), "2x4x6x6"),
    "F.avg_pool2d": (lambda: Written(lambda _, x: F.avg_pool2d(x, 2)), "2x4x6x6"),
    "F.max_pool2d with indices": (lambda: Written(lambda _, x: F.max_pool2d(x, 2, return_indices=True)[0]), "2x4x6x6"),
    "F.adaptive_avg_pool2d by keyword": (lambda: Written(lambda _, x: F.adaptive_avg_pool2d(x, output_size=1)), "2x4x6x6"),
    "F.adaptive_max_pool1d": (lambda: Written(lambda _, x: F.adaptive_max_pool1d(x, 2)), "2x4x6"),
    "Upsample": (lambda: nn.Upsample(scale_factor=2), "2x4x3x3"),
    "Upsample, bilinear": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), "2x4x3x3"),
    "Upsample, linear": (lambda: nn.Upsample(size=7, mode="linear"), "2x4x3"),
    "Upsample, trilinear": (lambda: nn.Upsample(scale_factor=2, mode="trilinear"), "1x2x3x3x3"),
    "UpsamplingBilinear2d": (lambda: nn.UpsamplingBilinear2d(scale_factor=2), "2x4x3x3"),
    "UpsamplingNearest2d": (lambda: nn.UpsamplingNearest2d(size=(5, 6)), "2x4x3x3"),
    **{
        f"interpolate {mode}": (
            lambda mode=mode: Written(lambda _, x: F.interpolate(x, scale_factor=2, mode=mode)),  # type: ignore[misc]
            shape,
        )
        for mode, shape in {
            "nearest": "2x4x3x3", "nearest-exact": "2x4x3x3", "linear": "2x4x5", "bilinear": "2x4x3x3",
            "bicubic": "2x4x3x3", "trilinear": "1x2x3x3x3", "area": "2x4x4x4",
        }.items()
    },
    "interpolate by half": (lambda: Written(lambda _, x: F.interpolate(x, scale_factor=(1.5, 0.5))), "2x4x5x5"),
    "interpolate to a size": (lambda: Written(lambda _, x: F.interpolate(x, (5, 7), None, "bilinear")), "2x4x3x3"),
    "interpolate, antialiased": (
        lambda: Written(lambda _, x: F.interpolate(x, size=4, mode="bilinear", antialias=True)),
        "2x4x8x8",
    ),
    "interpolate nothing": (lambda: Written(lambda _, x: F.interpolate(x, size=3, mode="bicubic")), "2x4x3x3"),
    "grid_sample": (lambda: Written(lambda _, x, grid: F.grid_sample(x, grid, align_corners=False)), "2x4x5x5 2x3x3x2"),
    "affine_grid": (
        lambda: Written(lambda _, x, theta: F.grid_sample(x, F.affine_grid(theta, x.shape, True), align_corners=True)),  # noqa: FBT003
        "2x4x5x5 2x2x3",
    ),
    "pixel shuffle": (lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.PixelShuffle(2)), "2x3x4x4"),
    "unfold and fold": (lambda: Written(lambda _, x: F.fold(F.unfold(x, 2), (6, 6), 2)), "2x4x6x6"),
}  # fmt: skip

ELEMENTWISE: dict[str, Made] = {
    **{
        f"{kind.__name__}": (lambda kind=kind: nn.Sequential(nn.Linear(4, 4), kind()), "2x3x4")  # type: ignore[misc]
        for kind in (
            nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh,
            nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Softplus, nn.LogSigmoid, nn.Softsign, nn.Tanhshrink, nn.GLU, nn.RReLU,
            nn.Dropout, nn.Identity,
        )
    },
    **{
        f"F.{kind}": (
            lambda kind=kind: Written(lambda own, x: getattr(F, kind)(own.layer(x)), layer=nn.Linear(4, 4)),  # type: ignore[misc]
            "2x3x4",
        )
        for kind in (
            "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "hardswish", "hardsigmoid", "softplus",
            "tanh", "sigmoid", "logsigmoid", "glu", "dropout",
        )
    },
    "F.prelu": (lambda: Written(lambda own, x: F.prelu(x, own.weight), weight=(1,)), "2x3x4"),
    "F.gelu by keyword": (lambda: Written(lambda _, x: F.gelu(input=x, approximate="tanh")), "2x3x4"),
    "relu in place": (lambda: Written(lambda _, x: F.relu((x + 1), inplace=True)), "2x3x4"),
    "GELU by reference": (lambda: Gelu(F.gelu), "2x3x4"),
    "SiLU by reference": (lambda: Gelu(F.silu), "2x3x4"),
    "torch.relu": (lambda: Written(lambda _, x: torch.relu(x) + x.relu()), "2x3x4"),
    "Softmax": (lambda: nn.Softmax(-1), "2x3x4"),
    "Softmax over the middle": (lambda: nn.Softmax(dim=1), "2x3x4"),
    "Softmax2d": (nn.Softmax2d, "2x3x4x4"),
    "LogSoftmax": (lambda: nn.LogSoftmax(-1), "2x3x4"),
    "Softmin": (lambda: nn.Softmin(-1), "2x3x4"),
    "F.softmax": (lambda: Written(lambda _, x: F.softmax(x, dim=-1)), "2x3x4"),
    "F.log_softmax": (lambda: Written(lambda _, x: F.log_softmax(x, dim=-1)), "2x3x4"),
    "torch.softmax": (lambda: Written(lambda _, x: torch.softmax(x, -1) + x.softmax(-1)), "2x3x4"),
    "torch.add and torch.mul": (lambda: Written(lambda _, x, y: torch.add(torch.mul(x, y), x)), "2x3x4 4"),
    "add and mul of numbers": (lambda: Written(lambda _, x: torch.mul(torch.add(x, 1), 2.0)), "2x3x4"),
    "Tensor.add by keyword": (lambda: Written(lambda _, x, y: x.add(other=y).mul(other=y)), "2x3x4 2x3x1"),
    "add in place": (lambda: Written(lambda _, x: x.clone().add_(1).mul_(2)), "2x3x4"),
    "+ and *": (lambda: Written(lambda _, x, y: x * y + 1 - x / 2), "2x3x4 2x3x4"),
}  # fmt: skip
