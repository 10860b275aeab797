"""Networks of ``transformers`` over text, sound and series, made tiny: their classes, settings and inputs."""

from typing import Any

from zoo.networks import TOKENS, Network

_BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
    "max_position_embeddings": 32,
}
_DECODER = {**_BERT, "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0}
_GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 32}
_BOTH = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "vocab_size": 50,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}
_T5 = {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8, "d_ff": 32, "vocab_size": 50}
_WAVES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8, 8],
    "conv_kernel": [10, 3],
    "conv_stride": [5, 2],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
_PATCHES = {"num_input_channels": 2, "context_length": 16, "patch_length": 4, "patch_stride": 4, "d_model": 8}
_CODEC = {"num_filters": 4, "num_residual_layers": 1, "upsampling_ratios": [4, 2], "codebook_size": 16, "codebook_dim": 8}

_TWO = ("1x12:int64", "decoder_input_ids=1x6:int64")
_SOUND = ("1x400",)
_WAVE = ("1x1x400",)

_TEXT: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("RobertaModel", "MPNetModel", "IBertModel", "YosoModel", "SplinterModel", "TapasModel"), _BERT),
    **dict.fromkeys(("CLIPTextModel", "SiglipTextModel", "BlipTextModel", "LayoutLMModel", "MarkupLMModel"), _BERT),
    "AlbertModel": {**_BERT, "embedding_size": 8},
    "BigBirdModel": {**_BERT, "attention_type": "original_full"},
    "ConvBertModel": {**_BERT, "embedding_size": 16, "conv_kernel_size": 3, "head_ratio": 2},
    "DebertaV2Model": {**_BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0},
    "DistilBertModel": {
        "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "vocab_size": 50, "max_position_embeddings": 32,
    },
    "ElectraModel": {**_BERT, "embedding_size": 8},
    "EsmModel": {**_BERT, "pad_token_id": 0, "mask_token_id": 1},
    "FNetModel": {name: value for name, value in _BERT.items() if name != "num_attention_heads"},
    "FunnelModel": {"vocab_size": 50, "block_sizes": [1, 1], "d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 32},
    "LongformerModel": {**_BERT, "attention_window": 4},
    "MobileBertModel": {**_BERT, "true_hidden_size": 8, "embedding_size": 8, "intra_bottleneck_size": 8},
    "ModernBertModel": {**_BERT, "pad_token_id": 0, "local_attention": 4},
    "RoFormerModel": {**_BERT, "embedding_size": 16},
    "SqueezeBertModel": {
        **_BERT, "embedding_size": 16, "q_groups": 2, "k_groups": 2, "v_groups": 2, "post_attention_groups": 1,
        "intermediate_groups": 2, "output_groups": 2,
    },
    "XLNetModel": {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32, "vocab_size": 50},
    "T5EncoderModel": _T5,
    **dict.fromkeys(("LlamaModel", "MistralModel", "Qwen3Model", "Gemma2Model", "PhiModel", "CohereModel"), _DECODER),
    **dict.fromkeys(("OpenAIGPTModel", "GPTBigCodeModel"), _GPT),
    "BloomModel": {"hidden_size": 16, "n_layer": 2, "n_head": 2, "vocab_size": 50},
    "CodeGenModel": {**_GPT, "n_head": 4, "rotary_dim": 4},
    "CTRLModel": {**_GPT, "dff": 32},
    "FalconModel": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 50},
    "GPTNeoXModel": _BERT,
    "MambaModel": {"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 50, "state_size": 4},
    "MixtralModel": {**_DECODER, "num_local_experts": 2, "num_experts_per_tok": 1},
    "OPTModel": {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 32, "vocab_size": 50,
        "max_position_embeddings": 32, "word_embed_proj_dim": 16,
    },
    "RwkvModel": {"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 50},
    "BartModel": _BOTH,
    "LEDModel": {**_BOTH, "attention_window": 4, "max_encoder_position_embeddings": 32, "max_decoder_position_embeddings": 32},
}  # fmt: skip

SEQUENCES: dict[str, Network] = {
    **{kind: Network(kind, settings, TOKENS) for kind, settings in _TEXT.items()},
    "MarianModel": Network("MarianModel", _BOTH, _TWO),
    "M2M100Model": Network("M2M100Model", _BOTH, _TWO),
    "CLIPModel": Network(
        "CLIPModel",
        {"text_config": _BERT, "vision_config": {**_BERT, "image_size": 32, "patch_size": 8}, "projection_dim": 8},
        (*TOKENS, "1x3x32x32"),
    ),
    "ViltModel": Network(
        "ViltModel", {**_BERT, "image_size": 32, "patch_size": 8}, ("input_ids=1x12:int64", "pixel_values=1x3x32x32")
    ),
    "WhisperModel": Network(
        "WhisperModel",
        {**_BOTH, "num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 16},
        ("input_features=1x8x32", "decoder_input_ids=1x6:int64"),
    ),
    **{kind: Network(kind, _WAVES, _SOUND) for kind in ("HubertModel", "WavLMModel", "SEWModel", "Wav2Vec2ConformerModel")},
    "EncodecModel": Network("EncodecModel", {**_CODEC, "hidden_size": 8, "num_lstm_layers": 1}, _WAVE),
    "DacModel": Network(
        "DacModel",
        {
            "encoder_hidden_size": 4,
            "downsampling_ratios": [2, 2],
            "upsampling_ratios": [2, 2],
            "decoder_hidden_size": 16,
            "n_codebooks": 2,
            "codebook_size": 16,
            "codebook_dim": 4,
        },
        _WAVE,
    ),
    "PatchTSTModel": Network(
        "PatchTSTModel", {**_PATCHES, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}, ("1x16x2",)
    ),
    "PatchTSMixerModel": Network("PatchTSMixerModel", {**_PATCHES, "num_layers": 1}, ("1x16x2",)),
}
