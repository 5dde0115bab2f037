"""Every setting of the project, as dataclasses that hold the defaults once.

A YAML file and dotted overrides are merged onto them by OmegaConf, which converts values to each field's type; an
unknown key or a value of the wrong kind is a `ConfigError` that names the key.
"""

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args

import yaml
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from xr2text.anatomy import REGION_NAMES
from xr2text.errors import XR2TextError


class ConfigError(XR2TextError, ValueError):
    """A setting that is unknown, missing or of the wrong kind; the message names the key and what is accepted."""


def _one_of(section: str, name: str, value: Any, allowed: Iterable[Any]) -> None:
    if value not in allowed:
        raise ConfigError(f"{section}.{name} is {value!r}; accepted: {', '.join(map(repr, allowed))}")


def _at_least(section: str, name: str, value: float, least: float) -> None:
    if value < least:
        raise ConfigError(f"{section}.{name} is {value}; it must be at least {least}")


def _share(section: str, name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"{section}.{name} is {value}; it must be in [0, 1)")


@dataclass
class ImageConfig:
    """What the encoder sees: a square canvas onto which the radiograph is fitted with its aspect ratio kept."""

    size: int = 256  # pixels
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])

    def __post_init__(self) -> None:
        _at_least("model.image", "size", self.size, 32)
        if len(self.mean) != 3 or len(self.std) != 3:
            raise ConfigError("model.image.mean and model.image.std need three values, one per RGB channel")


@dataclass
class EncoderConfig:
    """The image encoder, any timm model that gives feature maps."""

    name: str = "tf_efficientnet_lite0"  # timm's name
    stride: int = 16  # pixels per patch: which of its feature maps is used
    # Where a training starts from: null (random), "timm" (timm's own download), "package:NAME" (the one weights file in
    # an installed Python package, tensors matched in order) or the path of a safetensors or .pth file of timm's names.
    weights: str | None = None
    frozen: bool = False
    # So many of the first layer groups of timm's model, its stem being the first, keep their weights and statistics.
    frozen_groups: int = 0
    drop_path: float = 0.0  # stochastic depth, for models that have it
    # Window attention by PyTorch's fused kernel, which holds no attention weights; timm leaves it off for Swin.
    fused_attention: bool = True

    def __post_init__(self) -> None:
        _share("model.encoder", "drop_path", self.drop_path)
        _at_least("model.encoder", "frozen_groups", self.frozen_groups, 0)


@dataclass
class HaqtConfig:
    """HAQT-ARR: hierarchical anatomical query tokens with adaptive region routing."""

    projection: str = "haqt_arr"  # or "linear": a plain projection of the patches, for comparison
    width: int = 256  # D, also the decoder's width
    global_queries: int = 8  # G
    region_queries: int = 4  # R, per region
    heads: int = 8
    cross_region_layers: int = 2
    dropout: float = 0.1
    use_spatial_priors: bool = True
    use_prior_refinement: bool = True
    use_adaptive_routing: bool = True
    use_cross_region: bool = True

    def __post_init__(self) -> None:
        _one_of("model.haqt", "projection", self.projection, ("haqt_arr", "linear"))
        for name in ("width", "global_queries", "region_queries", "heads", "cross_region_layers"):
            _at_least("model.haqt", name, getattr(self, name), 1)
        _share("model.haqt", "dropout", self.dropout)
        if self.width % self.heads:
            raise ConfigError(f"model.haqt.width {self.width} must be a multiple of model.haqt.heads {self.heads}")


@dataclass
class DecoderConfig:
    """The BART decoder."""

    # Hub id or folder of a BART whose weights and tokenizer a training starts from; null: random weights and a
    # tokenizer learned from the training reports.
    weights: str | None = None
    vocab_size: int = 2000  # with `weights`: that of its tokenizer
    layers: int = 3
    heads: int = 8
    feed_forward: int = 1024
    dropout: float = 0.1
    max_positions: int = 256  # longest report, in tokens
    use_text_encoder: bool = False  # visual tokens go through BART's own encoder first
    # Each finding of the finding head is one more token that the report is written from, as likely as the head thinks.
    finding_tokens: bool = False
    predicted_findings: float = 0.3  # share of these that are the head's in training; the others are the true ones

    def __post_init__(self) -> None:
        _at_least("model.decoder", "vocab_size", self.vocab_size, 16)
        _at_least("model.decoder", "max_positions", self.max_positions, 8)
        for name in ("layers", "heads", "feed_forward"):
            _at_least("model.decoder", name, getattr(self, name), 1)
        _share("model.decoder", "dropout", self.dropout)
        if not 0 <= self.predicted_findings <= 1:
            raise ConfigError(f"model.decoder.predicted_findings is {self.predicted_findings}; it must be in [0, 1]")


@dataclass
class ModelConfig:
    image: ImageConfig = field(default_factory=ImageConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    haqt: HaqtConfig = field(default_factory=HaqtConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    # What the finding head predicts: a finding's name, as the data source labels it, and the regions whose tokens it is
    # read from.
    findings: dict[str, list[str]] = field(default_factory=dict)
    findings_per_token: bool = True  # each of a region's tokens is asked for a finding; false: their mean
    # Outside training the head's logits are the mean over the image as it is and as seen larger or smaller by each of
    # these factors (test-time augmentation).
    finding_scales: list[float] = field(default_factory=list)
    # Fitted on the validation studies at the end of a training: what the head's logits are divided by, and the
    # probability from which each finding counts as present (0.5 where it is not named).
    finding_temperature: float = 1.0
    finding_thresholds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, regions in self.findings.items():
            if not regions:
                raise ConfigError(f"model.findings.{name} names no region")
            for region in regions:
                _one_of("model.findings", name, region, REGION_NAMES)
        if self.findings and self.haqt.projection != "haqt_arr":
            raise ConfigError("model.findings needs region tokens: model.haqt.projection must be 'haqt_arr'")
        if self.decoder.finding_tokens and not self.findings:
            raise ConfigError("model.decoder.finding_tokens needs model.findings")
        if self.finding_scales and not self.findings:
            raise ConfigError("model.finding_scales needs model.findings")
        for scale in self.finding_scales:
            if not 0.5 <= scale <= 2 or scale == 1:
                raise ConfigError(f"model.finding_scales has {scale}; each must be in [0.5, 2] and not 1")
        if self.finding_temperature <= 0:
            raise ConfigError("model.finding_temperature must be above 0")
        for name, threshold in self.finding_thresholds.items():
            _one_of("model", "finding_thresholds", name, self.findings)
            if not 0 < threshold < 1:
                raise ConfigError(f"model.finding_thresholds.{name} is {threshold}; it must be in (0, 1)")


SOURCES = ("indiana", "openi", "r2gen", "mimic_cxr", "hub", "manifest", "phantom")


@dataclass
class DataConfig:
    source: str = MISSING  # a layout of `data.sources`: one of SOURCES
    root: str | None = None  # folder of the data set; hub: or its id on the Hugging Face Hub
    split_file: str | None = None  # indiana, openi: an R2Gen annotation.json whose val and test studies are set apart
    # Where finding labels come from: "reports", read by text.findings, or "indexed", as the source has them
    # (indiana, openi and r2gen: MeSH terms; others: none). Phantoms know what was drawn.
    labels: str = "reports"
    films: str | None = None  # folder of further training radiographs with labels but no reports, see data.sources
    region_masks: str | None = None  # folder of further training radiographs with masks of regions, see data.sources
    mask_repeats: int = 4  # how often each of these is shown in an epoch
    mask_holdout: int = 0  # every so-manyth of these is kept out of training, to be measured on; 0: none
    phantom_train: int = 6000  # phantom: how many of each
    phantom_val: int = 300
    seed: int = 0
    workers: int = 2  # processes that read images; 0: the training process itself
    keep_in_memory: bool = False  # read every image once, before the first epoch
    # Folder of resized images and of the index, which `python -m xr2text data prepare` fills; null: originals are read.
    cache: str | None = None
    # A training radiograph that cannot be read, or has no report, is left out; a run stops where more than this share
    # of them are such.
    max_bad_share: float = 0.05

    def __post_init__(self) -> None:
        if self.source != MISSING:
            _one_of("data", "source", self.source, SOURCES)
        _one_of("data", "labels", self.labels, ("reports", "indexed"))
        _at_least("data", "mask_repeats", self.mask_repeats, 1)
        _at_least("data", "mask_holdout", self.mask_holdout, 0)
        _at_least("data", "workers", self.workers, 0)
        _share("data", "max_bad_share", self.max_bad_share)
        if self.cache is not None and self.source == "phantom":
            raise ConfigError("data.cache keeps images of files: with data.source=phantom it must be null")


@dataclass
class LossConfig:
    """Weights of the loss's terms, see `training.losses`; one of weight 0 is not computed."""

    tokens: float = 1.0  # cross-entropy of the report's tokens
    label_smoothing: float = 0.0  # of that term
    focal: float = 0.0  # the same with each token weighted by (1 - p)^gamma, so that sure tokens count less
    focal_gamma: float = 2.0
    focal_warmup: float = 0.1  # share of all updates over which gamma rises from 0
    regions: float = 0.0  # keeps the router, over a batch, from forgetting regions
    consistency: float = 0.0  # keeps each region's attention with its refined prior
    anatomy: float = 0.0  # draws each region's attention over its mask, where data.region_masks has one
    overlap: float = 0.0  # has its shape, cut at half its maximum, cover that mask and no more
    grounding: float = 0.0  # a sentence that speaks of a region is written from that region's tokens
    findings: float = 0.0  # binary cross-entropy of the finding head, mean over labelled findings
    hidden: float = 0.0  # the same on copies with one region in black: a finding that lies there is not seen
    hidden_share: float = 0.25  # of the batch's images that are copied
    alignment: float = 0.0  # contrastive, each image with its own report
    alignment_temperature: float = 0.07
    rdrop: float = 0.0  # symmetric KL between two passes of the decoder under different dropout
    # Self-critical: findings sections drawn from the model become as likely as their scores against the reference are
    # above those of the others of the same study.
    reward: float = 0.0
    reward_samples: int = 4  # drawn of each study
    reward_findings: float = 0.5  # of the F1 of what they assert, beside the batch's BLEU-4 and ROUGE-L of 1
    reward_unsure: float = 1.0  # what a finding counts in that F1 where only one of the two texts is certain of it
    reward_false: float = 0.0  # cost of each finding that a draw has as present or uncertain and the reference has not
    reward_all_findings: bool = False  # every finding that text.findings reads counts, in place of CheXpert's 14
    reward_distance: float = 0.0  # cost of each nat by which a draw is likelier than under the weights started from
    reward_recall: float = 0.0  # of a mean of word precision and recall that counts recall nine tenths, as METEOR's
    vocabulary_chunk: int = 1024  # tokens whose logits over the vocabulary are held at a time

    def __post_init__(self) -> None:
        weights = (
            "tokens", "focal", "regions", "consistency", "anatomy", "overlap", "grounding", "findings", "hidden",
            "alignment", "rdrop", "reward",
        )  # fmt: skip
        for name in (*weights, "focal_gamma", "reward_findings", "reward_false", "reward_recall", "reward_distance"):
            _at_least("training.losses", name, getattr(self, name), 0)
        if not any(getattr(self, name) for name in weights):
            raise ConfigError("training.losses: at least one weight must be above 0")
        for name in ("label_smoothing", "focal_warmup"):
            _share("training.losses", name, getattr(self, name))
        _at_least("training.losses", "vocabulary_chunk", self.vocabulary_chunk, 1)
        _at_least("training.losses", "reward_samples", self.reward_samples, 2)
        if not 0 <= self.reward_unsure <= 1:
            raise ConfigError(f"training.losses.reward_unsure is {self.reward_unsure}; it must be in [0, 1]")
        if not 0 < self.hidden_share <= 1:
            raise ConfigError(f"training.losses.hidden_share is {self.hidden_share}; it must be in (0, 1]")
        if self.alignment_temperature <= 0:
            raise ConfigError("training.losses.alignment_temperature must be above 0")


@dataclass
class StageConfig:
    """A stage of the curriculum: which studies it shows, and for how long. A study must meet every criterion."""

    name: str = MISSING
    epochs: int = MISSING
    normal_only: bool = False  # studies without an abnormal finding
    max_findings: int | None = None  # present or uncertain in the report
    max_regions: int | None = None  # that these findings involve
    max_severity: str | None = None  # "mild", "moderate" or "severe"
    lr_factor: float = 1.0  # multiplies every learning rate

    def __post_init__(self) -> None:
        if self.name == MISSING:
            return
        _at_least("training.curriculum", "epochs", self.epochs, 1)
        for name in ("max_findings", "max_regions"):
            if getattr(self, name) is not None:
                _at_least("training.curriculum", name, getattr(self, name), 0)
        if self.max_severity is not None:
            _one_of("training.curriculum", "max_severity", self.max_severity, ("mild", "moderate", "severe"))
        if self.lr_factor <= 0:
            raise ConfigError("training.curriculum.lr_factor must be above 0")


@dataclass
class BudgetConfig:
    """What a run may take; a run that has spent it stops with its state saved."""

    hours: float | None = None  # of this run, all its sessions together
    hourly_rate: float | None = None  # of the machine, in any currency: the cost is then projected


@dataclass
class TrainingConfig:
    # Folder of a checkpoint to go on from, with its tokenizer, in place of the initial weights of model.encoder and
    # model.decoder: a second phase, such as one with the encoder frozen.
    start_from: str | None = None
    # Folders of checkpoints whose mean probabilities the finding head learns beside the labels.
    teachers: list[str] = field(default_factory=list)
    teacher_share: float = 0.5  # of them in what it learns; where a finding is not labelled, it learns them alone
    epochs: int | None = None  # of the whole run; null: the sum of the curriculum's, or 20 without one
    curriculum: list[StageConfig] = field(default_factory=list)  # empty: every study in every epoch
    batch_size: int = 16  # per process
    accumulation: int = 1  # batches to an update
    # A batch that does not fit into the memory is halved and the accumulation doubled: an update stays the same.
    fit_batch: bool = False
    optimizer: str = "adamw"  # or "adamw_8bit": its states in 8 bits, a quarter of their memory (needs torchao)
    # "no", "fp16" or "bf16"; auto: what `accelerate launch` was told, else bf16 on a GPU that has it, fp16 on another,
    # and "no" on a CPU.
    precision: str = "auto"
    gradient_checkpointing: bool = False  # less memory for activations, at the price of computing them twice
    checkpoint_text: bool = True  # of that: the text model's layers too; false: the encoder's alone
    # Matrices and their gradients are kept in bfloat16, half the memory; updates are rounded up or down at random, so
    # that small ones are not lost. With adamw_8bit and precision bf16.
    bf16_weights: bool = False
    group_by_length: bool = False  # reports of like length come in one batch, which is then padded less
    compile: bool = False  # transformer layers go through torch.compile: the first steps take minutes, the others less
    lr_encoder: float = 1.0e-4
    lr_projection: float = 5.0e-4
    lr_decoder: float = 5.0e-4
    lr_priors: float = 1.0e-5  # centres, spreads and strengths of the spatial priors, so that they stay on the anatomy
    weight_decay: float = 0.01
    warmup_share: float = 0.05  # of all updates
    lr_floor: float = 0.02  # the cosine ends at this share of each learning rate
    clip_norm: float = 1.0
    ema_decay: float | None = None  # validate and keep an exponential moving average of the weights; null: the weights
    losses: LossConfig = field(default_factory=LossConfig)
    augment: bool = True  # shifts, scales, small rotations, contrast; never a mirror image
    # The sum of these scores decides the best epoch: "combined" (BLEU-4 + ROUGE-L), "findings_f1" and "findings_f1_5"
    # (of what the reports assert, over CheXpert's 14 and 5), "finding_auc" (of the finding head).
    best_by: list[str] = field(default_factory=lambda: ["combined"])
    patience: int | None = None  # stop after so many validated epochs without a better such sum; null: never
    checkpoint_minutes: float = 10.0
    keep: int = 2  # training states kept
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])  # of "tensorboard", "wandb", "trackio"
    sample_reports: int = 3  # shown at each validation
    scored_reports: int = 500  # validation studies, at most, whose reports are written and scored after each epoch
    stop_after_minutes: float | None = None  # stop this session cleanly after this time; resumed by --resume
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision == "False":  # what YAML makes of a bare no
            self.precision = "no"
        _one_of("training", "precision", self.precision, ("auto", "no", "fp16", "bf16"))
        _one_of("training", "optimizer", self.optimizer, ("adamw", "adamw_8bit"))
        for name in ("batch_size", "accumulation", "keep", "scored_reports"):
            _at_least("training", name, getattr(self, name), 1)
        for name in ("epochs", "patience"):
            if getattr(self, name) is not None:
                _at_least("training", name, getattr(self, name), 1)
        for name in ("warmup_share", "lr_floor", "teacher_share"):
            _share("training", name, getattr(self, name))
        if self.teachers and not self.losses.findings:
            raise ConfigError("training.teachers teach the finding head: training.losses.findings must be above 0")
        if self.losses.reward_distance and self.start_from is None:
            raise ConfigError("training.losses.reward_distance is measured from training.start_from, which is not set")
        if self.ema_decay is not None:
            _share("training", "ema_decay", self.ema_decay)
        for score in self.best_by:
            _one_of("training", "best_by", score, ("combined", "findings_f1", "findings_f1_5", "finding_auc"))
        if not self.best_by:
            raise ConfigError("training.best_by names no score")
        for tracker in self.trackers:
            _one_of("training", "trackers", tracker, ("tensorboard", "wandb", "trackio"))
        if self.bf16_weights and (self.optimizer != "adamw_8bit" or self.precision != "bf16"):
            raise ConfigError("training.bf16_weights needs training.optimizer=adamw_8bit and training.precision=bf16")
        if self.bf16_weights and self.ema_decay is not None:
            raise ConfigError("training.bf16_weights: an average in bfloat16 would stand still: set ema_decay null")
        planned = sum(stage.epochs for stage in self.curriculum)
        if self.curriculum and self.epochs is not None and self.epochs > planned:
            raise ConfigError(f"training.epochs is {self.epochs}; the stages of training.curriculum have {planned}")
        names = [stage.name for stage in self.curriculum]
        if len(set(names)) < len(names):
            raise ConfigError("training.curriculum: two stages have the same name")

    @property
    def total_epochs(self) -> int:
        """Of the whole run."""
        return self.epochs or sum(stage.epochs for stage in self.curriculum) or 20


OF_NO_DRAWS = {"consensus_beta": 1.0, "length_bonus": 0.0, "temperature": 1.0, "top_p": 1.0}


@dataclass
class GenerationConfig:
    num_beams: int = 3
    # So many reports are drawn in place of a search, with random numbers that the image gives, and the one is taken
    # whose phrases the others share most; 0: beam search.
    draws: int = 0
    consensus_beta: float = 1.0  # above 1: one that has what the others say, rather than nothing that they do not say
    length_bonus: float = 0.0  # and for each token of its findings it counts as if it shared so much more with them
    temperature: float = 1.0  # of these draws; lower: nearer to the likeliest report
    top_p: float = 1.0  # they are from the likeliest tokens that together have this probability (Holtzman et al., 2020)
    max_tokens: int = 160  # findings and impression together
    impression: bool = True  # reports have an impression; false: findings alone, in training too
    findings_tokens: int = 110  # after so many the impression begins
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0  # tokens; 0: repeats allowed
    # What a beam loses of its log-probability per token, and a draw of the share of its phrases that it has in common
    # with the others, for each finding in which it and the finding head disagree, and twenty times that for each one
    # that it both asserts and denies and for each word that stands twice in a row, before the best is taken.
    agreement: float = 0.0

    def __post_init__(self) -> None:
        for name in ("num_beams", "max_tokens", "findings_tokens"):
            _at_least("generation", name, getattr(self, name), 1)
        if self.findings_tokens >= self.max_tokens:
            raise ConfigError("generation.findings_tokens must be below generation.max_tokens")
        _at_least("generation", "agreement", self.agreement, 0)
        _at_least("generation", "draws", self.draws, 0)
        if self.draws and (self.draws < 3 or self.num_beams > 1):
            raise ConfigError("generation.draws must be 0, or at least 3 with generation.num_beams=1: it is no search")
        if self.consensus_beta <= 0:
            raise ConfigError("generation.consensus_beta must be above 0")
        if self.temperature <= 0:
            raise ConfigError("generation.temperature must be above 0")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"generation.top_p is {self.top_p}; it must be in (0, 1]")
        _at_least("generation", "length_bonus", self.length_bonus, 0)
        if not self.draws:
            for name, value in OF_NO_DRAWS.items():
                if getattr(self, name) != value:
                    raise ConfigError(f"generation.{name} is of draws: generation.draws must be above 0")
        if self.agreement and self.num_beams == 1 and not self.draws:
            raise ConfigError("generation.agreement chooses among beams or draws: generation.num_beams must be above 1")

    def as_search(self, num_beams: int) -> "GenerationConfig":
        """The same with a beam search in place of draws."""
        return replace(self, num_beams=num_beams, draws=0, **OF_NO_DRAWS)


@dataclass
class Config:
    name: str = MISSING  # of the model that results, as shown to its users
    output: str = MISSING  # folder of the run
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    half_precision_checkpoint: bool = True  # the finished model's weights are stored as float16

    def __post_init__(self) -> None:
        if self.generation.max_tokens > self.model.decoder.max_positions:
            raise ConfigError("generation.max_tokens must not exceed model.decoder.max_positions")
        if self.generation.agreement and not self.model.findings:
            raise ConfigError("generation.agreement is with the finding head, but model.findings names none to predict")
        for term in ("anatomy", "overlap"):
            if getattr(self.training.losses, term) and self.data.region_masks is None:
                raise ConfigError(f"training.losses.{term} has a weight, but data.region_masks names no outlines")
        if self.data.mask_holdout and self.data.region_masks is None:
            raise ConfigError("data.mask_holdout holds out outlined films, but data.region_masks names none")
        for term in ("findings", "hidden"):
            if getattr(self.training.losses, term) and not self.model.findings:
                raise ConfigError(f"training.losses.{term} has a weight, but model.findings names none to predict")
        if "finding_auc" in self.training.best_by and not self.training.losses.findings:
            raise ConfigError("training.best_by: finding_auc needs a weight of training.losses.findings")


def _known_keys(kind: type, prefix: str = "") -> list[str]:
    names = []
    for one in fields(kind):
        names.append(prefix + one.name)
        inner = one.type if is_dataclass(one.type) else next(iter(get_args(one.type)), None)  # list[StageConfig]
        if is_dataclass(inner):
            names.extend(_known_keys(inner, f"{prefix}{one.name}."))
    return names


def _nearest(wrong: str, known: list[str]) -> str | None:
    """The known key whose last part is most alike, then whose whole is; None where nothing is."""

    def likeness(name: str, other: str) -> float:
        return difflib.SequenceMatcher(None, name, other).ratio()

    alike = {name: likeness(wrong.rsplit(".", 1)[-1], name.rsplit(".", 1)[-1]) for name in known}
    best = max(known, key=lambda name: alike[name] + 0.5 * likeness(wrong, name))
    return best if alike[best] >= 0.6 else None


def _build(kind: type, *layers: Any, where: str) -> Any:
    try:
        merged = OmegaConf.structured(kind)
        for layer in layers:
            if OmegaConf.select(OmegaConf.create(layer), "model.findings") == {}:
                merged.model.findings = {}  # an empty mapping empties; any other adds to what is there
            merged = OmegaConf.merge(merged, layer)
        return OmegaConf.to_object(merged)
    except ConfigKeyError as error:
        near = _nearest(re.sub(r"\[\d+\]", "", error.full_key), _known_keys(kind))
        hint = f"; did you mean {near!r}?" if near else ""
        raise ConfigError(f"{where}: unknown key {error.full_key!r}{hint}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}: {error.full_key}: {str(error).splitlines()[0]}") from error


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Reads a YAML file, then dotted overrides such as "training.epochs=3".

    A file that `extends` another, named by its path from the first, gives only what differs from it.

    Raises:
        ConfigError: the file is missing or no YAML mapping, a key is unknown (the nearest known one is named), a value
            does not fit its field, or a required one is absent.
    """
    overrides = list(overrides)
    for one in overrides:
        if "=" not in one:
            raise ConfigError(f"override {one!r} has no '='; write it as section.key=value")
    layers = _read_layers(Path(path), ())
    where = ", which extends ".join(str(file) for file, _ in reversed(layers))
    return _build(Config, *(layer for _, layer in layers), OmegaConf.from_dotlist(overrides), where=where)


def layout_config(overrides: Iterable[str]) -> Config:
    """The default settings with overrides such as "data.source=r2gen", for work on the data alone. Raises ConfigError
    as `load_config` does."""
    given = OmegaConf.from_dotlist(list(overrides))
    return _build(Config, {"name": "data", "output": "."}, given, where="--set")


def _read_layers(path: Path, extending: tuple[Path, ...]) -> list[tuple[Path, Any]]:
    """A YAML file and its settings, after those that it extends."""
    if not path.is_file():
        raise ConfigError(f"no config file at {path}")
    if path.resolve() in extending:
        raise ConfigError(f"{path} extends itself")
    try:
        loaded = OmegaConf.load(path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not OmegaConf.is_dict(loaded):
        raise ConfigError(f"{path} is not a YAML mapping of settings")
    base = loaded.pop("extends", None)
    before = [] if base is None else _read_layers(path.parent / str(base), (*extending, path.resolve()))
    return [*before, (path, loaded)]


def load_checkpoint_config(path: str | Path) -> tuple[str, ModelConfig, GenerationConfig]:
    """Reads a checkpoint's config.json as strictly as `load_config`: (name, model, generation settings)."""
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(stored, dict) or not all(
        isinstance(stored.get(key, {}), dict) for key in ("model", "generation")
    ):
        raise ConfigError(f"{path} must be an object that holds the objects model and generation")
    unknown = stored.keys() - {"xr2text_version", "name", "model", "generation"}
    if unknown or not {"name", "model", "generation"} <= stored.keys():
        raise ConfigError(f"{path}: it must have name, model and generation; unknown keys: {sorted(unknown)}")
    model = _build(ModelConfig, stored["model"], where=f"{path}: model")
    generation = _build(GenerationConfig, stored["generation"], where=f"{path}: generation")
    return stored["name"], model, generation


def save_config(config: Config, path: str | Path) -> None:
    """Writes the resolved settings as YAML."""
    Path(path).write_text(OmegaConf.to_yaml(OmegaConf.create(asdict(config))))
