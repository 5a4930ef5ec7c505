"""A small DiffWave vocoder with a spectral term; the lines that Passband adds are marked.

python examples/audio.py [SPEECH --steps 20000]
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import l1_loss

import passband
from passband.data import AudioFolder, save_audio
from passband.models import DiffWave
from passband.process import linear_alphas_cumprod
from passband.reports import spectrogram_figure, to_png
from passband.sampling import vocode
from passband.transforms import MelSpectrogram

RATE, HOP, LENGTH = 8_000, 64, 2_048


def hum(count: int, length: int) -> Tensor:
    """Clips, (count, length): harmonics of one pitch that trembles, over a little noise."""
    seconds, chance = torch.arange(length) / RATE, torch.rand(count, 2)
    tremble = 1 + 0.01 * torch.sin(2 * torch.pi * (5 * seconds + chance[:, :1]))
    phase = 2 * torch.pi * ((250 * tremble / RATE).cumsum(1) + chance[:, 1:])
    return 0.25 * sum(torch.sin(k * phase + k) / k**0.7 for k in range(1, 13)) + 0.003 * torch.randn(count, length)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", nargs="?", help="folder of wav, flac, ogg or mp3; default: a hum")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--weight", type=float, default=1.0, help="of the spectral term; 0: the plain loop")
    parser.add_argument("--out", type=Path, default=Path("runs/audio"))
    options = parser.parse_args()
    torch.manual_seed(0)
    folder = AudioFolder(options.audio, RATE, length=LENGTH, hop_length=HOP) if options.audio else None
    whole = (folder.clip(0).audio if folder else hum(1, 2 * RATE)[0])[: 2 * RATE // HOP * HOP]
    mel = MelSpectrogram(RATE, n_fft=512, hop_length=HOP, n_mels=32)
    network = DiffWave(n_mels=32, residual_layers=8, residual_channels=24, upsample_factors=(8, 8))
    optimizer = torch.optim.Adam(network.parameters(), 4e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    process = passband.VP(alphas_cumprod=linear_alphas_cumprod(50, 1e-4, 0.05))  # 1: DiffWave's schedule
    spectral = passband.SpectralRegularizer(passband.AmplitudeLoss(), weight=options.weight)  # 2

    def speak(name: str) -> Tensor:  # the whole clip, from its mel spectrogram
        spectrogram = mel.normalized(whole)[:, : len(whole) // HOP]
        spoken = vocode(network, process, spectrogram, hop_length=HOP, steps=50, solver="ancestral")
        save_audio(options.out / f"{name}.wav", spoken, RATE)
        return spoken

    save_audio(options.out / "original.wav", whole, RATE)
    clips = {"original": whole, "before": speak("before")}
    for step in range(1, options.steps + 1):
        clean = folder.read(torch.randint(len(folder), (4,)).tolist()) if folder else hum(4, LENGTH)
        t, noise = torch.randint(50, (len(clean),)), torch.randn_like(clean)[:, None]
        noisy = process.add_noise(clean[:, None], noise, t)
        pred = network(noisy, t, mel.normalized(clean)[..., :-1])
        loss = l1_loss(pred, noise)
        loss = loss + spectral(process, noisy, pred, t, clean=clean[:, None])  # 3
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        if step % 50 == 0 or step == options.steps:
            print(f"step {step}  loss {loss.item():.4f}  spectral {spectral.terms['total'].item():.4f}", flush=True)
    clips["after"] = speak("after")
    (options.out / "spectrograms.png").write_bytes(to_png(spectrogram_figure(clips, RATE)))
    print(
        f"listen to before.wav and after.wav in {options.out}, and look at spectrograms.png: which bands are missing?"
    )


if __name__ == "__main__":
    main()
