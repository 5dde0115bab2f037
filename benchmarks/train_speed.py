"""How fast a model is trained, against transformers' VisionEncoderDecoderModel of the same sizes in a plain loop,
at the same precision and batch in the same run.

    python -m benchmarks.train_speed --size full --batch 32 --tokens 300 --out benchmarks/train_speed.md     # on a GPU
    python -m benchmarks.train_speed --size tiny --steps 5                                                   # on a CPU

Studies are random numbers in memory: reading images is not part of it. Model FLOPs are three times those of a forward
pass, whatever is computed again; their share of the hardware's peak is printed where the peak is known or given. With
--picture the operators that the time goes to are drawn.
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.stock import machine, parameters
from benchmarks.training_steps import Steps, add_arguments, our_steps, read_config, stock_steps

# Dense bfloat16 TFLOPs a second, as NVIDIA's data sheets have them, by the words of a GPU's name; the first that fits.
PEAK_TFLOPS = {
    "H100 PCIe": 756, "H100 NVL": 835, "H200 NVL": 835, "H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L40": 181,
    "L4": 121,
}  # fmt: skip
EPOCHS = (24_506, 377_110)  # studies whose epoch is computed


def known_peak(gpu: str) -> float | None:
    """TFLOPs a second of a GPU by the name that CUDA gives it, such as "NVIDIA A100-SXM4-80GB"."""
    words = gpu.replace("-", " ").split()
    return next((peak for known, peak in PEAK_TFLOPS.items() if set(known.split()) <= set(words)), None)


def measure(steps: Steps, warmup: int, count: int) -> dict[str, float]:
    """Studies a second (median update), model FLOPs of an update, and peak bytes on a GPU."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        steps.forward()
    cuda = steps.device == "cuda"
    for _ in range(warmup):
        steps.update()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        steps.update()
        if cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return {
        "studies": steps.studies / statistics.median(taken),
        "flops": 3 * counter.get_total_flops() * steps.accumulation,
        "peak": torch.cuda.max_memory_allocated() if cuda else float("nan"),
        "parameters": parameters(steps.module),
        "seconds": statistics.median(taken),
    }


def draw_time(steps: Steps, file: Path, shown: int = 18) -> None:
    """The operators of an update by the time that is spent in each itself."""
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (steps.device == "cuda")
    with profile(activities=kinds) as record:
        steps.update()
    own = "self_device_time_total" if steps.device == "cuda" else "self_cpu_time_total"
    events = sorted(record.key_averages(), key=lambda one: getattr(one, own))[-shown:]
    total = sum(getattr(one, own) for one in record.key_averages())
    figure = Figure(figsize=(9, 0.32 * shown + 1), layout="constrained")
    axes = figure.subplots()
    axes.barh([one.key[:60] for one in events], [100 * getattr(one, own) / total for one in events], color="#3B6FB6")
    axes.set_xlabel(f"% of an update's time on the {steps.device.upper()}, {steps.studies} studies")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=100)


def row(name: str, got: dict[str, float], peak_tflops: float | None) -> str:
    rate = got["flops"] / got["seconds"] / 1e12
    share = f"{100 * rate / peak_tflops:.1f} %" if peak_tflops else "not known"
    memory = f"{got['peak'] / 2**30:.2f} GiB" if got["peak"] == got["peak"] else "see train_memory"
    epochs = " / ".join(f"{studies / got['studies'] / 3600:.2f} h" for studies in EPOCHS)
    return (
        f"| {name} | {got['parameters'] / 1e6:.1f} M | {got['studies']:.2f} | {memory} | "
        f"{got['flops'] / 1e12:.3g} | {rate:.3g} | {share} | {epochs} |"
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--batch", type=int, help="default: the config's")
    parser.add_argument("--steps", type=int, default=20, help="that are timed")
    parser.add_argument("--warmup", type=int, default=5, help="before them")
    parser.add_argument("--peak-tflops", type=float, help="of the hardware at this precision")
    parser.add_argument("--picture", type=Path, help="draw here where our time goes (PNG)")
    parser.add_argument("--out", type=Path, help="also write the text here")
    args = parser.parse_args(argv)
    config = read_config(args)
    if args.batch is not None:
        config.training = replace(config.training, batch_size=args.batch)
    peak = args.peak_tflops
    if peak is None and args.device.type == "cuda" and config.training.precision in ("bf16", "fp16"):
        peak = known_peak(torch.cuda.get_device_name(args.device))
    torch.manual_seed(0)
    stock = measure(stock_steps(config, args.device), args.warmup, args.steps)
    if args.device.type == "cuda":
        torch.cuda.empty_cache()
    steps = our_steps(config, args.device)
    ours = measure(steps, args.warmup, args.steps)
    settings = config.training
    memory = f" at {ours['peak'] / stock['peak']:.2f} of its memory" if args.device.type == "cuda" else ""
    text = "\n".join([
        f"**{ours['studies'] / stock['studies']:.2f} times the studies a second of the stock model{memory}**; for each "
        f"parameter, {ours['studies'] * ours['parameters'] / stock['studies'] / stock['parameters']:.2f} times.",
        "",
        f"{config.name}, {config.model.image.size} px, batch {settings.batch_size} x {settings.accumulation}, "
        f"{config.generation.max_tokens} tokens, precision {settings.precision}; {machine(args.device)}.",
        "",
        "| | parameters | studies a second | peak memory | TFLOPs an update | TFLOPs a second | of the peak | "
        f"an epoch of {EPOCHS[0]:,} / {EPOCHS[1]:,} |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        row("ours", ours, peak),
        row("stock", stock, peak),
    ])  # fmt: skip
    print(text)
    if args.picture is not None:
        draw_time(steps, args.picture)
    if args.out is not None:
        args.out.write_text(f"# How fast a model is trained\n\n{text}\n")


if __name__ == "__main__":
    main()
