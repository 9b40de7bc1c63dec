"""Draws pictures with diffusers for as long as it is let, in the memory that its two flags leave it.

    draw.py --memory-fraction 0.25 --offload model --model stabilityai/stable-diffusion-xl-base-1.0 --to /pictures

`arbiter-run --engine diffusers` sets both flags. The fraction bounds PyTorch's allocator, so that a picture that needs
more fails in this process rather than in a neighbour's; offloading decides how much is needed.
"""

import argparse
import itertools
import pathlib

import torch
from diffusers import DiffusionPipeline


def main() -> None:
    """Load the model as the flags say, then draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory-fraction", type=float, required=True, help="share of the whole GPU")
    parser.add_argument("--offload", choices=("none", "model", "sequential"), required=True)
    parser.add_argument("--model", default="stabilityai/stable-diffusion-xl-base-1.0")
    parser.add_argument("--prompt", default="a lighthouse in a storm")
    parser.add_argument("--to", type=pathlib.Path, default=pathlib.Path("/pictures"))
    options = parser.parse_args()

    torch.cuda.set_per_process_memory_fraction(options.memory_fraction)
    pipeline = DiffusionPipeline.from_pretrained(options.model, torch_dtype=torch.float16)
    if options.offload == "none":
        pipeline.to("cuda")
    elif options.offload == "model":
        pipeline.enable_model_cpu_offload()
    else:
        pipeline.enable_sequential_cpu_offload()
    pipeline.enable_vae_tiling()

    print("drawing", flush=True)
    for number in itertools.count():
        pipeline(options.prompt).images[0].save(options.to / f"{number:06}.png")


if __name__ == "__main__":
    main()
