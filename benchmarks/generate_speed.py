"""How fast reports are written, against transformers' VisionEncoderDecoderModel of the same sizes in the same run.

    python -m benchmarks.generate_speed --films data/iu_xray/images --app --out benchmarks/generate_speed.md
    python -m benchmarks.generate_speed --config configs/a100_80gb.yaml --batch 64 --precision bf16      # on a GPU

Both search with the same number of beams and make the same number of decoder steps: as many as our report took, to
which the stock model, whose weights are random, is held. They take turns film by film, so that what else the machine
does meets both. Seconds are medians; CPU seconds are those of all threads and do not count waiting for others.
"""

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import VisionEncoderDecoderModel

from benchmarks.stock import machine, parameters, stock_model
from xr2text.config import GenerationConfig, load_config
from xr2text.imaging.radiograph import ImageError, Radiograph
from xr2text.imaging.read import read_radiograph
from xr2text.inference.overlay import make_canvas, paint
from xr2text.inference.reporter import Reporter
from xr2text.model.xr2text import XR2Text
from xr2text.phantom.drawing import draw_phantom
from xr2text.text.tokenizer import EOS

DTYPES = {"no": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Taken:
    """Seconds of a call: on the clock, and of all the process's threads."""

    wall: float
    cpu: float


def timed(call: Callable[[], object], device: torch.device) -> Taken:
    _finish(device)
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    _finish(device)
    return Taken(time.perf_counter() - wall, time.process_time() - cpu)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Calls:
    """Counts the calls of a module: a decoder's steps."""

    def __init__(self, module: torch.nn.Module):
        self.count = 0
        module.register_forward_pre_hook(self._add)

    def _add(self, *_) -> None:
        self.count += 1

    def taken(self) -> int:
        """Since it was last asked."""
        count, self.count = self.count, 0
        return count


def search_stock(stock: VisionEncoderDecoderModel, pixels: torch.Tensor, beams: int, steps: int) -> None:
    """A search of `steps` steps from images [B, 3, S, S]."""
    stock.generate(
        pixels, num_beams=beams, min_new_tokens=steps, max_new_tokens=steps, do_sample=False, early_stopping=True,
        pad_token_id=stock.config.pad_token_id, eos_token_id=EOS,
    )  # fmt: skip


def frontal_films(folder: Path | None, reporter: Reporter, count: int) -> list[Radiograph]:
    """Films that a report is written of, spread over the folder; phantoms without one."""
    if folder is None:
        return [draw_phantom(seed, 512).radiograph for seed in range(count)]
    files = sorted(file for file in folder.iterdir() if file.is_file())
    films: list[Radiograph] = []
    for file in files[:: max(1, len(files) // (4 * count))]:
        film = read_radiograph(file)
        try:
            films.append(film if reporter.gate is None else reporter.gate.admit(film, False)[0])
        except ImageError:
            continue  # a lateral view, which the gate refuses
        if len(films) == count:
            break
    return films


def compare_checkpoint(args: argparse.Namespace) -> str:
    """One report after another by a checkpoint, as its readers wait for them."""
    reporter = Reporter.from_pretrained(args.checkpoint, args.device)
    model, device = reporter.model, reporter.device
    shipped, scales = model.generation, model.config.finding_scales
    model.generation = shipped.as_search(args.beams)
    stock = stock_model(model.config).eval().to(device)
    steps, stock_steps = Calls(model.decoder.bart), Calls(stock.decoder)
    films = frontal_films(args.films, reporter, args.count + 1)
    rows: dict[str, list[Taken]] = {"ours": [], "stock": [], "with overlays": [], "as shipped": []}
    counts = []
    for film in tqdm(films, desc="films"):
        pixels, geometry = model.transform(film)
        pixels, box = pixels[None].to(device), torch.tensor([geometry.box], dtype=torch.float32, device=device)
        steps.taken()
        model.config.finding_scales = []  # the stock model, too, sees the film once
        rows["ours"].append(timed(lambda pixels=pixels, box=box: model.generate(pixels, box), device))
        counts.append(steps.taken())
        length = counts[-1]
        rows["stock"].append(timed(lambda p=pixels, n=length: search_stock(stock, p, args.beams, n), device))
        if stock_steps.taken() != length:
            raise SystemExit("the stock model made another number of steps: the two cannot be compared")
        model.config.finding_scales = scales
        call = lambda film=film: paint(make_canvas(reporter.report(film, force=True)))  # noqa: E731
        rows["with overlays"].append(timed(call, device))
        if args.shipped:
            model.generation = shipped
            rows["as shipped"].append(timed(call, device))
            model.generation = shipped.as_search(args.beams)
    first = {name: taken[0].wall for name, taken in rows.items() if taken}
    rest = {name: taken[1:] for name, taken in rows.items() if taken}
    wall = {name: statistics.median(one.wall for one in taken) for name, taken in rest.items()}
    cpu = {name: statistics.median(one.cpu for one in taken) for name, taken in rest.items()}
    sizes = f", the film seen in {len(scales) + 1} sizes" if scales else ""
    named = {
        "ours": f"ours: a report, beam {args.beams}, the film seen once",
        "stock": f"stock: as many tokens, beam {args.beams}",
        "with overlays": f"ours: read, gated, written, located and its overlays drawn, beam {args.beams}{sizes}",
        "as shipped": "the same as shipped" + (f", the best of {shipped.draws} draws" if shipped.draws else ""),
    }
    lines = [
        f"**{wall['stock'] / wall['ours']:.2f} times as fast as the stock model** "
        f"(by CPU seconds {cpu['stock'] / cpu['ours']:.2f}); with reading, gate, sentences and overlays, which the "
        f"stock model has not, {wall['stock'] / wall['with overlays']:.2f}.",
        "",
        f"{model.name}, {len(films) - 1} films, {statistics.mean(counts[1:]):.0f} decoder steps on average; "
        f"{parameters(model) / 1e6:.1f} M parameters against {parameters(stock) / 1e6:.1f} M; {machine(device)}.",
        "",
        "| | seconds, median | CPU seconds | the first |",
        "|---|---:|---:|---:|",
        *(f"| {named[name]} | {wall[name]:.2f} | {cpu[name]:.2f} | {first[name]:.2f} |" for name in rest),
    ]
    return "\n".join(lines)


@torch.inference_mode()
def compare_batches(args: argparse.Namespace) -> str:
    """Batches of random images by a config's model with random weights, to its longest report."""
    config, device, kind = load_config(args.config, args.set), args.device, DTYPES[args.precision]
    size, findings_id, impression_id = config.model.image.size, config.model.decoder.vocab_size - 2, 4
    settings = config.generation.as_search(args.beams)
    with device:
        model, stock = XR2Text(config.model).to(kind).eval(), stock_model(config.model).to(kind).eval()
        pixels = torch.rand(args.batch, 3, size, size).to(kind)
    model = model.to(memory_format=torch.channels_last)
    steps = Calls(model.decoder.bart)
    taken: dict[str, list[Taken]] = {"ours": [], "stock": []}
    peaks = {}
    for _ in tqdm(range(args.count + 1), desc="batches"):
        steps.taken()
        _forget_peak(device)
        taken["ours"].append(timed(lambda: write_batch(model, pixels, settings, findings_id, impression_id), device))
        peaks["ours"] = _peak(device)
        length = steps.taken()
        _forget_peak(device)
        taken["stock"].append(timed(lambda n=length: search_stock(stock, pixels, args.beams, n), device))
        peaks["stock"] = _peak(device)
    rate = {name: args.batch / statistics.median(one.wall for one in rows[1:]) for name, rows in taken.items()}
    of_ours, of_stock = parameters(model), parameters(stock)
    return "\n".join([
        f"**{rate['ours'] / rate['stock']:.2f} times the reports a second of the stock model.**",
        "",
        f"{Path(args.config).stem} with random weights, beam {args.beams}, batch {args.batch}, {length} decoder steps, "
        f"precision {args.precision}; {machine(device)}.",
        "",
        "| | parameters | reports a second | peak memory, weights of both models in it |",
        "|---|---:|---:|---:|",
        f"| ours | {of_ours / 1e6:.0f} M | {rate['ours']:.2f} | {peaks['ours']} |",
        f"| stock | {of_stock / 1e6:.0f} M | {rate['stock']:.2f} | {peaks['stock']} |",
    ])  # fmt: skip


def write_batch(
    model: XR2Text, pixels: torch.Tensor, settings: GenerationConfig, findings_id: int, impression_id: int
) -> torch.Tensor:
    """Images [B, 3, S, S] -> ids [B, T], by a model that has no tokenizer."""
    visual = model.look(pixels)
    tokens = model.tokens_to_write_from(visual.tokens, model.see_findings(visual, pixels))
    return model.decoder.generate(tokens, settings, findings_id, impression_id)


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: torch.device) -> str:
    return f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB" if device.type == "cuda" else "not on a CPU"


def app_memory(checkpoint: str, reports: int) -> str:
    """Peak resident set of app.py, its page open, after so many reports through its API."""
    from gradio_client import Client

    from benchmarks.page_load import ask, film, start_app

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process, url, _ = start_app(folder, checkpoint)
        try:
            client = Client(url, verbose=False)
            for seed in range(reports):
                file = folder / f"film-{seed}.png"
                file.write_bytes(film(seed, "PNG"))
                kind, text = ask(client, file)
                if kind != "report":
                    raise SystemExit(f"the app refused a phantom: {text}")
            status = Path(f"/proc/{process.pid}/status").read_text()
        finally:
            process.terminate()
            process.wait()
    peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 2**20
    return f"app.py at its peak, after {reports} reports through its page: **{peak:.2f} GiB** resident."


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="checkpoints/xr2text-iu")
    parser.add_argument("--config", help="in place of a checkpoint: a config's model, with random weights, in batches")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the config")
    parser.add_argument("--films", type=Path, help="a folder of radiographs; without, phantoms")
    parser.add_argument("--beams", type=int, help="default: 3 for a checkpoint, the config's for a config")
    parser.add_argument("--count", type=int, default=20, help="films, or batches with --config, after a first one")
    parser.add_argument("--batch", type=int, default=1, help="with --config: images at a time")
    parser.add_argument("--precision", choices=DTYPES, default="no", help="with --config: of the weights")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--shipped", action="store_true", help="also time the search that the checkpoint ships with")
    parser.add_argument("--app", action="store_true", help="also measure the app's peak memory (Linux)")
    parser.add_argument("--out", type=Path, help="also write the text here")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    np.random.seed(0)
    if args.config is None:
        args.beams = args.beams or 3
        text = compare_checkpoint(args)
    else:
        args.beams = args.beams or load_config(args.config, args.set).generation.num_beams
        text = compare_batches(args)
    if args.app:
        text += f"\n\n{app_memory(args.checkpoint, 5)}"
    print(text)
    if args.out is not None:
        args.out.write_text(f"# How fast reports are written\n\n{text}\n")


if __name__ == "__main__":
    main()
