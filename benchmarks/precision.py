"""Which precision draws faster on this CPU, and whether `fastest` means that one.

    python benchmarks/precision.py [--calls 10] [--batch 50]

A U-Net call of the model that ships, at 96 px and on one thread, in fp32 and in bf16 in turn; medians, and their ratio.
ONEDNN_MAX_CPU_ISA holds a newer CPU to the instructions of an older one. On an Intel Xeon with AMX (bf16 / fp32):

    all of its instructions   0.57      AVX512_CORE   3.1
    AVX512_CORE_BF16          1.4       AVX2         20
"""

import argparse
import json
import statistics
import sys
import time
from importlib import resources
from pathlib import Path

import torch

from radiffuse.models import load_models
from radiffuse.precision import autocast, precision_on

LATENT_SIDE = 12


def main() -> int:
    """Exit code 1 when `fastest` means the slower one; it knows the CPU, not that variable."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--batch", type=int, default=50)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with resources.as_file(resources.files("radiffuse") / "base_models" / "tiny") as folder:
        unet = load_models(Path(folder), ("unet",)).unet
    assert unet is not None
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(arguments.batch, unet.config.in_channels, LATENT_SIDE, LATENT_SIDE, generator=generator)
    hidden = torch.randn(arguments.batch, 77, unet.config.cross_attention_dim, generator=generator)
    seconds: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for _ in range(arguments.calls + 1):
        for precision, measured in seconds.items():
            start = time.perf_counter()
            with torch.no_grad(), autocast("cpu", precision):
                unet(latents, 10, encoder_hidden_states=hidden)
            measured.append(time.perf_counter() - start)
    medians = {precision: statistics.median(measured[1:]) for precision, measured in seconds.items()}
    chosen = precision_on("cpu", "fastest")
    ratio = medians["bf16"] / medians["fp32"]
    result = {"fp32_seconds": medians["fp32"], "bf16_seconds": medians["bf16"], "ratio": ratio, "fastest": chosen}
    print(json.dumps({name: round(value, 3) if isinstance(value, float) else value for name, value in result.items()}))
    return 0 if (ratio < 1) == (chosen == "bf16") else 1


if __name__ == "__main__":
    sys.exit(main())
