"""Whether a sentence depends on the region that it points to: occlusion, read by the sentence's probability.

    python -m benchmarks.evidence --root data/iu_xray --out benchmarks/evidence.md

For each sentence of a report that asserts an abnormal finding, two copies of the radiograph are made. In the first, the
region that the sentence was written from most is black (its map, cut at half its maximum); in the second, as many
pixels of another region, drawn at random. The sentence's log-probability after the same words should change more in the
first.

Shapes: K regions, S image side, T tokens of a report.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from benchmarks.common import CHECKPOINT, publish
from xr2text.anatomy import REGION_NAMES
from xr2text.config import DataConfig
from xr2text.data.sources import load_studies
from xr2text.model.attribution import read_tokens, sentence_attribution
from xr2text.model.checkpoint import Checkpoint
from xr2text.model.xr2text import XR2Text
from xr2text.text.findings.labeler import find_mentions
from xr2text.text.tokenizer import IGNORED, locate_sentences

Row = tuple[str, str, float, float]  # study, region, change with this region in black, change with another


def occlusion_masks(region_maps: np.ndarray, pointed: int, other_region: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of pixels [S, S] bool of equal size, in the region pointed to and in another.

    Args:
        region_maps: [K, S, S]; the first set is the map `pointed` cut at half its maximum, the second the pixels that
            `other_region` weighs most and that are not in the first.
    """
    inside = region_maps[pointed] >= region_maps[pointed].max() / 2
    rest = np.where(inside, -np.inf, region_maps[other_region]).ravel()
    count = min(int(inside.sum()), int((~inside).sum()))
    elsewhere = np.zeros(inside.size, bool)
    elsewhere[np.argpartition(-rest, count - 1)[:count]] = True
    return inside, elsewhere.reshape(inside.shape)


def sentence_log_probability(
    model: XR2Text, images: torch.Tensor, box: torch.Tensor, ids: torch.Tensor, positions: list[int]
) -> torch.Tensor:
    """[B] log-probability of the tokens at `positions` of one report `ids` [T] on images [B, 3, S, S]."""
    labels = ids.expand(len(images), -1)
    log_p = model(images, box.expand(len(images), -1), labels).logits.float().log_softmax(-1)  # [B, T, V]
    return log_p.gather(-1, labels.clamp_min(0)[..., None])[:, positions, 0].sum(-1)


@torch.inference_mode()
def measure(checkpoint: Checkpoint, studies: list, random: np.random.Generator) -> list[Row]:
    """A row for each abnormal sentence."""
    model, tokenizer, rows = checkpoint.model.eval(), checkpoint.tokenizer, []
    size = model.transform.size
    black = model.transform.normalise(torch.zeros(size, size))
    for study in tqdm(studies, desc="occluding", unit="study"):
        image, geometry = model.transform(study.main_image.read())
        box = torch.tensor([geometry.box])
        generated = checkpoint.generator.generate(image[None], box)
        ids = generated.token_ids[0]  # [T]
        located = locate_sentences(tokenizer, ids.tolist())
        of_tokens, _ = read_tokens(model, generated)
        (places,) = sentence_attribution(model, generated.visual, of_tokens, [located])
        maps = F.interpolate(generated.visual.region_maps.float(), (size, size), mode="bilinear")[0].numpy()
        labels = ids.masked_fill(ids == tokenizer.pad_token_id, IGNORED)
        for place, (section, sentence, positions) in zip(places, located, strict=True):
            asserted = [mention.finding for mention in find_mentions(sentence) if mention.status != "absent"]
            if section != "findings" or not set(asserted) - {"support devices"}:
                continue
            pointed = int(place[: len(REGION_NAMES)].argmax())
            elsewhere = int(random.choice([k for k in range(len(REGION_NAMES)) if k != pointed]))
            masks = map(torch.from_numpy, occlusion_masks(maps, pointed, elsewhere))
            images = torch.stack([image, *(torch.where(mask, black, image) for mask in masks)])
            whole, first, second = sentence_log_probability(model, images, box, labels, positions).tolist()
            rows.append((study.id, REGION_NAMES[pointed], abs(first - whole), abs(second - whole)))
    return rows


def table(rows: list[Row], random: np.random.Generator) -> str:
    won: dict[str, list[bool]] = {}
    for study, _, here, elsewhere in rows:
        won.setdefault(study, []).append(here > elsewhere)
    counts = np.array([(sum(wins), len(wins)) for wins in won.values()])  # [studies, 2]
    samples = counts[random.integers(len(counts), size=(1000, len(counts)))].sum(1)  # whole studies are drawn again
    low, high = np.quantile(samples[:, 0] / samples[:, 1], (0.025, 0.975))
    lines = [
        "| sentence written from | abnormal sentences | it changes more there | median change there | elsewhere |",
        "|---|---:|---:|---:|---:|",
    ]
    pointed = Counter(region for _, region, *_ in rows)
    for region in [*(name for name in REGION_NAMES if pointed[name]), None]:
        part = [row for row in rows if region in (None, row[1])]
        share = np.mean([here > elsewhere for *_, here, elsewhere in part])
        interval = f" ({low:.1%} to {high:.1%})" if region is None else ""
        here, elsewhere = np.median([row[2] for row in part]), np.median([row[3] for row in part])
        lines.append(f"| {region or '**all**'} | {len(part)} | {share:.1%}{interval} | {here:.2f} | {elsewhere:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, type=Path, help="a data set in R2Gen's layout")
    parser.add_argument("--checkpoint", default=CHECKPOINT)
    parser.add_argument("--split", default="val")
    parser.add_argument("--count", type=int, help="only so many studies")
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args()
    checkpoint = Checkpoint.from_pretrained(args.checkpoint)
    studies = list(load_studies(DataConfig(source="r2gen", root=str(args.root)))[args.split])[: args.count]
    random = np.random.default_rng(0)
    text = (
        f"{checkpoint.name}, split {args.split} of {args.root.name}, {len(studies)} studies. Change of a sentence's "
        "log-probability (nats) with the region that it was written from most in black, and with as many pixels of "
        f"another region; 95 % bootstrap interval over studies.\n\n"
        f"{table(measure(checkpoint, studies, random), random)}"
    )
    publish("Whether a sentence depends on the region that it points to", text, args.out)


if __name__ == "__main__":
    main()
