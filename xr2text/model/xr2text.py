"""XR2Text: image encoder, HAQT-ARR and BART decoder, and the checkpoint folder that holds them.

Letters: B batch, S image side, K regions, H x W patch grid, Q visual tokens, T text tokens, V vocabulary.
"""

import copy
import json
import os
import re
import shutil
import tempfile
import zlib
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from timm.models.swin_transformer import SwinTransformerBlock
from torch import nn
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.bart.modeling_bart import BartDecoderLayer, BartEncoderLayer

from xr2text import __version__
from xr2text.anatomy import REGIONS
from xr2text.config import ConfigError, GenerationConfig, LossConfig, ModelConfig, load_checkpoint_config
from xr2text.errors import XR2TextError
from xr2text.imaging.transform import ImageTransform
from xr2text.model.decoder import TextDecoder
from xr2text.model.encoder import ImageEncoder
from xr2text.model.haqt_arr import FindingHead, FindingTokens, HaqtArr, LinearProjection, VisualTokens
from xr2text.text.sections import ReportText
from xr2text.text.tokenizer import (
    FINDINGS_TOKEN,
    IGNORED,
    IMPRESSION_TOKEN,
    SentenceMarks,
    decode_report,
    known_words,
    sentence_marks,
)
from xr2text.text.words import strange_pairs, strange_words

CONFIG_FILE, WEIGHTS_FILE, PREPROCESSOR_FILE = "config.json", "model.safetensors", "preprocessor_config.json"


# What a finding both asserted and denied, a word that stands twice in a row, and one that the training reports lack
# count for among a report's differences from the head.
FAULT = 20.0
TWICE = re.compile(r"\b(\w+) \1\b", re.IGNORECASE)
STATE_SLOPE = 2.0  # of a finding's state at its threshold, per unit of logit


class CheckpointError(XR2TextError, ValueError):
    """A checkpoint that is missing, incomplete or does not fit; the message says which file and why."""


@dataclass
class XR2TextOutput:
    """One forward pass.

    Attributes:
        loss: the sum of `losses`, each times its weight; None without labels.
        losses: named terms, each a scalar.
        logits: [B, T, V]; None without labels.
        region_weights: [B, K], the router's.
        region_maps: [B, K, H, W], attention of each region's queries; each sums to 1.
        region_priors: [B, K, H, W]; None without spatial priors.
        finding_logits: [B, F] in the order of `config.findings`; None where it is empty.

    With `projection: linear` the three region fields are None.
    """

    region_weights: torch.Tensor | None
    region_maps: torch.Tensor | None
    region_priors: torch.Tensor | None
    finding_logits: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    losses: dict[str, torch.Tensor] = field(default_factory=dict)
    loss: torch.Tensor | None = None


@dataclass
class GeneratedReports:
    """Reports of a batch, with the attention that they were written with.

    Attributes:
        reports: B pairs of findings and impression.
        token_ids: [B, T], `<findings>` first.
        visual: the tokens, region weights, maps and priors.
        finding_logits: [B, F]; None without a finding head.
    """

    reports: list[ReportText]
    token_ids: torch.Tensor
    visual: VisualTokens
    finding_logits: torch.Tensor | None = None


class XR2Text(nn.Module):
    """A radiograph in, a report out.

    Args:
        config: every size and switch. Weights are random; see `load_initial_weights` and `from_pretrained`.
        tokenizer: needed by `generate` and `save_pretrained`; its vocabulary must have `config.decoder.vocab_size`
            entries.
        generation: settings of the search, kept with the checkpoint.
        name: of the model, shown with its reports.

    Raises:
        ConfigError: parts that do not fit each other.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: PreTrainedTokenizerBase | None = None,
        generation: GenerationConfig | None = None,
        name: str = "xr2text",
    ):
        super().__init__()
        if tokenizer is not None and len(tokenizer) != config.decoder.vocab_size:
            raise ConfigError(
                f"model.decoder.vocab_size is {config.decoder.vocab_size}; the tokenizer has {len(tokenizer)} entries"
            )
        self.config, self.tokenizer, self.name = config, tokenizer, name
        self.generation = generation or GenerationConfig()
        self.transform = ImageTransform(config.image.size, tuple(config.image.mean), tuple(config.image.std))
        self.encoder = ImageEncoder(config.encoder, config.image.size)
        projection = HaqtArr if config.haqt.projection == "haqt_arr" else LinearProjection
        self.projection = projection(config.haqt, self.encoder.width, self.encoder.grid)
        self.decoder = TextDecoder(config.decoder, config.haqt.width)
        self.finding_head = None
        if config.findings:
            self.finding_head = FindingHead(
                config.findings, config.haqt.width, config.haqt.global_queries, config.findings_per_token
            )
        self.finding_tokens = None
        if config.decoder.finding_tokens:
            self.finding_tokens = FindingTokens(len(config.findings), config.haqt.width)

    def load_initial_weights(self) -> None:
        """Starts the encoder and the decoder from the weights that the config names, for a new training."""
        self.encoder.load_initial_weights()
        self.decoder.load_initial_weights()

    def load_weights(self, folder: str | Path) -> None:
        """Takes the weights of a checkpoint folder, all of them. Raises CheckpointError where they do not fit."""
        file = Path(folder) / WEIGHTS_FILE
        try:
            load_model(self, str(file), strict=True)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise CheckpointError(f"{file} does not fit this model's config: {error}") from error

    def freeze_untrained(self, weights: LossConfig) -> None:
        """Takes the parts that no term of the loss reaches out of training."""
        if not (weights.tokens or weights.focal or weights.rdrop or weights.reward):
            self.decoder.requires_grad_(False)
            if self.finding_tokens is not None:
                self.finding_tokens.requires_grad_(False)
        if not (weights.findings or weights.hidden) and self.finding_head is not None:
            self.finding_head.requires_grad_(False)

    def enable_gradient_checkpointing(self, text: bool = True) -> None:
        """Trades time for memory: activations within the encoder's stages and BART's layers are computed twice.

        Args:
            text: BART's layers too; False: the encoder's stages alone.

        Raises:
            ConfigError: timm's model cannot do it.
        """
        self.encoder.enable_gradient_checkpointing()
        if not text:
            return
        bart, how = self.decoder.bart, {"use_reentrant": False}
        if hasattr(bart, "activation_checkpointing_enable"):  # transformers before 5.2 know the other name only
            bart.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
        else:
            bart.gradient_checkpointing_enable(how)

    def compile_layers(self, **options) -> None:
        """Each transformer layer and each block of the encoder that has the same shapes for every batch of a length is
        compiled by itself, at its first call.

        Args:
            options: of torch.compile.
        """
        for module in self.modules():
            if isinstance(
                module, BartEncoderLayer | BartDecoderLayer | nn.TransformerEncoderLayer | SwinTransformerBlock
            ):
                module.compile(**options)

    def look(self, pixel_values: torch.Tensor, box: torch.Tensor | None = None) -> VisualTokens:
        """Image [B, 3, S, S] -> visual tokens.

        Args:
            box: [B, 4] the radiograph's place on the canvas (`Geometry.box`); None where it fills the canvas.
        """
        return self.projection(self.encoder(pixel_values), _whole_canvas(pixel_values) if box is None else box)

    def see_findings(
        self, visual: VisualTokens, pixel_values: torch.Tensor, box: torch.Tensor | None = None
    ) -> torch.Tensor | None:
        """The finding head's logits [B, F], outside training the mean over `config.finding_scales` too; None without a
        finding head.

        Args:
            visual: what `look` has seen of the same `pixel_values` [B, 3, S, S] and `box`.
        """
        if self.finding_head is None:
            return None
        logits = self.finding_head(visual.tokens)
        if self.training or not self.config.finding_scales:
            return logits
        box = _whole_canvas(pixel_values) if box is None else box
        others = (self.look(*self.transform.scaled(pixel_values, box, one)) for one in self.config.finding_scales)
        return torch.stack([logits, *(self.finding_head(other.tokens) for other in others)]).mean(0)

    def finding_probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """The head's logits [B, F] -> calibrated probabilities, on the temperature that the training ended with."""
        return (logits / self.config.finding_temperature).sigmoid()

    def finding_states(self, logits: torch.Tensor) -> torch.Tensor:
        """How far each finding counts as present, [B, F] in [0, 1]: 0.5 at its threshold, 0 or 1 well away from it."""
        thresholds = [self.config.finding_thresholds.get(name, 0.5) for name in self.config.findings]
        edges = logits.new_tensor(thresholds).logit() * self.config.finding_temperature
        return (STATE_SLOPE * (logits - edges)).sigmoid()

    def tokens_to_write_from(
        self, tokens: torch.Tensor, finding_logits: torch.Tensor | None, finding_labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Visual tokens [B, Q, D], and behind them one for each finding where the model has such.

        Args:
            finding_labels: [B, F] in training; most tokens then say what is true and not what the head thinks, so that
                the report learns to say what they say.
        """
        if self.finding_tokens is None:
            return tokens
        states = self.finding_states(finding_logits.detach())
        if finding_labels is not None:
            own = torch.rand_like(states) < self.config.decoder.predicted_findings
            states = torch.where(own | finding_labels.isnan(), states, finding_labels.nan_to_num())
        return torch.cat([tokens, self.finding_tokens(states)], dim=1)

    def forward(
        self,
        pixel_values: torch.Tensor,
        box: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        finding_labels: torch.Tensor | None = None,
        weights: LossConfig | None = None,
    ) -> XR2TextOutput:
        """One pass, with losses where there are labels.

        Args:
            pixel_values: [B, 3, S, S].
            box: see `look`.
            labels: [B, T] report token ids, IGNORED where padded.
            finding_labels: [B, F] 1 present, 0 absent, NaN where not known.
            weights: of the loss's terms.
        """
        weights = weights or LossConfig()
        visual = self.look(pixel_values, box)
        output = XR2TextOutput(visual.region_weights, visual.region_maps, visual.region_priors)
        output.finding_logits = self.see_findings(visual, pixel_values, box)
        if labels is not None:
            output.logits = self.decoder(self.tokens_to_write_from(visual.tokens, output.finding_logits), labels)
            if weights.tokens:
                output.losses["tokens"] = F.cross_entropy(
                    output.logits.float().flatten(0, 1), labels.flatten(),
                    ignore_index=IGNORED, label_smoothing=weights.label_smoothing,
                )  # fmt: skip
        if finding_labels is not None and weights.findings:
            known = ~finding_labels.isnan()
            terms = F.binary_cross_entropy_with_logits(
                output.finding_logits, finding_labels.nan_to_num(), weight=known.float(), reduction="sum"
            )
            output.losses["findings"] = terms / known.sum().clamp_min(1)
        if output.losses:
            output.loss = sum(getattr(weights, name) * term for name, term in output.losses.items())
        return output

    @torch.inference_mode()
    def generate(
        self,
        pixel_values: torch.Tensor,
        box: torch.Tensor | None = None,
        settings: GenerationConfig | None = None,
    ) -> GeneratedReports:
        """Images [B, 3, S, S] -> reports, by beam search or draws, with `settings` (default: the checkpoint's)."""
        if self.tokenizer is None:
            raise ValueError("this model was built without a tokenizer and cannot write reports")
        visual = self.look(pixel_values, box)
        section_ids = self.tokenizer.convert_tokens_to_ids([FINDINGS_TOKEN, IMPRESSION_TOKEN])
        logits = self.see_findings(visual, pixel_values, box)
        tokens = self.tokens_to_write_from(visual.tokens, logits)
        settings, marks = settings or self.generation, self._sentence_marks
        if settings.agreement or settings.draws:
            seeds = self._image_seeds(pixel_values) if settings.draws else ()
            found, scores = self.decoder.candidates(tokens, settings, *section_ids, marks, seeds)
            if settings.agreement:
                scores = scores - settings.agreement * self._differences(found, logits)
            ids = found[torch.arange(len(found), device=found.device), scores.argmax(1)]
        else:
            ids = self.decoder.generate(tokens, settings, *section_ids, marks)
        return GeneratedReports([decode_report(self.tokenizer, row.tolist()) for row in ids], ids, visual, logits)

    def _image_seeds(self, pixel_values: torch.Tensor) -> list[int]:
        """A number that each image [B, 3, S, S] always gives."""
        grey = (self.transform.denormalise(pixel_values.float()) * 255).round().to("cpu", torch.uint8)
        return [zlib.crc32(one.numpy().tobytes()) for one in grey]

    @cached_property
    def _sentence_marks(self) -> SentenceMarks:
        return sentence_marks(self.tokenizer)

    def _differences(self, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """In how many findings each of a study's drafts [B, n, T] is not what the head's logits [B, F] say, and FAULT
        for each one that it both asserts and denies, and for each word that stands twice in a row: [B, n].

        Where the tokenizer knows the training reports' words, FAULT for each that they lack, too, and one more
        difference wherever a word follows another that it follows in none of them.
        """
        from xr2text.text.findings.labeler import contradictions, label_reports
        from xr2text.text.findings.table import FINDING_NAMES

        names = [name for name in self.config.findings if name in FINDING_NAMES]
        if not names:
            raise ConfigError("generation.agreement: none of model.findings is read in reports by text.findings")
        columns = [list(self.config.findings).index(name) for name in names]
        reports = [decode_report(self.tokenizer, row) for row in ids.flatten(0, 1).tolist()]
        texts = [f"{report.findings}\n\n{report.impression}" for report in reports]
        asserted = torch.tensor(label_reports(texts)[names].fillna(0).to_numpy(int) != 0, device=logits.device)
        states = self.finding_states(logits)[:, None, columns]  # [B, 1, F]
        differences = (asserted.view(*ids.shape[:2], -1).float() - states).abs().sum(-1)  # [B, n]
        faults = torch.tensor([FAULT * (len(contradictions(text)) + len(TWICE.findall(text))) for text in texts])
        if known := known_words(self.tokenizer):
            faults += torch.tensor(
                [FAULT * len(strange_words(text, known)) + len(strange_pairs(text, known)) for text in texts]
            )
        return differences + faults.to(logits.device).view_as(differences)

    @torch.no_grad()
    def draw_findings(self, tokens: torch.Tensor, samples: int) -> torch.Tensor:
        """Findings sections drawn token by token from the model's own probabilities.

        Args:
            tokens: [B, Q, D] to write from.
            samples: S, of each study.

        Returns:
            [B*S, T] ids, `<findings>` first, up to `<impression>`, `</s>` or the longest length, padded by PAD.
        """
        training = self.decoder.training
        self.decoder.eval()
        section_ids = self.tokenizer.convert_tokens_to_ids([FINDINGS_TOKEN, IMPRESSION_TOKEN])
        marks = self._sentence_marks
        ids = self.decoder.generate(tokens.detach(), self.generation, *section_ids, marks, samples=samples)
        self.decoder.train(training)
        return ids.clone()  # an ordinary tensor, that a gradient may pass

    @torch.inference_mode()
    def token_regions(self, written: GeneratedReports) -> torch.Tensor:
        """Which regions each token of finished reports was written from, [B, T, K], each row summing to 1.

        The decoder's attention to the tokens of each region, and, where the report is written from findings, its
        attention to a finding passed on to the regions that the finding was read from. Attention to global tokens
        belongs to no region and is left out. One more pass of the decoder over the text, none of the search.
        """
        tokens = self.tokens_to_write_from(written.visual.tokens, written.finding_logits)
        return self.region_shares(self.decoder.cross_attention(tokens, written.token_ids), written.visual)

    @torch.inference_mode()
    def token_log_probabilities(self, written: GeneratedReports) -> torch.Tensor:
        """How likely the model has each token of finished reports after those before it, [B, T] in nats."""
        tokens = self.tokens_to_write_from(written.visual.tokens, written.finding_logits)
        log_p = self.decoder(tokens, written.token_ids).float().log_softmax(-1)
        return log_p.gather(-1, written.token_ids[..., None])[..., 0]

    def region_shares(self, attention: torch.Tensor, visual: VisualTokens) -> torch.Tensor:
        """Attention to all that a report is written from [B, T, Q] -> to each region [B, T, K], see `token_regions`."""
        config = self.config.haqt
        if visual.region_maps is None:
            raise ValueError("a model of projection 'linear' has no regions")
        first, last = config.global_queries, visual.tokens.shape[1]
        regions = attention[..., first:last].unflatten(-1, (len(REGIONS), config.region_queries)).sum(-1)  # [B, T, K]
        if self.finding_tokens is not None:
            regions = regions + attention[..., last:] @ self.finding_head.sources(visual.tokens)
        return regions / regions.sum(-1, keepdim=True)

    def save_pretrained(self, folder: str | Path, half_precision: bool = False, card: str | None = None) -> None:
        """Writes a checkpoint folder; the folder that stood there is replaced only once the new one is whole.

        Args:
            half_precision: store parameters as float16 (normalisation statistics stay float32).
            card: text of its README.md, the model card.
        """
        if self.tokenizer is None:
            raise ValueError("a checkpoint needs a tokenizer")
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            draft.chmod(0o755)
            stored = copy.deepcopy(self).cpu()
            if half_precision:
                for parameter in stored.parameters():
                    parameter.data = parameter.data.half()
            save_model(stored, str(draft / WEIGHTS_FILE), metadata={"format": "pt"})
            settings = {
                "xr2text_version": __version__,
                "name": self.name,
                "model": asdict(self.config),
                "generation": asdict(self.generation),
            }
            (draft / CONFIG_FILE).write_text(json.dumps(settings, indent=2) + "\n")
            preprocessor = {"resize": "letterbox", **asdict(self.config.image)}
            (draft / PREPROCESSOR_FILE).write_text(json.dumps(preprocessor, indent=2) + "\n")
            self.tokenizer.save_pretrained(str(draft))
            if card is not None:
                (draft / "README.md").write_text(card)
            for file in draft.iterdir():
                file.chmod(0o644)
            _replace_folder(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    @classmethod
    def from_pretrained(cls, path_or_id: str | Path) -> "XR2Text":
        """Reads a checkpoint folder, or a Hugging Face Hub id, which is downloaded once; evaluation mode, float32.

        Raises:
            CheckpointError: a file is missing or damaged, or the weights do not fit the config one to one.
            ConfigError: config.json has an unknown key or a value that is not accepted.
        """
        folder = _checkpoint_folder(path_or_id)
        for file in (CONFIG_FILE, WEIGHTS_FILE, PREPROCESSOR_FILE, "tokenizer.json"):
            if not (folder / file).is_file():
                raise CheckpointError(f"{folder} is not a checkpoint: {file} is missing")
        name, config, generation = load_checkpoint_config(folder / CONFIG_FILE)
        try:
            preprocessor = json.loads((folder / PREPROCESSOR_FILE).read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{folder / PREPROCESSOR_FILE} is not valid JSON: {error}") from error
        if preprocessor != {"resize": "letterbox", **asdict(config.image)}:
            raise CheckpointError(f"{folder}: {PREPROCESSOR_FILE} disagrees with the image settings of {CONFIG_FILE}")
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder))
        except Exception as error:  # tokenizers raises plain Exception, and transformers whatever it stumbles over
            raise CheckpointError(f"{folder}: the tokenizer cannot be read: {error}") from error
        model = cls(config, tokenizer, generation, name)
        model.load_weights(folder)
        return model.eval()


def _whole_canvas(pixel_values: torch.Tensor) -> torch.Tensor:
    """[B, 4] the place of radiographs that fill their canvas."""
    return pixel_values.new_tensor([0.0, 0.0, 1.0, 1.0]).expand(len(pixel_values), -1)


def _checkpoint_folder(path_or_id: str | Path) -> Path:
    folder = Path(path_or_id)
    if folder.is_dir():
        return folder
    # A mistyped local folder is not asked for on the Hub, where a stranger may own its name.
    local = folder.is_absolute() or str(path_or_id).startswith((".", "~")) or folder.parts[0] in ("checkpoints", "runs")
    if local or len(folder.parts) != 2 or Path(folder.parts[0]).is_dir():
        raise CheckpointError(f"no checkpoint folder at {path_or_id}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(path_or_id)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{path_or_id} is neither a folder here nor a model that the Hugging Face Hub gives: {error}"
        ) from error


def _replace_folder(draft: Path, folder: Path) -> None:
    """Puts `draft` in the place of `folder`; a kill between the two renames leaves the old one beside it."""
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
        os.replace(folder, old / folder.name)
        os.replace(draft, folder)
        shutil.rmtree(old)
    else:
        os.replace(draft, folder)
