"""A small text-to-image model in pixel space, in a loop of its own; the three lines that Passband adds are marked.

python examples/text_to_image.py --out runs/text-to-image

Trains diffusers' conditional U-Net and a small text encoder together, on drawn shapes such as "a red circle on a blue
background, left", saves the model, draws images for captions that were held out, and says how often their colours and
places are right. `--no-forcing` trains the same without Spectral Forcing.
"""

import argparse
import itertools
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

import passband
from passband.data import save_image
from passband.integrations.text_to_image import TextToImage

SIZE = 32
COLOURS = {
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.7, 0.2),
    "blue": (0.1, 0.2, 0.9),
    "yellow": (0.95, 0.9, 0.1),
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
}
SHAPES = ("circle", "square", "triangle")
#: Centre of the shape, (across, down) from -1 to 1.
PLACES = {"left": (-0.45, 0.0), "right": (0.45, 0.0), "top": (0.0, -0.45), "bottom": (0.0, 0.45), "centre": (0.0, 0.0)}
RADIUS = 0.38
SPECIAL = {"pad_token": "<pad>", "bos_token": "<start>", "eos_token": "<end>", "unk_token": "<unknown>"}

Scene = tuple[str, str, str, str]


def scenes() -> list[Scene]:
    """Every (colour, shape, colour of the background, place), in an order of chance that is always the same."""
    found = [scene for scene in itertools.product(COLOURS, SHAPES, COLOURS, PLACES) if scene[0] != scene[2]]
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))
    return [found[i] for i in order]


def caption(scene: Scene) -> str:
    colour, shape, ground, place = scene
    return f"a {colour} {shape} on a {ground} background, {place}"


def draw(scene: Scene, jitter: Tensor) -> Tensor:
    """The picture in [-1, 1], its shape moved by jitter (2,) and its edges smooth over a pixel."""
    colour, shape, ground, place = scene
    ramp = (torch.arange(SIZE) + 0.5) * 2 / SIZE - 1
    y, x = torch.meshgrid(ramp, ramp, indexing="ij")
    across, down = PLACES[place]
    x, y = x - across - jitter[0], y - down - jitter[1]
    distance = {
        "circle": x.hypot(y) - RADIUS,
        "square": torch.maximum(x.abs(), y.abs()) - 0.85 * RADIUS,
        "triangle": torch.maximum(x.abs() * 0.87 - y * 0.5, y) - 0.6 * RADIUS,
    }[shape]
    inside = (0.5 - distance * SIZE / 2).clamp(0, 1)
    front, back = (torch.tensor(COLOURS[name])[:, None, None] * 2 - 1 for name in (colour, ground))
    return torch.lerp(back, front, inside)


def make_tokenizer() -> PreTrainedTokenizerFast:
    words = sorted({word for scene in scenes() for word in caption(scene).replace(",", " ,").split()})
    known = {word: i for i, word in enumerate([*SPECIAL.values(), *words])}
    start, end = SPECIAL["bos_token"], SPECIAL["eos_token"]
    tokenizer = Tokenizer(models.WordLevel(known, unk_token=SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, known[start]), (end, known[end])]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=12, **SPECIAL)


def make_model(process: passband.Flow, width: int = 64) -> TextToImage:
    tokenizer = make_tokenizer()
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=SIZE,
        in_channels=3,
        out_channels=3,
        block_out_channels=(width // 4, width // 2, width),
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=4,
        cross_attention_dim=width,
    )
    return TextToImage(unet, encoder, tokenizer, process)


def train(model: TextToImage, steps: int, batch_size: int = 16, drop: float = 0.1, lr: float = 1e-3) -> None:
    """Train on all scenes but the last 64, the flow's velocity as the loss and the clean image as the prediction."""
    known, process = scenes()[:-64], model.process
    parameters = [*model.unet.parameters(), *model.text_encoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr, betas=(0.9, 0.99))
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1, pct_start=0.1)
    generator = torch.Generator().manual_seed(0)
    for step in range(1, steps + 1):
        chosen = [known[i] for i in torch.randint(len(known), (batch_size,), generator=generator)]
        jitter = (torch.rand(batch_size, 2, generator=generator) - 0.5) * 0.15
        clean = torch.stack([draw(scene, move) for scene, move in zip(chosen, jitter, strict=True)])
        dropped = torch.rand(batch_size, generator=generator) < drop
        prompts = ["" if none else caption(scene) for scene, none in zip(chosen, dropped, strict=True)]
        noise = torch.randn(clean.shape, generator=generator)
        t = process.sample_times(batch_size, generator=generator)
        pred = model.unet(process.add_noise(clean, noise, t), t, encoder_hidden_states=model.encode(prompts)).sample
        remaining = (1 - process.flow_time(t)).clamp(min=0.05)  # the velocity's error is that of the image over this
        loss = ((pred - clean) / remaining[:, None, None, None]).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
        if step % 50 == 0 or step == steps:
            print(f"step {step}  loss {loss.item():.4f}", flush=True)


def described(image: Tensor) -> tuple[str, str, str]:
    """The colours of shape and background and the shape's place, seen in a picture by counting pixels.

    The commonest colour is the background's, the next one the shape's, and its place that nearest to its middle.
    """
    palette = torch.tensor(list(COLOURS.values())) * 2 - 1
    nearest = (image[None] - palette[:, :, None, None]).square().sum(1).argmin(0)
    ground, colour = nearest.flatten().bincount(minlength=len(COLOURS)).topk(2).indices
    ramp = (torch.arange(SIZE) + 0.5) * 2 / SIZE - 1
    down, across = (ramp[where].mean() for where in (nearest == colour).nonzero(as_tuple=True))
    place = min(PLACES, key=lambda name: (across - PLACES[name][0]) ** 2 + (down - PLACES[name][1]) ** 2)
    names = list(COLOURS)
    return names[colour], names[ground], place


def judge(model: TextToImage, wanted: list[Scene], **options: float) -> Tensor:
    """Draw an image for each scene, and print how often colours and place are as they were asked for."""
    images = model([caption(scene) for scene in wanted], range(len(wanted)), **options).clamp(-1, 1)
    found = [described(image) for image in images]
    asked = [(colour, ground, place) for colour, _, ground, place in wanted]
    right = [sum(a[i] == b[i] for a, b in zip(found, asked, strict=True)) for i in range(3)]
    both = sum(a[:2] == b[:2] for a, b in zip(found, asked, strict=True))
    print(
        f"of {len(wanted)} images of new captions: shape's colour right {right[0]}, background's {right[1]}, "
        f"both {both}; place {right[2]}"
    )
    return images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--forcing", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--out", type=Path, default=Path("runs/text-to-image"))
    options = parser.parse_args()
    torch.manual_seed(0)
    process = passband.Flow(data_at=1, prediction="sample", time_scale=1000, logit_normal=(-0.8, 0.8))  # 1
    model = make_model(process)
    if options.forcing:
        forcing = passband.SpectralForcing(process)  # 2
        forcing.attach(model.unet)  # 3
    train(model, options.steps)
    model.unet.eval()
    model.text_encoder.eval()
    model.save_pretrained(options.out)
    images = judge(model, scenes()[-64:], guidance=options.guidance, steps=25)
    rows = [torch.cat(list(images[start : start + 8]), 2) for start in range(0, 32, 8)]
    picture = options.out.with_suffix(".png")
    save_image(torch.cat(rows, 1), picture)
    print(f"the model is in {options.out}, images of the first 32 captions in {picture}:")
    for scene in scenes()[-64:-32]:
        print(f"  {caption(scene)}")


if __name__ == "__main__":
    main()
