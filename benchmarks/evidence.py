"""Whether a sentence stands where it points: a region is blacked out, and the sentence's probability is read again.

    python -m benchmarks.evidence --root data/iu_xray --out benchmarks/evidence.md

For each sentence of a written report that asserts an abnormal finding, two copies of the radiograph are made: one with
the region that the sentence was written from most in black (its map, cut at half its maximum), one with the same number
of pixels in black within another region, drawn at random. The sentence's log-probability, after the same words before
it, is compared with that on the radiograph as it is: the region that it points to should change it more.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from xr2text.anatomy import REGION_NAMES
from xr2text.config import DataConfig
from xr2text.data.sources import load_studies
from xr2text.inference.reporter import Reporter
from xr2text.model.xr2text import XR2Text
from xr2text.text.findings.labeler import find_mentions
from xr2text.text.tokenizer import IGNORED, locate_sentences

SEED = 0


def blacked_out(region_maps: np.ndarray, pointed: int, other: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of pixels [S, S] bool of equal size, in the region pointed to and in another one.

    Args:
        region_maps: [K, S, S]; the first set is the map `pointed` cut at half its maximum, the second the pixels of
            `other` that its map weighs most and that are not in the first.
    """
    own = region_maps[pointed] >= region_maps[pointed].max() / 2
    rest = np.where(own, -np.inf, region_maps[other]).ravel()
    count = min(int(own.sum()), int((~own).sum()))
    elsewhere = np.zeros(own.size, bool)
    elsewhere[np.argpartition(-rest, count - 1)[:count]] = True
    return own, elsewhere.reshape(own.shape)


@torch.inference_mode()
def sentence_log_probability(
    model: XR2Text, pixels: torch.Tensor, box: torch.Tensor, ids: torch.Tensor, positions: list[int]
) -> torch.Tensor:
    """[B] log-probability of the tokens at `positions` of one report `ids` [T] on images [B, 3, S, S]."""
    visual = model.look(pixels, box)
    logits = model.see_findings(visual, pixels, box)
    labels = ids.expand(len(pixels), -1)
    log_p = model.decoder(model.tokens_to_write_from(visual.tokens, logits), labels).float().log_softmax(-1)
    return log_p.gather(-1, labels.clamp_min(0)[..., None])[:, positions, 0].sum(-1)


Row = tuple[str, str, float, float]  # study, region, change where the sentence points, change elsewhere


def measure(reporter: Reporter, studies: list, random: np.random.Generator) -> list[Row]:
    """A row for each abnormal sentence."""
    model, rows = reporter.model, []
    size = model.transform.size
    for study in tqdm(studies, desc="blacking out", unit="study"):
        radiograph = (study.frontal_images or study.images)[0].read()
        pixels, geometry = model.transform(radiograph)
        box = torch.tensor([geometry.box])
        written = model.generate(pixels[None], box)
        weights, ids = model.token_regions(written)[0], written.token_ids[0]
        maps = torch.nn.functional.interpolate(written.visual.region_maps.float(), (size, size), mode="bilinear")[0]
        for section, sentence, positions in locate_sentences(model.tokenizer, ids.tolist()):
            asserted = [one for one in find_mentions(sentence) if one.status != "absent"]
            if section != "findings" or not any(one.finding != "support devices" for one in asserted):
                continue
            pointed = int(weights[positions].mean(0).argmax())
            other = int(random.choice([k for k in range(len(REGION_NAMES)) if k != pointed]))
            places = blacked_out(maps.numpy(), pointed, other)
            black = model.transform.normalise(torch.zeros(size, size))
            images = torch.stack([pixels, *(torch.where(torch.from_numpy(one), black, pixels) for one in places)])
            kept = ids.masked_fill(ids == model.tokenizer.pad_token_id, IGNORED)
            whole, own, elsewhere = sentence_log_probability(
                model, images, box.expand(3, -1), kept, positions
            ).tolist()  # fmt: skip
            rows.append((study.id, REGION_NAMES[pointed], abs(own - whole), abs(elsewhere - whole)))
    return rows


def table(rows: list[Row], random: np.random.Generator) -> str:
    won: dict[str, list[bool]] = {}
    for study, _, own, elsewhere in rows:
        won.setdefault(study, []).append(own > elsewhere)
    counts = np.array([(sum(one), len(one)) for one in won.values()])  # [studies, 2]
    drawn = counts[random.integers(len(counts), size=(1000, len(counts)))].sum(1)  # whole studies are redrawn
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975))
    lines = [
        "| sentence written from | abnormal sentences | it changes more there | median change there | elsewhere |",
        "|---|---:|---:|---:|---:|",
    ]
    pointed = Counter(region for _, region, *_ in rows)
    for region in [*(name for name in REGION_NAMES if pointed[name]), None]:
        part = [row for row in rows if region in (None, row[1])]
        share = np.mean([own > elsewhere for *_, own, elsewhere in part])
        interval = f" ({low:.1%} to {high:.1%})" if region is None else ""
        there, elsewhere = np.median([row[2] for row in part]), np.median([row[3] for row in part])
        lines.append(f"| {region or '**all**'} | {len(part)} | {share:.1%}{interval} | {there:.2f} | {elsewhere:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, type=Path, help="a data set in R2Gen's layout")
    parser.add_argument("--checkpoint", default="checkpoints/xr2text-iu")
    parser.add_argument("--split", default="val")
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args()
    reporter = Reporter.from_pretrained(args.checkpoint, "cpu")
    studies = load_studies(DataConfig("r2gen", str(args.root)), 32)[args.split]
    random = np.random.default_rng(SEED)
    text = table(measure(reporter, studies, random), random)
    print(text)
    if args.out is not None:
        args.out.write_text(
            "# Whether a sentence stands where it points\n\n"
            f"{reporter.model_name}, split {args.split} of {args.root.name}, {len(studies)} studies. Change of a "
            "sentence's log-probability (nats) when the region that it was written from most is blacked out, and when "
            "as many pixels of another region are; 95 % bootstrap interval over studies. "
            "Made by `python -m benchmarks.evidence`.\n\n"
            f"{text}\n"
        )


if __name__ == "__main__":
    main()
