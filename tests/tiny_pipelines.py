"""Diffusers pipelines of random networks, small enough to train and draw within a test."""

import string

import torch

KINDS = ("ddpm", "dit", "sd", "sdxl", "sd3", "flux")
#: The size that each draws by default, (height, width).
SIZE = (16, 16)
CLASSES = 3


def build(kind, folder):
    """Save the pipeline of this kind into a folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        {"ddpm": ddpm, "dit": dit, "sd": sd, "sdxl": sdxl, "sd3": sd3, "flux": flux}[kind]().save_pretrained(folder)
    return folder


def ddpm():
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    unet = UNet2DModel(
        16, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1, attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return DDPMPipeline(unet, DDPMScheduler())


def dit():
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    network = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2, sample_size=8,
        patch_size=2, num_embeds_ada_norm=CLASSES,
    )  # fmt: skip
    return DiTPipeline(unlike_at_birth(network), vae(4, scaling_factor=0.5), DDIMScheduler(clip_sample=False))


def sd():
    from diffusers import PNDMScheduler, StableDiffusionPipeline

    scheduler = PNDMScheduler(
        skip_prk_steps=True, steps_offset=1, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012
    )
    return StableDiffusionPipeline(
        vae(4, scaling_factor=0.5), clip(8), clip_tokenizer(), conditional_unet(8), scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sdxl():
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    unet = conditional_unet(
        16, addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=6 * 4 + 8
    )
    scheduler = EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, timestep_spacing="leading", steps_offset=1
    )
    return StableDiffusionXLPipeline(
        vae(4, scaling_factor=0.5), clip(8), clip(8, projected=True), clip_tokenizer(), clip_tokenizer(), unet,
        scheduler, add_watermarker=False,
    )  # fmt: skip


def sd3():
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    network = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, caption_projection_dim=16, joint_attention_dim=16, pooled_projection_dim=16,
        pos_embed_max_size=16,
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        unlike_at_birth(network), FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae(4, scaling_factor=0.5, shift_factor=0.1), clip(8, projected=True), clip_tokenizer(),
        clip(8, projected=True), clip_tokenizer(), t5(16), t5_tokenizer(),
    )  # fmt: skip


def flux():
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    network = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=8, guidance_embeds=True, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
    return FluxPipeline(
        scheduler, vae(4, scaling_factor=0.5, shift_factor=0.1), clip(8), clip_tokenizer(), t5(16), t5_tokenizer(),
        unlike_at_birth(network),
    )  # fmt: skip


def unlike_at_birth(network):
    """Random weights where such networks start with zeros, so that everything that goes in matters."""
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return network


def vae(channels, **options):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(4, 8), norm_num_groups=2, latent_channels=channels, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **options,
    )  # fmt: skip


def conditional_unet(width, **options):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), cross_attention_dim=width,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **options,
    )  # fmt: skip


def clip(width, *, projected=False):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    words = len(clip_words())
    config = CLIPTextConfig(
        vocab_size=words, hidden_size=width, intermediate_size=width, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=words - 2, eos_token_id=words - 1, pad_token_id=words - 1,
        projection_dim=width,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def clip_words():
    characters = string.ascii_lowercase + string.digits + ",."
    return [*characters, *(c + "</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]


def clip_tokenizer():
    from transformers import CLIPTokenizer

    return CLIPTokenizer(vocab={word: i for i, word in enumerate(clip_words())}, merges=[], model_max_length=16)


def t5(width):
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=64, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
        )
    )


def t5_tokenizer():
    from transformers import T5TokenizerFast

    pieces = ["<pad>", "</s>", "<unk>", "▁", *string.ascii_lowercase, *string.digits, ",", "."]
    return T5TokenizerFast(
        vocab=[(piece, -float(i)) for i, piece in enumerate(pieces)], extra_ids=0, model_max_length=32
    )
