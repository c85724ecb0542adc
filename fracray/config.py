"""Typed settings, one frozen class per stage, and how a file, a profile and `--set` become them."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fracray.errors import SettingsError


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys refused by name."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class RadiographSettings(Settings):
    """Reading files, finding near-duplicates, and folds."""

    max_bytes: int = Field(64 * 2**20, gt=0, description="largest file read, bytes")
    max_pixels: int = Field(50_000_000, gt=0, description="largest picture decoded, pixels")
    folds: int = Field(5, ge=2, le=20, description="number of outer folds")
    duplicate_distance: int = Field(
        10, ge=0, le=32, description="bits of 64 by which perceptual hashes of near-duplicates may differ"
    )


class CaptionSettings(Settings):
    """Describing radiographs in words."""

    captioner: Literal["gemma", "replay", "fake", "none"] = Field(
        "gemma", description="which captioner answers; none: the image alone decides"
    )
    model: str = Field(
        "embedded",
        description="'embedded' (phantoms), 'embedded-radiographs', a folder, or a model id such as "
        "google/medgemma-4b-it; for replay a table",
    )
    revision: str | None = Field(None, description="revision of a model id; empty: the newest")
    prompt: str = Field("findings", description="name of a prompt that ships, or path of a .txt file")
    quantisation: Literal["nf4", "int8", "none"] = Field(
        "nf4", description="weights of the language model in 4 bits, in 8 bits, or as they are"
    )
    compute_dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="auto: bfloat16 on a GPU that has it, else float32"
    )
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = Field(
        "auto", description="implementation of attention; auto: the model library's choice"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    batch_size: int = Field(16, gt=0, description="radiographs per generation")
    max_new_tokens: int = Field(160, gt=0, description="longest answer, tokens")


class Preprocessing(Settings):
    """From a radiograph to the backbone's input; the same in training, extraction and serving."""

    size: int = Field(224, ge=32, le=2048, description="side of the square input, pixels (paper: 224)")
    keep_proportions: bool = Field(False, description="pad to a square instead of squeezing")
    crop_borders: bool = Field(False, description="cut off collimated borders, at most a quarter per edge")
    clahe: bool = Field(False, description="equalise local contrast (CLAHE)")


class BackboneSettings(Settings):
    """The network that turns a radiograph into numbers."""

    architecture: str = Field(
        "resnet10",
        pattern=r"^(resnet(10|18|34|50|101)|efficientnet_lite0|timm/[A-Za-z0-9_]+)$",
        description="resnet10 (embedded), resnet18, resnet34, resnet50 (paper), resnet101, "
        "efficientnet_lite0, or timm/NAME",
    )
    weights: str = Field(
        "embedded", description="'embedded' (resnet10), 'imagenet', 'random', or a .safetensors file"
    )
    attention: bool = Field(
        False,
        description="a second half of the embedding: the mean weighted by where a fracture seems to lie",
    )
    plain_mean: bool = Field(
        True, description="with attention: keep the plain mean over all places in the embedding, too"
    )
    mirror: bool = Field(
        False,
        description="average the embeddings of a radiograph and of its mirror image; takes twice as long",
    )
    members: int = Field(
        1,
        ge=1,
        le=8,
        description="last stages side by side that answer together; each learns alone with unfrozen: layer4",
    )


class FinetuneSettings(Settings):
    """Selective fine-tuning of the backbone."""

    unfrozen: Literal["none", "fc", "layer4", "layer3+4", "all"] = Field(
        "layer4", description="stages that learn; none: the backbone stays as it is"
    )
    size: int | None = Field(
        None,
        ge=32,
        le=2048,
        description="side of the square input while stages learn, pixels; null: preprocessing.size, the most",
    )
    optimiser: Literal["adamw", "sgd"] = Field("adamw", description="sgd: with Nesterov momentum 0.9")
    epochs: int = Field(8, ge=1, le=500)
    learning_rate: float = Field(3e-4, gt=0, lt=1)
    weight_decay: float = Field(1e-2, ge=0)
    batch_size: int = Field(32, ge=2)
    augmentation: float = Field(
        0.5, ge=0, le=1, description="strength of flips, rotation, zoom, contrast, brightness; 0: none"
    )
    draws: int = Field(
        4, ge=1, description="versions of a radiograph that epochs cycle through: itself and augmented ones"
    )
    weight_average: float = Field(
        0.0, ge=0, lt=1, description="decay per step of the running mean of weights that is kept; 0: the last"
    )
    cache_gb: float = Field(
        1.0, ge=0, description="memory for what frozen stages make of the radiographs, GB"
    )
    label_smoothing: float = Field(0.05, ge=0, lt=0.5)
    localisation: float = Field(
        1.0, ge=0, description="weight of the loss that asks where the fracture is, where boxes are given"
    )


class VisionSettings(Settings):
    """Preprocessing, backbone and its fine-tuning."""

    preprocessing: Preprocessing = Preprocessing()
    backbone: BackboneSettings = BackboneSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of embeddings; bfloat16: faster where the hardware has it, 1 % off"
    )
    batch_size: int = Field(32, gt=0, description="radiographs per forward pass")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")


class FusionSettings(Settings):
    """Words beside numbers, and the classifier on both."""

    max_terms: int = Field(262, ge=1, description="largest TF-IDF vocabulary (paper: 262)")
    ngrams: Literal[1, 2, 3] = Field(1, description="longest run of words that counts as one term")
    sublinear_tf: bool = Field(False, description="1 + log(count) instead of the count")
    regularisation: float = Field(1.0, gt=0, description="C of the logistic regression; smaller: stronger")
    text_weight: float = Field(1.0, gt=0, description="factor on the text block before the classifier")
    balanced: bool = Field(True, description="weight classes by their inverse frequency")
    min_sensitivity: float = Field(
        0.9, gt=0, le=1, description="operating point: highest threshold that reaches this on inner folds"
    )


class SearchSettings(Settings):
    """Ray Tune and Optuna."""

    test_fold: int = Field(
        0, ge=0, description="outer fold that search and training never see; one that no row has: use all"
    )
    vision_trials: int = Field(6, ge=0, description="fine-tuning settings tried; 0: keep the configured one")
    fusion_trials: int = Field(100, ge=0, description="fusion settings tried; 0: keep the configured one")
    unfrozen: tuple[Literal["none", "layer4", "layer3+4", "all"], ...] = Field(
        ("none", "layer4", "layer3+4", "all"), min_length=1, description="stages that the search may unfreeze"
    )
    max_epochs: int = Field(32, ge=1, description="most epochs that the search may fine-tune")
    concurrent: int = Field(2, ge=1, description="trials at a time")
    cpus_per_trial: float = Field(1.0, gt=0)
    gpus_per_trial: float = Field(0.0, ge=0)


class ExtractionSettings(Settings):
    """Ray Data actors and batches."""

    caption_actors: int = Field(1, ge=1)
    vision_actors: int = Field(1, ge=1)
    cpus_per_caption_actor: float = Field(1.0, ge=0)
    cpus_per_vision_actor: float = Field(1.0, ge=0)
    gpus_per_caption_actor: float = Field(0.0, ge=0)
    gpus_per_vision_actor: float = Field(0.0, ge=0)
    rows_per_block: int = Field(
        64, ge=1, description="rows read, written and repeated after a crash together"
    )


class EvaluationSettings(Settings):
    """Figures and their intervals."""

    confidence: float = Field(0.95, gt=0.5, lt=1, description="level of all intervals")
    bootstrap: int = Field(2000, ge=100, description="bootstrap draws over groups")
    gallery: int = Field(12, ge=0, description="radiographs shown in the report with their heat maps")


HeatMapMethod = Literal["gradcam", "gradcam++", "layercam", "eigencam"]


class ExplainSettings(Settings):
    """The heat map of a decision."""

    method: HeatMapMethod = Field(
        "gradcam", description="class activation map; eigencam does not look at the decision"
    )


class ServingSettings(Settings):
    """Ray Serve."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    caption_replicas: int = Field(1, ge=1)
    decision_replicas: int = Field(1, ge=1)
    gpus_per_caption_replica: float = Field(0.0, ge=0)
    gpus_per_decision_replica: float = Field(0.0, ge=0)
    max_batch: int = Field(8, ge=1, description="requests joined into one forward pass")
    batch_wait_seconds: float = Field(0.02, ge=0)
    max_queued: int = Field(64, ge=1, description="requests waiting before the service answers 503")


class Config(Settings):
    """Everything that can be set, stage by stage."""

    seed: int = Field(7, ge=0, description="seed of folds, training, search and bootstrap")
    radiographs: RadiographSettings = RadiographSettings()
    captions: CaptionSettings = CaptionSettings()
    vision: VisionSettings = VisionSettings()
    extraction: ExtractionSettings = ExtractionSettings()
    fusion: FusionSettings = FusionSettings()
    search: SearchSettings = SearchSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    explain: ExplainSettings = ExplainSettings()
    serving: ServingSettings = ServingSettings()


def load_config(
    file: Path | None = None,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    base: Config | None = None,
) -> Config:
    """Resolve a configuration: `base` or the defaults, `profile`, `file`, then `overrides`, the last winning.

    `profile` names a YAML file in fracray/profiles. An override reads `stage.key=value`, the value being
    YAML. Raises `SettingsError` naming the unknown key or the impossible value.
    """
    values: dict[str, Any] = {} if base is None else base.model_dump()
    if profile is not None:
        _merge(values, _read_yaml(profile_file(profile)))
    if file is not None:
        _merge(values, _read_yaml(file))
    for override in overrides:
        _merge(values, _parse_override(override))
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = "unknown setting" if first["type"] == "extra_forbidden" else first["msg"]
        raise SettingsError(f"setting '{where}': {reason}; `fracray config` lists all settings") from None


def profile_file(name: str) -> Path:
    """Return the YAML file of a shipped profile; raises `SettingsError` listing the names there are."""
    folder = Path(str(files("fracray") / "profiles"))
    path = folder / f"{name}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise SettingsError(f"profile '{name}' does not exist; choose one of: {names}")
    return path


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: holds no settings; write lines such as 'seed: 7'")
    return values


def _parse_override(override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise SettingsError(
            f"'{override}': write --set stage.key=value, for example --set captions.batch_size=8"
        )
    try:
        nested: Any = yaml.safe_load(text)
    except yaml.YAMLError:
        raise SettingsError(f"'{override}': the value is not valid YAML; quote it") from None
    for part in reversed(key.strip().split(".")):
        nested = {part: nested}
    return dict(nested)


def _merge(into: dict[str, Any], new: dict[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
