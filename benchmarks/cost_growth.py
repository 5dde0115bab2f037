"""How a training's cost grows with image side, batch and report length, told without computing anything.

    python -m benchmarks.cost_growth --out benchmarks/cost_growth.md --picture benchmarks/cost_growth.png
    python -m benchmarks.cost_growth --tflops 320        # what train_speed.py has measured on the machine

Memory is the dry run's estimate. Model FLOPs are three times those of a forward pass on tensors without contents. The
time of an epoch follows from them at --tflops, the TFLOPs a second that the machine keeps up.
"""

import argparse
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from xr2text.config import Config, load_config
from xr2text.model.xr2text import XR2Text
from xr2text.training.memory import estimate_memory, longest_batch

EPOCHS = (24_506, 377_110)  # studies


def with_cost(config: Config, size: int, batch: int, tokens: int) -> Config:
    """The config with another image side, batch and report length."""
    generation = replace(
        config.generation, max_tokens=tokens, findings_tokens=min(config.generation.findings_tokens, tokens - 1)
    )
    image, training = replace(config.model.image, size=size), replace(config.training, batch_size=batch)
    return replace(config, generation=generation, training=training, model=replace(config.model, image=image))


def study_flops(config: Config) -> float:
    """Model FLOPs of a training step on one study."""
    with torch.device("meta"):
        model = XR2Text(config.model)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        model.to_empty(device="cpu")
        batch = longest_batch(with_cost(config, config.model.image.size, 1, config.generation.max_tokens))
        with FlopCounterMode(display=False) as counter:
            visual = model.look(batch["pixel_values"], batch["box"])
            for _ in range(2 if config.training.losses.rdrop else 1):
                model.decoder(visual.tokens, batch["labels"])
    return 3.0 * counter.get_total_flops()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/a100_80gb.yaml")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the config")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 384, 512, 768])
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32, 96])
    parser.add_argument("--tokens", type=int, nargs="+", default=[60, 150, 300])
    parser.add_argument("--tflops", type=float, default=300, help="a second that the machine keeps up")
    parser.add_argument("--out", type=Path, help="also write the text here")
    parser.add_argument("--picture", type=Path, help="draw the curves here (PNG)")
    args = parser.parse_args(argv)
    config = load_config(args.config, args.set)
    size, batch, tokens = config.model.image.size, config.training.batch_size, config.generation.max_tokens
    curves = {
        "image side, pixels": [(one, batch, tokens) for one in args.sizes],
        "batch, studies": [(size, one, tokens) for one in args.batches],
        "report, tokens": [(size, batch, one) for one in args.tokens],
    }
    costs: dict[tuple[int, int, int], tuple[float, float]] = {}
    for point in tqdm(list(dict.fromkeys(point for points in curves.values() for point in points)), desc="estimates"):
        at = with_cost(config, *point)
        memory = sum(estimate_memory(at, config.training.precision).values()) / 2**30
        costs[point] = memory, study_flops(at) / 1e9
    text = table(config, costs, args.tflops)
    print(text)
    if args.picture is not None:
        draw(curves, costs, args.picture)
    if args.out is not None:
        args.out.write_text(f"# How a training's cost grows\n\n{text}\n")


def table(config: Config, costs: dict[tuple[int, int, int], tuple[float, float]], tflops: float) -> str:
    heads = " | ".join(f"an epoch of {studies:,}" for studies in EPOCHS)
    lines = [
        f"{config.name}, precision {config.training.precision}, {config.training.optimizer}; estimated, not measured; "
        f"epochs computed at {tflops:g} TFLOPs a second, PyTorch {torch.__version__}, {date.today()}.",
        "",
        f"| image side | batch | tokens | memory, GiB | model GFLOPs a study | studies a second | {heads} |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for (size, batch, tokens), (memory, gflops) in costs.items():
        rate = tflops * 1e3 / gflops
        epochs = " | ".join(f"{studies / rate / 3600:.2f} h" for studies in EPOCHS)
        lines.append(f"| {size} | {batch} | {tokens} | {memory:.1f} | {gflops:,.0f} | {rate:.0f} | {epochs} |")
    return "\n".join(lines)


def draw(curves: dict[str, list], costs: dict[tuple[int, int, int], tuple[float, float]], file: Path) -> None:
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    rows = figure.subplots(2, 3, sharey="row")
    for column, (name, points) in enumerate(curves.items()):
        values = [point[column] for point in points]
        for row, label in enumerate(("memory, GiB (estimate)", "model GFLOPs a study")):
            axes = rows[row][column]
            axes.plot(values, [costs[point][row] for point in points], "o-", color="#3B6FB6")
            axes.set_ylim(0, 1.08 * max(cost[row] for cost in costs.values()))
            axes.set_xlabel(name if row else "")
            axes.set_ylabel(label if column == 0 else "")
            axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=100)


if __name__ == "__main__":
    main()
