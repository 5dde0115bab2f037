"""The gate: out-of-distribution detection, so that reports are written of upright frontal chest radiographs alone.

A network of its own, the same for every checkpoint: the first stages of an EfficientNet-Lite0 with ImageNet's weights,
pooled over the image and over a grid of it, and a linear classifier. Beside it stands the Mahalanobis distance from the
frontal radiographs that it was fitted on, in the same features (Lee et al., "A Simple Unified Framework for Detecting
Out-of-Distribution Samples", NeurIPS 2018, arXiv:1807.03888).

Shapes: B images, S side of the canvas, D pooled features, P principal components, C classes; N images of the fit.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from xr2text.files import shipped
from xr2text.imaging.radiograph import ImageError, Radiograph
from xr2text.imaging.transform import autocontrast, letterbox
from xr2text.model.checkpoint import CheckpointError

SHIPPED_GATE = shipped("xr2text-gate")
LEVELS = (1, 2, 3)  # feature maps of the network: strides 4, 8 and 16
TURNS = 4
# A frontal radiograph turned clockwise by 0 to 3 quarters, then the same as negatives.
CLASSES = (
    *(f"frontal, turned {90 * turn}" for turn in range(TURNS)),
    *(f"negative, turned {90 * turn}" for turn in range(TURNS)),
    "lateral", "other",
)  # fmt: skip
LATERAL, OTHER = CLASSES.index("lateral"), CLASSES.index("other")
PASSES, DOUBTFUL, REFUSED = "frontal", "doubtful", "refused"
VIEWS = ("frontal", "lateral")  # views that `Gate.view` tells apart
CHILD = "This is a child's radiograph; the model knows adults alone, and a report of it may be wrong."
TURNED = {1: "to the right", 2: "upside down", 3: "to the left"}
UNUSUAL = "This image is unlike most chest radiographs that the model knows; its report is less to be relied on."


class RefusedImageError(ImageError):
    """An image that is not a frontal chest radiograph."""


class DoubtfulImageError(ImageError):
    """An image that may not be a frontal chest radiograph; the reader may have it read all the same."""


@dataclass(frozen=True)
class GateSettings:
    size: int = 160  # side S of the canvas in pixels, a multiple of 16
    grid: int = 4  # cells on each side for pooling the last stage
    components: int = 192  # P
    sure: float = 0.5  # least probability to accept a frontal class
    refuses: float = 0.9  # least probability to refuse a lateral view or another image
    far: float = 1.2  # largest distance from the fit's frontal radiographs; beyond it an image is doubtful
    unusual: float = 0.83  # beyond this distance a radiograph passes with a warning, as about 1 % of real ones do


@dataclass(frozen=True, eq=False)
class GateResult:
    verdict: str  # PASSES, DOUBTFUL or REFUSED
    radiograph: Radiograph  # turned or inverted where needed
    notes: tuple[str, ...] = ()  # a sentence for each correction
    reason: str = ""  # why it is doubtful or refused; for an image that passes, a warning or ""


class Gate(nn.Module):
    """The network of the gate, see the module; `fit_gate` fits one."""

    def __init__(self, settings: GateSettings | None = None):
        super().__init__()
        self.settings = settings = settings or GateSettings()
        self.backbone = timm.create_model("tf_efficientnet_lite0", num_classes=0)
        self.backbone.prune_intermediate_layers(list(LEVELS), prune_norm=True, prune_head=True)
        widths = [self.backbone.feature_info[level]["num_chs"] for level in LEVELS]
        self.width = 2 * sum(widths) + settings.grid**2 * widths[-1]
        self.register_buffer("centre", torch.zeros(self.width))
        self.register_buffer("axes", torch.zeros(self.width, settings.components))
        self.register_buffer("frontal_centre", torch.zeros(settings.components))
        self.register_buffer("frontal_whitening", torch.eye(settings.components))
        self.register_buffer("usual", torch.ones(()))
        self.classifier = nn.Linear(settings.components, len(CLASSES))
        self.requires_grad_(False).eval()

    @torch.inference_mode()
    def pooled(self, canvases: torch.Tensor) -> torch.Tensor:
        """Grey [B, S, S] in [0, 1] -> [B, D]."""
        images = (canvases[:, None].expand(-1, 3, -1, -1) - 0.5) / 0.5
        levels = self.backbone.forward_intermediates(images, indices=list(LEVELS), intermediates_only=True)
        parts = [part for level in levels for part in (level.mean((-1, -2)), level.std((-1, -2)))]
        parts.append(F.adaptive_avg_pool2d(levels[-1], self.settings.grid).flatten(1))
        return torch.cat(parts, 1)

    @torch.inference_mode()
    def judge(self, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, D] -> probabilities of the classes [B, C], and distances [B] from the frontal
        radiographs of the fit. Of those held out of the fit, 99.5 % have a distance of at most 1."""
        components = (pooled - self.centre) @ self.axes
        away = (components - self.frontal_centre) @ self.frontal_whitening
        return self.classifier(components).softmax(1), away.norm(dim=1) / self.usual

    def forward(self, radiograph: Radiograph) -> GateResult:
        """Judges one image, and once more after turning or inverting it where that is needed."""
        sure, notes = self.settings.sure, ()
        probabilities, distance = self._classify(radiograph)
        best = int(probabilities.argmax())
        if 0 < best < LATERAL and probabilities[best] >= sure:
            turned, negative = best % TURNS, best >= TURNS
            upright = put_right(radiograph, turned, negative)
            again, distance_again = self._classify(upright)
            if again[0] >= sure:
                radiograph, probabilities, distance = upright, again, distance_again
                notes = ("The image was a negative, bones dark; it has been inverted.",) if negative else ()
                if turned:
                    notes += (f"The image was turned {TURNED[turned]}; it has been put upright.",)
        verdict, reason = self._verdict(probabilities, distance)
        if verdict == PASSES and radiograph.child:
            verdict, reason = DOUBTFUL, CHILD
        if radiograph.contradiction:
            reason = radiograph.contradiction if verdict == PASSES else f"{radiograph.contradiction} {reason}"
            verdict = DOUBTFUL if verdict == PASSES else verdict
        return GateResult(verdict, radiograph, () if verdict == REFUSED else notes, reason)

    def admit(self, radiograph: Radiograph, force: bool = False) -> tuple[Radiograph, tuple[str, ...]]:
        """The radiograph, turned or inverted where needed, and the notes for its reader.

        Raises:
            RefusedImageError: it is no frontal chest radiograph.
            DoubtfulImageError: it may be none, or its file is at fault or says that it is none, see
                `Radiograph.notes` and `Radiograph.contradiction`. With `force`, the doubt
                is the last of the notes instead.
        """
        result = self(radiograph)
        if result.verdict == REFUSED and not radiograph.notes:
            raise RefusedImageError(result.reason)
        if result.verdict != PASSES and not force:
            raise DoubtfulImageError(" ".join([result.reason, *radiograph.notes]))
        return result.radiograph, (*result.notes, *filter(None, [result.reason]))

    def view(self, radiograph: Radiograph) -> str | None:
        """Which of VIEWS an image shows: as the DICOM header says, else the likeliest view in any orientation. None
        where it is most likely no chest radiograph."""
        if radiograph.view:
            return VIEWS[radiograph.view == "lateral"]
        probabilities, _ = self._classify(radiograph)
        sums = [probabilities[:LATERAL].sum(), probabilities[LATERAL], probabilities[OTHER]]
        return (*VIEWS, None)[int(torch.stack(sums).argmax())]

    def _verdict(self, probabilities: torch.Tensor, distance: float) -> tuple[str, str]:
        settings = self.settings
        if probabilities[0] >= settings.sure and distance <= settings.far:
            return PASSES, UNUSUAL if distance > settings.unusual else ""
        best = int(probabilities[[LATERAL, OTHER]].argmax()) + LATERAL
        what = "a lateral view" if best == LATERAL else "no chest radiograph"
        if probabilities[best] >= settings.refuses:
            return REFUSED, f"This is {what}: reports are written of one upright frontal chest radiograph (PA or AP)."
        if probabilities[0] >= settings.sure:
            seems = "unlike the chest radiographs that the model knows"
        else:
            seems = f"perhaps {what if probabilities[best] >= 0.5 else 'not an upright frontal chest radiograph'}"
        return DOUBTFUL, f"This image is {seems}; a report of it may be about nothing in it."

    def _classify(self, radiograph: Radiograph) -> tuple[torch.Tensor, float]:
        canvas = gate_canvas(radiograph.pixels, self.settings.size)
        probabilities, distances = self.judge(self.pooled(torch.from_numpy(canvas)[None].to(self.centre)))
        return probabilities[0].cpu(), float(distances[0])

    def save(self, folder: str | Path) -> None:
        """Writes gate.json and gate.safetensors, in float16."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gate.json").write_text(json.dumps(vars(self.settings), indent=2) + "\n")
        save_model(self.half(), str(folder / "gate.safetensors"))
        (folder / "gate.safetensors").chmod(0o644)
        self.float()

    @classmethod
    def load(cls, folder: str | Path = SHIPPED_GATE) -> "Gate":
        """Raises CheckpointError where a file is missing or damaged."""
        folder = Path(folder)
        try:
            gate = cls(GateSettings(**json.loads((folder / "gate.json").read_text())))
            load_model(gate, str(folder / "gate.safetensors"))
        except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"{folder} holds no gate that can be read: {error}") from error
        return gate.float().eval()


def gate_canvas(pixels: np.ndarray, size: int) -> np.ndarray:
    """Pixels [H, W] in [0, 1] -> float32 [S, S], the image letterboxed."""
    return letterbox(autocontrast(pixels), size)[0].astype(np.float32)


def put_right(radiograph: Radiograph, turned: int, negative: bool) -> Radiograph:
    """Undoes `turned` quarters clockwise and, where `negative`, the inversion."""
    pixels = np.ascontiguousarray(np.rot90(radiograph.pixels, turned))  # rot90 turns counter-clockwise
    return replace(radiograph, pixels=1 - pixels if negative else pixels)


def fit_gate(gate: Gate, pooled: np.ndarray, classes: np.ndarray, seed: int = 0) -> None:
    """Fits everything except the backbone, in place: principal components, the classifier and the scale of the
    distances.

    Args:
        gate: with its backbone's weights.
        pooled: [N, D] of `Gate.pooled`.
        classes: [N] numbers of CLASSES, each of which must occur. A fifth of the upright frontal radiographs, drawn by
            `seed`, is kept from the distances to scale them by.
    """
    from sklearn.covariance import LedoitWolf
    from sklearn.linear_model import LogisticRegression

    missing = [name for number, name in enumerate(CLASSES) if not (classes == number).any()]
    if missing:
        raise ValueError(f"the gate needs images of every class; it has none of {missing[0]!r}")
    pooled = torch.from_numpy(pooled).double()
    centre = pooled.mean(0)
    _, values, axes = torch.linalg.svd(pooled - centre, full_matrices=False)
    count = gate.settings.components
    axes = axes[:count].T / (values[:count] / len(pooled) ** 0.5)  # [D, P], unit variance on each
    components = ((pooled - centre) @ axes).numpy()
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000).fit(components, classes)
    gate.centre.copy_(centre)
    gate.axes.copy_(axes)
    gate.classifier.weight.copy_(torch.from_numpy(model.coef_))
    gate.classifier.bias.copy_(torch.from_numpy(model.intercept_))

    frontal = np.random.default_rng(seed).permutation(components[classes == 0])
    kept, held_out = np.split(frontal, [4 * len(frontal) // 5])
    shape = LedoitWolf().fit(kept)
    gate.frontal_centre.copy_(torch.from_numpy(shape.location_))
    gate.frontal_whitening.copy_(torch.linalg.cholesky(torch.from_numpy(shape.precision_)))
    away = (torch.from_numpy(held_out).float() - gate.frontal_centre) @ gate.frontal_whitening
    gate.usual.copy_(away.norm(dim=1).quantile(0.995))
