"""Networks that nobody here wrote: those of ``transformers``, made tiny, with random weights; nothing is downloaded."""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import nn


class Network(NamedTuple):
    """A network's class in ``transformers``, what its configuration is given, and the inputs of its forward pass."""

    type: str
    settings: dict[str, Any]
    inputs: tuple[str, ...]


IMAGE = ("1x3x32x32",)
LARGER = ("1x3x64x64",)
VIDEO = ("1x2x3x32x32",)
TOKENS = ("1x12:int64",)

_SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
_VIT = {**_SMALL, "image_size": 32, "patch_size": 8}
_STAGES = {"embed_dim": 8, "depths": [1, 2], "num_heads": [1, 2], "image_size": 32}
_SWIN = {**_STAGES, "window_size": 4}
_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "out_features": ["stage2", "stage3", "stage4"],
}
_BERT = {**_SMALL, "vocab_size": 50, "max_position_embeddings": 32}
_DETR = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "num_queries": 5,
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "backbone_config": {**_RESNET, "out_features": ["stage4"]},
}
_WAVES = {
    **_SMALL,
    "conv_dim": [8, 8],
    "conv_kernel": [10, 3],
    "conv_stride": [5, 2],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 20,
}
_DPT = {
    **_VIT,
    "patch_size": 8,
    "backbone_out_indices": [0, 1, 2, 3],
    "num_hidden_layers": 4,
    "neck_hidden_sizes": [8, 8, 16, 16],
    "fusion_hidden_size": 8,
    "is_hybrid": False,
}
_DINO = {
    "model_type": "dinov2",
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
    "reshape_hidden_states": False,
}
_TINY_SWIN = {
    "model_type": "swin",
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "image_size": 64,
    "window_size": 4,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}

NETWORKS: dict[str, Network] = {
    "aimv2": Network("Aimv2VisionModel", _VIT, IMAGE),
    "audio_spectrogram_transformer": Network("ASTModel", {**_SMALL, "max_length": 32, "num_mel_bins": 16}, ("1x32x16",)),
    "beit": Network("BeitForImageClassification", {**_VIT, "out_indices": [0, 1]}, IMAGE),
    "beit_relative": Network("BeitModel", {**_VIT, "use_relative_position_bias": True}, IMAGE),
    "bert": Network("BertModel", _BERT, TOKENS),
    "bit": Network(
        "BitForImageClassification", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "num_groups": 4}, IMAGE
    ),
    "blip": Network("BlipVisionModel", _VIT, IMAGE),
    "chinese_clip": Network("ChineseCLIPVisionModel", _VIT, IMAGE),
    "clap_audio": Network(
        "ClapAudioModel",
        {
            "spec_size": 32,
            "num_mel_bins": 8,
            "window_size": 2,
            "patch_embeds_hidden_size": 8,
            "depths": [1, 1],
            "num_attention_heads": [1, 2],
            "hidden_size": 16,
        },
        ("1x1x32x8",),
    ),
    "clip": Network("CLIPVisionModel", _VIT, IMAGE),
    "conditional_detr": Network("ConditionalDetrModel", _DETR, LARGER),
    "convnext": Network("ConvNextForImageClassification", {"hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2}, IMAGE),
    "convnextv2": Network("ConvNextV2Model", {"hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2}, IMAGE),
    "cvt": Network(
        "CvtForImageClassification",
        {
            "embed_dim": [8, 16, 24],
            "num_heads": [1, 2, 2],
            "depth": [1, 2, 3],
            "drop_path_rate": [0.0, 0.0, 0.1],
            "cls_token": [False, False, True],
        },
        IMAGE,
    ),
    "dab_detr": Network("DabDetrModel", {**_DETR, "hidden_size": 16}, LARGER),
    "data2vec_vision": Network("Data2VecVisionModel", _VIT, IMAGE),
    "deformable_detr": Network(
        "DeformableDetrModel", {**_DETR, "d_model": 32, "backbone_config": _RESNET, "num_feature_levels": 3}, LARGER
    ),
    "deit": Network("DeiTForImageClassification", _VIT, IMAGE),
    "depth_anything": Network(
        "DepthAnythingForDepthEstimation",
        {
            "backbone_config": _DINO,
            "reassemble_hidden_size": 16,
            "patch_size": 14,
            "neck_hidden_sizes": [8, 8, 16, 16],
            "fusion_hidden_size": 8,
            "head_hidden_size": 8,
        },
        ("1x3x28x28",),
    ),
    "detr": Network("DetrModel", _DETR, LARGER),
    "dinov2": Network("Dinov2ForImageClassification", {**_VIT, "mlp_ratio": 2}, IMAGE),
    "dinov2_swiglu": Network("Dinov2Model", {**_VIT, "use_swiglu_ffn": True}, IMAGE),
    "dinov2_with_registers": Network("Dinov2WithRegistersModel", _VIT, IMAGE),
    "dinov3_convnext": Network("DINOv3ConvNextModel", {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}, LARGER),
    "dinov3_vit": Network("DINOv3ViTModel", _VIT, IMAGE),
    "donut_swin": Network("DonutSwinModel", _SWIN, IMAGE),
    "dpt": Network("DPTForDepthEstimation", _DPT, IMAGE),
    "efficientnet": Network(
        "EfficientNetForImageClassification",
        {"image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320},
        IMAGE,
    ),
    "flava_image": Network("FlavaImageModel", _VIT, IMAGE),
    "focalnet": Network(
        "FocalNetForImageClassification",
        {"embed_dim": 8, "depths": [1, 2], "focal_levels": [2, 2], "focal_windows": [3, 3], "image_size": 32},
        IMAGE,
    ),
    "git_vision": Network("GitVisionModel", _VIT, IMAGE),
    "glpn": Network(
        "GLPNForDepthEstimation",
        {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 8},
        LARGER,
    ),
    "gpt2": Network("GPT2LMHeadModel", {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 32}, TOKENS),
    "groupvit": Network(
        "GroupViTVisionModel",
        {
            **_SMALL,
            "image_size": 32,
            "patch_size": 8,
            "depths": [1, 1, 1],
            "num_group_tokens": [4, 2, 0],
            "num_output_groups": [4, 2, 0],
        },
        IMAGE,
    ),
    "hgnet_v2": Network(
        "HGNetV2ForImageClassification",
        {
            "embedding_size": 8,
            "stem_channels": [3, 8, 8],
            "hidden_sizes": [8, 16],
            "depths": [1, 1],
            "stage_in_channels": [8, 8],
            "stage_mid_channels": [8, 8],
            "stage_out_channels": [8, 16],
            "stage_num_blocks": [1, 1],
            "stage_downsample": [False, True],
            "stage_light_block": [False, True],
            "stage_kernel_size": [3, 3],
            "stage_numb_of_layers": [2, 2],
        },
        IMAGE,
    ),
    "hiera": Network(
        "HieraForImageClassification",
        {"embed_dim": 8, "image_size": [64, 64], "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
        LARGER,
    ),
    "idefics_vision": Network("Idefics3VisionTransformer", {**_VIT}, IMAGE),
    "ijepa": Network("IJepaModel", _VIT, IMAGE),
    "imagegpt": Network(
        "ImageGPTModel", {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 32}, TOKENS
    ),
    "instructblip": Network("InstructBlipVisionModel", _VIT, IMAGE),
    "internvl_vision": Network("InternVLVisionModel", {**_VIT, "image_size": [32, 32], "patch_size": [8, 8]}, IMAGE),
    "kosmos2_vision": Network("AltCLIPVisionModel", _VIT, IMAGE),
    "levit": Network(
        "LevitForImageClassification",
        {
            "image_size": 64,
            "hidden_sizes": [16, 24, 32],
            "num_attention_heads": [1, 2, 2],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
            "mlp_ratio": [2, 2, 2],
            "attention_ratio": [2, 2, 2],
        },
        LARGER,
    ),
    "lw_detr_vit": Network("LwDetrViTBackbone", {**_VIT, "num_windows": 4, "window_block_indices": [0]}, IMAGE),
    "mask2former": Network(
        "Mask2FormerModel",
        {
            "backbone_config": _TINY_SWIN,
            "use_pretrained_backbone": False,
            "feature_size": 32,
            "mask_feature_size": 32,
            "hidden_dim": 32,
            "encoder_feedforward_dim": 24,
            "encoder_layers": 1,
            "decoder_layers": 2,
            "num_attention_heads": 2,
            "dim_feedforward": 24,
            "num_queries": 4,
        },
        LARGER,
    ),
    "maskformer": Network(
        "MaskFormerModel",
        {
            "backbone_config": _TINY_SWIN,
            "decoder_config": {**{k: v for k, v in _DETR.items() if "backbone" not in k}, "model_type": "detr"},
            "fpn_feature_size": 32,
            "mask_feature_size": 32,
        },
        LARGER,
    ),
    "metaclip_2": Network("MetaClip2VisionModel", _VIT, IMAGE),
    "mgp_str": Network(
        "MgpstrModel",
        {"image_size": [32, 32], "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
        IMAGE,
    ),
    "mlcd": Network("MLCDVisionModel", _VIT, IMAGE),
    "mobilenet_v1": Network("MobileNetV1ForImageClassification", {"depth_multiplier": 0.25, "min_depth": 4}, IMAGE),
    "mobilenet_v2": Network("MobileNetV2ForImageClassification", {"depth_multiplier": 0.25}, IMAGE),
    "mobilenet_v2_segmentation": Network("MobileNetV2ForSemanticSegmentation", {"depth_multiplier": 0.25}, LARGER),
    "mobilevit": Network(
        "MobileViTForImageClassification",
        {
            "hidden_sizes": [16, 24, 32],
            "neck_hidden_sizes": [8, 8, 16, 16, 16, 16, 24],
            "num_attention_heads": 2,
            "image_size": 64,
        },
        LARGER,
    ),
    "mobilevitv2": Network("MobileViTV2ForImageClassification", {"width_multiplier": 0.25, "image_size": 64}, LARGER),
    "oneformer": Network(
        "OneFormerModel",
        {
            "backbone_config": _TINY_SWIN,
            "use_pretrained_backbone": False,
            "is_training": False,
            "conv_dim": 32,
            "mask_dim": 32,
            "hidden_dim": 32,
            "encoder_feedforward_dim": 24,
            "encoder_layers": 1,
            "decoder_layers": 2,
            "num_attention_heads": 2,
            "dim_feedforward": 24,
            "num_queries": 4,
            "task_seq_len": 12,
            "text_encoder_width": 16,
            "text_encoder_context_length": 12,
            "text_encoder_num_layers": 1,
            "text_encoder_vocab_size": 50,
        },
        ("1x3x64x64", "1x12"),
    ),
    "owlvit": Network("OwlViTVisionModel", _VIT, IMAGE),
    "perceiver": Network(
        "PerceiverForImageClassificationConvProcessing",
        {
            "num_latents": 4,
            "d_latents": 16,
            "num_self_attends_per_block": 1,
            "num_self_attention_heads": 2,
            "num_cross_attention_heads": 1,
            "d_model": 64,
            "image_size": 32,
        },
        ("1x3x224x224",),
    ),
    "pixtral": Network("PixtralVisionModel", {**_VIT}, IMAGE),
    "poolformer": Network("PoolFormerForImageClassification", {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}, LARGER),
    "pvt": Network(
        "PvtForImageClassification",
        {
            "image_size": 64,
            "hidden_sizes": [8, 16, 16, 16],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 2],
            "sequence_reduction_ratios": [4, 2, 1, 1],
        },
        LARGER,
    ),
    "pvt_v2": Network(
        "PvtV2ForImageClassification",
        {
            "image_size": 64,
            "hidden_sizes": [8, 16, 16, 16],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 2],
            "sr_ratios": [4, 2, 1, 1],
        },
        LARGER,
    ),
    "pvt_v2_linear": Network(
        "PvtV2Model",
        {
            "image_size": 64,
            "hidden_sizes": [8, 16, 16, 16],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 2],
            "linear_attention": True,
        },
        LARGER,
    ),
    "regnet": Network(
        "RegNetForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "groups_width": 4},
        IMAGE,
    ),
    "resnet": Network("ResNetForImageClassification", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2]}, IMAGE),
    "rt_detr": Network(
        "RTDetrModel",
        {
            "backbone_config": {
                "model_type": "rt_detr_resnet",
                "embedding_size": 8,
                "hidden_sizes": [8, 16, 24, 32],
                "depths": [1, 1, 1, 1],
                "out_features": ["stage2", "stage3", "stage4"],
            },
            "backbone": None,
            "use_pretrained_backbone": False,
            "encoder_hidden_dim": 16,
            "encoder_in_channels": [16, 24, 32],
            "feat_strides": [8, 16, 32],
            "encoder_ffn_dim": 24,
            "encoder_attention_heads": 2,
            "d_model": 16,
            "num_queries": 5,
            "decoder_in_channels": [16, 16, 16],
            "decoder_ffn_dim": 24,
            "decoder_layers": 1,
            "decoder_attention_heads": 2,
        },
        LARGER,
    ),
    "sam": Network(
        "SamVisionModel",
        {**_VIT, "output_channels": 8, "window_size": 2, "global_attn_indexes": [1], "mlp_dim": 32, "num_pos_feats": 8},
        IMAGE,
    ),
    "segformer": Network(
        "SegformerForImageClassification",
        {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]},
        LARGER,
    ),
    "segformer_segmentation": Network(
        "SegformerForSemanticSegmentation",
        {
            "hidden_sizes": [8, 8, 16, 16],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 1, 2, 2],
            "decoder_hidden_size": 16,
        },
        LARGER,
    ),
    "siglip": Network("SiglipVisionModel", _VIT, IMAGE),
    "siglip_classification": Network("SiglipForImageClassification", {"vision_config": _VIT, "text_config": _SMALL}, IMAGE),
    "superpoint": Network(
        "SuperPointForKeypointDetection",
        {"encoder_hidden_sizes": [8, 8, 16, 16], "decoder_hidden_size": 16, "descriptor_decoder_dim": 16},
        LARGER,
    ),
    "swiftformer": Network(
        "SwiftFormerForImageClassification", {"image_size": 64, "depths": [1, 1, 1, 1], "embed_dims": [8, 16, 24, 32]}, LARGER
    ),
    "swin": Network("SwinForImageClassification", _SWIN, IMAGE),
    "swin_padded": Network("SwinModel", {**_SWIN, "image_size": 40}, ("1x3x40x40",)),
    "swin2sr": Network(
        "Swin2SRForImageSuperResolution",
        {"image_size": 16, "embed_dim": 8, "depths": [1, 2], "num_heads": [2, 2], "window_size": 4, "upscale": 2},
        ("1x3x16x16",),
    ),
    "swinv2": Network("Swinv2ForImageClassification", _SWIN, IMAGE),
    "table_transformer": Network("TableTransformerModel", _DETR, LARGER),
    "textnet": Network(
        "TextNetForImageClassification",
        {
            "hidden_sizes": [8, 8, 16, 16, 16],
            "stem_out_channels": 8,
            "conv_layer_kernel_sizes": [[[3, 3]], [[3, 3], [1, 3]], [[3, 3]], [[3, 1]]],
            "conv_layer_strides": [[1], [2, 1], [2], [2]],
        },
        LARGER,
    ),
    "timesformer": Network("TimesformerModel", {**_VIT, "num_frames": 2}, VIDEO),
    "tvp_vision": Network("VivitModel", {**_VIT, "num_frames": 2, "tubelet_size": [2, 8, 8]}, VIDEO),
    "upernet": Network(
        "UperNetForSemanticSegmentation",
        {
            "backbone_config": _TINY_SWIN,
            "hidden_size": 8,
            "pool_scales": [1, 2],
            "auxiliary_in_channels": 32,
            "auxiliary_channels": 8,
            "num_labels": 5,
        },
        LARGER,
    ),
    "upernet_convnext": Network(
        "UperNetForSemanticSegmentation",
        {
            "backbone_config": {
                "model_type": "convnext",
                "hidden_sizes": [8, 8, 16, 16],
                "depths": [1, 1, 1, 1],
                "out_features": ["stage1", "stage2", "stage3", "stage4"],
            },
            "hidden_size": 8,
            "pool_scales": [1, 2],
            "auxiliary_in_channels": 16,
            "auxiliary_channels": 8,
            "num_labels": 5,
        },
        LARGER,
    ),
    "videomae": Network("VideoMAEModel", {**_VIT, "num_frames": 2}, VIDEO),
    "vit": Network("ViTForImageClassification", _VIT, IMAGE),
    "vit_eager": Network("ViTModel", {**_VIT, "attn_implementation": "eager"}, IMAGE),
    "vit_mae": Network("ViTMAEModel", _VIT, IMAGE),
    "vit_msn": Network("ViTMSNModel", _VIT, IMAGE),
    "vitdet": Network(
        "VitDetModel", {**_VIT, "window_block_indices": [0], "window_size": 2, "use_relative_position_embeddings": True}, IMAGE
    ),
    "vitmatte": Network(
        "VitMatteForImageMatting",
        {
            "backbone_config": {
                "model_type": "vitdet",
                **_VIT,
                "num_channels": 4,
                "patch_size": 16,
                "out_features": ["stage2"],
            },
            "hidden_size": 16,
            "convstream_hidden_sizes": [8, 12, 16],
            "fusion_hidden_sizes": [16, 12, 8, 4],
        },
        ("1x4x32x32",),
    ),
    "vitpose": Network(
        "VitPoseForPoseEstimation",
        {
            "backbone_config": {
                "model_type": "vitpose_backbone",
                **_VIT,
                "image_size": [32, 32],
                "patch_size": [8, 8],
                "out_features": ["stage2"],
            }
        },
        IMAGE,
    ),
    "vjepa2": Network(
        "VJEPA2Model",
        {
            **_SMALL,
            "crop_size": 32,
            "patch_size": 8,
            "frames_per_clip": 2,
            "num_pooler_layers": 1,
            "pred_hidden_size": 16,
            "pred_num_attention_heads": 2,
            "pred_num_hidden_layers": 1,
        },
        VIDEO,
    ),
    "wav2vec2": Network("Wav2Vec2Model", _WAVES, ("1x400",)),
    "whisper_encoder": Network(
        "WhisperForAudioClassification",
        {
            "d_model": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 24,
            "decoder_ffn_dim": 24,
            "num_mel_bins": 8,
            "max_source_positions": 16,
            "vocab_size": 50,
            "pad_token_id": 0,
        },
        ("1x8x32",),
    ),
    "x_clip": Network(
        "XCLIPVisionModel", {**_VIT, "mit_hidden_size": 16, "mit_intermediate_size": 32, "num_frames": 2}, ("2x3x32x32",)
    ),
    "yolos": Network("YolosForObjectDetection", {**_VIT, "image_size": [32, 32], "num_detection_tokens": 5}, IMAGE),
    "zoedepth": Network(
        "ZoeDepthForDepthEstimation",
        {
            "backbone_config": {
                "model_type": "beit",
                **_VIT,
                "num_hidden_layers": 4,
                "out_features": ["stage1", "stage2", "stage3", "stage4"],
                "reshape_hidden_states": False,
            },
            "neck_hidden_sizes": [8, 8, 16, 16],
            "fusion_hidden_size": 8,
            "bottleneck_features": 8,
            "num_attractors": [4, 2, 2, 1],
            "bin_embedding_dim": 8,
            "patch_transformer_hidden_size": 8,
            "patch_transformer_intermediate_size": 16,
        },
        IMAGE,
    ),
}


def build(name: str) -> "nn.Module":
    """Return a network of this table or that of sequences, with random weights."""
    import transformers
    from zoo.sequences import SEQUENCES

    network = (NETWORKS | SEQUENCES)[name]
    kind = getattr(transformers, network.type)
    return kind(kind.config_class(**network.settings)).eval()


NOT_BUILT = {
    "EomtForUniversalSegmentation": "its loss needs scipy, which is not installed",
    "TimmBackbone, TimmWrapperModel": "they need timm, which is not installed",
    "Sam2VisionModel, SegGptModel, UVDocModel": "no tiny configuration was found under which their parts fit",
    "ViltModel, WhisperModel": "they take inputs by name only",
}
"""Networks of ``transformers`` that are left out, with the reason."""

CACHING = (
    "gpt2", "imagegpt", "LlamaModel", "MistralModel", "Qwen3Model", "Gemma2Model", "PhiModel", "CohereModel", "GPTBigCodeModel",
    "BloomModel", "CodeGenModel", "CTRLModel", "FalconModel", "GPTNeoXModel", "MambaModel", "MixtralModel", "OPTModel",
    "BartModel", "LEDModel", "MarianModel", "M2M100Model", "WhisperModel",
)  # fmt: skip
"""Networks that return a cache, which torch's tracer does not take."""

REFUSED = {
    ("cvt", "calflops"): "object has no attribute",
    ("cvt", "deepspeed"): "object has no attribute",
    **{(name, "fvcore"): "Only tuples, lists and Variables are supported" for name in CACHING},
    **{(name, tool): "has no attribute" for name in ("LEDModel", "LongformerModel") for tool in ("calflops", "deepspeed")},
    ("EncodecModel", "torchinfo"): "iteration over a 0-d tensor",
    ("mask2former", "ptflops-pytorch"): "not enough values to unpack",  # an attention that is called by keyword
    ("oneformer", "ptflops-pytorch"): "not enough values to unpack",
}
"""The tools that fail on a network themselves, and a part of what they say."""
