"""The settings: name, default and range of each, defined once.

`load_config` merges YAML files and dotted overrides (OmegaConf) and checks the result (pydantic). Whatever is unknown,
missing or out of range is a `ConfigError` that names the key and what is accepted.
"""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from xr2text.errors import XR2TextError
from xr2text.files import atomic_write

Source = Literal["indiana", "openi", "r2gen", "mimic_cxr", "hub", "manifest", "phantom"]
SOURCES: tuple[str, ...] = get_args(Source)
Metric = Literal["combined", "findings_f1", "findings_f1_5", "finding_auc", "epoch"]
Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class ConfigError(XR2TextError, ValueError):
    """A setting that is unknown, missing or out of range; the message names the key and what is accepted."""


class Settings(BaseModel):
    """The base of all sections: unknown keys are errors, and values are checked when they change, too."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, protected_namespaces=())


class EncoderConfig(Settings):
    """The image encoder: any timm model that gives feature maps."""

    name: str = "tf_efficientnet_lite0"  # timm's name
    stride: Count = 16  # pixels per patch: which of its feature maps is used
    # Where a training starts from: null (random), "timm" (timm's own download), "package:NAME" (the one weights file in
    # an installed Python package, tensors matched in order) or the path of a safetensors or .pth file of timm's names.
    weights: str | None = None
    frozen_groups: int = Field(0, ge=0)  # how many of timm's first layer groups are frozen; the stem is the first


class HaqtConfig(Settings):
    """HAQT-ARR: hierarchical anatomical query tokens with adaptive region routing."""

    projection: Literal["haqt_arr", "linear"] = "haqt_arr"  # linear: a plain projection of the patches, for comparison
    global_queries: Count = 8  # G, in all
    region_queries: Count = 4  # R, for each region
    lateral_queries: int = Field(0, ge=0)  # L, for the lateral view; 0: the model reads frontal views only
    cross_region_layers: int = Field(2, ge=0)  # 0: regions do not attend to each other
    use_spatial_priors: bool = True
    use_prior_refinement: bool = True
    use_adaptive_routing: bool = True


class DecoderConfig(Settings):
    """The BART decoder; its feed-forward layers are four times as wide as its states."""

    # Hub id or folder of a BART whose weights and tokenizer a training starts from; null: random weights and a
    # tokenizer learned from the training reports.
    weights: str | None = None
    layers: Count = 3
    use_text_encoder: bool = False  # visual tokens go through BART's own encoder first

    @property
    def max_positions(self) -> int:
        """Longest report, in tokens."""
        return 256 if self.weights is None else 1024


class ModelConfig(Settings):
    image_size: int = Field(256, ge=32)  # pixels; side of the square onto which the radiograph is fitted
    width: Count = 256  # D, width of visual tokens and decoder
    heads: Count = 8  # attention heads in HAQT-ARR and decoder
    dropout: Fraction = 0.1  # in HAQT-ARR and decoder
    # Names of the findings that the finding head predicts (text/findings/table.py has the regions of each). The decoder
    # reads each as one more token. Empty: no finding head.
    findings: list[str] = []
    encoder: EncoderConfig = EncoderConfig()
    haqt: HaqtConfig = HaqtConfig()
    decoder: DecoderConfig = DecoderConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> "ModelConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if self.findings and self.haqt.projection != "haqt_arr":
            raise ValueError("findings need region tokens: haqt.projection must be 'haqt_arr'")
        if self.haqt.lateral_queries and self.haqt.projection != "haqt_arr":
            raise ValueError("haqt.lateral_queries need haqt.projection 'haqt_arr'")
        if len(set(self.findings)) < len(self.findings):
            raise ValueError("findings names one twice")
        return self


class DataConfig(Settings):
    source: Source  # the layout on disk, see `data.sources`
    root: str | None = None  # folder of the data set; hub: or its id on the Hugging Face Hub
    split_file: str | None = None  # indiana, openi: an R2Gen annotation.json whose val and test studies are set apart
    labelled_images: str | None = None  # folder of further training radiographs with finding labels and no reports
    segmentation: str | None = None  # folder of radiographs with masks of lungs and heart; every fifth is held out
    # A config whose training studies, one for each new one, are mixed among them, so that what a checkpoint has learned
    # from those is not forgotten (experience replay, Rolnick et al., NeurIPS 2019).
    replay: str | None = None
    # Of the training patients, this fraction takes the place of the validation studies in a training: the best epoch,
    # scaling and threshold come from them, and the validation studies stay unseen. 0: these are used.
    tuning_fraction: Fraction = 0.0
    tuning_fold: int = Field(0, ge=0)  # which of the 1 / tuning_fraction parts of the patients, for cross-validation
    phantoms: int = Field(5000, ge=4)  # source phantom: studies for training; a tenth as many more for validation
    # How much training radiographs are shifted, scaled, turned and exposed otherwise; 0: not at all.
    augmentation: float = Field(1.0, ge=0, le=1)
    workers: int = Field(2, ge=0)  # processes that read images; 0: the training process reads them
    cache: str | None = None  # folder of the index and of resized images; null: the index is in memory, files are read
    max_skip_fraction: Fraction = 0.05  # a run stops where more than this fraction of its radiographs is skipped

    @model_validator(mode="after")
    def _fold_has_patients(self) -> "DataConfig":
        if self.tuning_fold and not 0 < self.tuning_fraction * (self.tuning_fold + 1) <= 1 + 1e-6:
            raise ValueError(f"tuning_fold is {self.tuning_fold}; it must be below 1 / tuning_fraction")
        return self


class LossConfig(Settings):
    """Weights of the terms of the loss, see `training.losses`; a term of weight 0 is not computed."""

    ce: Weight = 1.0  # cross-entropy of the report's tokens
    label_smoothing: Fraction = 0.0  # in ce
    focal: Weight = 0.0  # token focal loss
    load_balance: Weight = 0.0  # region regularisation: keeps the router, over a batch, from forgetting regions
    mask_kl: Weight = 0.0  # draws each region's attention over its mask (data.segmentation)
    soft_iou: Weight = 0.0  # makes the shape of that attention the mask's
    findings: Weight = 0.0  # binary cross-entropy of the finding head
    occlusion: Weight = 0.0  # the same on copies with a region in black, where findings of that region cannot be seen
    rdrop: Weight = 0.0  # symmetric KL between two passes of the decoder under different dropout

    @model_validator(mode="after")
    def _something_to_minimise(self) -> "LossConfig":
        if not any(getattr(self, term) for term in TERMS):
            raise ValueError("at least one weight must be above 0")
        return self

    @property
    def learn_reports(self) -> bool:
        """Whether any term trains the decoder."""
        return any((self.ce, self.focal, self.rdrop))


IMAGE_TERMS = ("load_balance", "mask_kl", "soft_iou", "findings", "occlusion")  # train what comes before the decoder
TERMS = tuple(name for name in LossConfig.model_fields if name != "label_smoothing")


class StageConfig(Settings):
    """A stage of the curriculum: which studies it shows, and for how long. A study must meet every criterion."""

    name: str
    epochs: Count
    max_findings: int | None = Field(None, ge=0)  # abnormal ones, present or uncertain; 0: normal studies only
    max_regions: int | None = Field(None, ge=0)  # number of regions that these findings involve
    lr_factor: float = Field(1.0, gt=0)  # multiplies every learning rate


class TrainingConfig(Settings):
    init_from: str | None = None  # checkpoint folder or hub id whose weights, tokenizer and calibration are the start
    epochs: Count | None = None  # epochs of the whole run; null: the sum of the curriculum's, or 20 without one
    curriculum: list[StageConfig] = []  # empty: every study in every epoch
    batch_size: Count = 16  # per process; halved where it does not fit, while gradient_accumulation_steps is doubled
    gradient_accumulation_steps: Count = 1
    # adamw_8bit (needs torchao): optimiser states in 8 bits; with mixed_precision bf16 weights and gradients are in
    # bfloat16, too, and rounded up or down at random, so that small updates are not lost.
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    # auto: what `accelerate launch` was told, else bf16 on a GPU that has it, fp16 on another, and no on a CPU, where a
    # step in bf16 takes eight times as long unless the CPU has instructions for it (AMX).
    mixed_precision: Annotated[
        Literal["auto", "no", "fp16", "bf16"], BeforeValidator(lambda value: "no" if value is False else value)
    ] = "auto"
    gradient_checkpointing: Literal["none", "encoder", "all"] = "none"  # whose activations are computed twice
    recombined: Fraction = 0.0  # fraction of reports that get others' findings; above 0, all are rewritten
    group_by_length: bool = False  # batches of reports of similar length, which need less padding
    # A part whose rate is 0 is frozen.
    lr_encoder: float = Field(1.0e-4, ge=0)
    lr_projection: float = Field(5.0e-4, ge=0)  # for HAQT-ARR, the lateral queries and the finding head
    lr_decoder: float = Field(5.0e-4, ge=0)  # for BART and the finding tokens
    # An exponential moving average of the weights is what is validated and kept; null: none.
    ema_decay: float | None = Field(None, gt=0, lt=1)
    losses: LossConfig = LossConfig()
    # The sum of these decides the best epoch: combined (BLEU-4 + ROUGE-L), findings_f1 and findings_f1_5 (of what the
    # reports assert, over CheXpert's 14 and 5), finding_auc (of the finding head), epoch (the last is the best).
    metric_for_best_model: list[Metric] = Field(["combined"], min_length=1)
    report_to: list[Literal["tensorboard", "wandb", "trackio"]] = ["tensorboard"]
    hourly_rate: float | None = Field(None, ge=0)  # price of the machine in any currency, to project the cost
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _stages_fit(self) -> "TrainingConfig":
        planned = sum(stage.epochs for stage in self.curriculum)
        if self.curriculum and self.epochs is not None and self.epochs > planned:
            raise ValueError(f"epochs is {self.epochs}; the stages of curriculum have {planned}")
        if len({stage.name for stage in self.curriculum}) < len(self.curriculum):
            raise ValueError("curriculum: two stages have the same name")
        return self

    @property
    def bf16_weights(self) -> bool:
        """Whether weights and gradients are in bfloat16. To be asked only when `mixed_precision` has been resolved from
        "auto"."""
        return self.optimizer == "adamw_8bit" and self.mixed_precision == "bf16"

    @property
    def studies_per_update(self) -> int:
        """Studies of one process in each update of the weights."""
        return self.batch_size * self.gradient_accumulation_steps

    @property
    def total_epochs(self) -> int:
        """Epochs of the whole run."""
        return self.epochs or sum(stage.epochs for stage in self.curriculum) or 20


class GenerationConfig(Settings):
    """Beam search; findings end after 70 % of max_tokens at the latest."""

    num_beams: Count = 4
    length_penalty: float = 1.0
    max_tokens: int = Field(160, ge=8)  # longest report, findings and impression together
    impression: bool = True  # false: reports consist of findings only, in training too


class Config(Settings):
    name: str  # of the trained model, as shown to its users
    output: str  # folder for the run
    model: ModelConfig = ModelConfig()
    data: DataConfig
    training: TrainingConfig = TrainingConfig()
    generation: GenerationConfig = GenerationConfig()

    @model_validator(mode="after")
    def _sections_fit(self) -> "Config":
        losses, haqt = self.training.losses, self.model.haqt
        if self.generation.max_tokens > self.model.decoder.max_positions:
            raise ValueError(
                f"generation.max_tokens is {self.generation.max_tokens}; this decoder has positions for "
                f"{self.model.decoder.max_positions} tokens"
            )
        regional = haqt.projection == "haqt_arr"
        moving = self.training.lr_encoder or self.training.lr_projection
        for terms, given, wrong in (
            (IMAGE_TERMS, moving, "lr_encoder and lr_projection are 0: all that it would train is frozen"),
            (("mask_kl", "soft_iou", "load_balance"), regional, "haqt.projection linear has no regions"),
            (("load_balance",), haqt.use_adaptive_routing, "haqt.use_adaptive_routing is false: there is no router"),
            (("mask_kl", "soft_iou"), self.data.segmentation, "data.segmentation names no masks"),
            (("findings", "occlusion"), self.model.findings, "model.findings names none to predict"),
            (("rdrop",), self.model.dropout, "model.dropout is 0: both passes would be the same"),
        ):
            for term in terms:
                if getattr(losses, term) and not given:
                    raise ValueError(f"training.losses.{term} has a weight, but {wrong}")
        for metric in self.training.metric_for_best_model:
            needed = {"epoch": "", "finding_auc": "" if losses.findings else "findings"}
            if terms := needed.get(metric, "" if losses.learn_reports else "ce, focal or rdrop"):
                raise ValueError(f"training.metric_for_best_model: {metric} needs a weight of training.losses.{terms}")
        return self


def load_config(
    paths: str | Path | Sequence[str | Path], overrides: Iterable[str] = (), section: type[Settings] = Config
) -> Any:
    """Reads YAML files, each over those before it, then dotted overrides such as "training.epochs=3".

    A file that `extends` another, named by its path from the first, gives only what differs from it.

    Args:
        section: what the settings are of.

    Raises:
        ConfigError: a file is missing or no YAML mapping, a key is unknown (the nearest known one is named), a value
            does not fit its setting, or a required one is absent.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    layers = [layer for path in paths for layer in _read_layers(Path(path), ())]
    return build(section, _merge([*layers, _dotted(overrides)]), where=" + ".join(map(str, paths)) or "settings")


def layout_config(overrides: Iterable[str]) -> Config:
    """The default settings with overrides such as "data.source=r2gen", for work on the data alone. Raises ConfigError
    as `load_config` does."""
    return build(Config, _merge([{"name": "data", "output": "."}, _dotted(overrides)]), where="--set")


def build(section: type[Settings], values: dict[str, Any], where: str) -> Any:
    """Plain values -> checked settings. Raises ConfigError, whose message begins with `where`."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        faults = [_in_words(fault, setting_names(section)) for fault in error.errors()]
        raise ConfigError(f"{where}: {'; '.join(faults)}") from None


def save_config(config: Config, path: str | Path, comments: Iterable[str] = ()) -> None:
    """Writes the resolved settings as YAML, after comments, each a line that begins with "#"."""
    settings = yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)
    with atomic_write(Path(path)) as draft:
        draft.write_text("".join(f"{comment}\n" for comment in comments) + settings, encoding="utf-8")


def setting_names(section: type[Settings] = Config, prefix: str = "") -> list[str]:
    """Dotted names of all settings, such as "training.epochs"; those of a curriculum's stage are
    "training.curriculum.NAME"."""
    names = []
    for name, field in section.model_fields.items():
        types = (kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type))
        inner = next((kind for kind in types if issubclass(kind, Settings)), None)
        names += setting_names(inner, f"{prefix}{name}.") if inner else [prefix + name]
    return names


def _in_words(fault: dict[str, Any], known: list[str]) -> str:
    """One of pydantic's errors as a sentence: the key, what is wrong and what is accepted."""
    key = ".".join(part for part in fault["loc"] if isinstance(part, str))
    if fault["type"] == "extra_forbidden":
        near = _nearest(key, known)
        return f"unknown key {key!r}" + (f"; did you mean {near!r}?" if near else "")
    if fault["type"] == "missing":
        return f"{key} is missing"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":  # an error of a whole section
        return f"{key}: {message}" if key else message
    return f"{key} is {fault['input']!r}: {message[0].lower()}{message[1:]}"


def _nearest(wrong: str, names: list[str]) -> str | None:
    """The known key with the most similar last part, of several the most similar as a whole; None where none is."""
    last = {name: name.rsplit(".", 1)[-1] for name in names}
    near = difflib.get_close_matches(wrong.rsplit(".", 1)[-1], last.values(), 1)
    alike = [name for name in names if last[name] in near]
    return next(iter(difflib.get_close_matches(wrong, alike, 1, 0)), None)


def _dotted(overrides: Iterable[str]) -> Any:
    overrides = list(overrides)
    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"override {override!r} has no '='; write it as section.key=value")
    try:
        return OmegaConf.from_dotlist(overrides)
    except yaml.YAMLError as error:
        raise ConfigError(f"the overrides {' '.join(overrides)!r} are not valid YAML: {error}") from error


def _merge(layers: list[Any]) -> dict[str, Any]:
    try:
        return OmegaConf.to_container(OmegaConf.merge(*layers), resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from error


def _read_layers(path: Path, extending: tuple[Path, ...]) -> list[Any]:
    """The settings of a YAML file, preceded by those of the files that it extends."""
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
    return [*before, loaded]
