"""Put a diffusers pipeline into the store: safetensors only, nothing unpickled, every digest recorded."""

import json
import logging
import re
from importlib import resources
from pathlib import Path
from typing import Any

from radiffuse.errors import ConfigError, DataError
from radiffuse.hub import download_model
from radiffuse.local_files import scratch_folder, sha256_of_file
from radiffuse.manifest import Manifest, digest_of
from radiffuse.storage import Store

logger = logging.getLogger(__name__)

BASE_MODELS = ("tiny",)
# What a text-to-image pipeline needs; the safety checker and its feature extractor know photographs, not radiographs.
COMPONENTS = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")
WEIGHTS = ("text_encoder", "unet", "vae")
DESCRIPTIONS = {"scheduler": ("scheduler_config.json",), "tokenizer": ("tokenizer.json", "vocab.json")}
"""One of these files tells what a part is; in the others it is config.json."""
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")
HUB_PATTERNS = ["model_index.json", "README.md", *(f"{component}/*" for component in COMPONENTS)]
FORMAT = 1


def stage_model(store: Store, source: str, revision: str | None = None) -> Manifest:
    """Stage a base model that ships with radiffuse ('tiny'), a diffusers folder, or a Hugging Face id at a revision.

    The address is the digest of the files, so staging the same weights twice does nothing. Raises DataError when the
    folder is not a diffusers text-to-image pipeline or has weights in another format than safetensors, ConfigError when
    the source is none of the three.
    """
    with scratch_folder("stage") as scratch:
        folder, name, origin = _resolve(source, revision, scratch / "hub")
        files = _pipeline_files(folder)
        staged = scratch / "staged"
        for relative in files:
            (staged / relative).parent.mkdir(parents=True, exist_ok=True)
            (staged / relative).symlink_to((folder / relative).resolve())
        _write_model_index(folder, staged)
        digests = {relative: sha256_of_file(staged / relative) for relative in (*files, "model_index.json")}
        digest = digest_of(objects=digests, format=FORMAT)
        uri = f"s3://models/{name}/{digest}"
        found = store.find(uri)
        if found is not None:
            return found
        weights_bytes = sum((staged / item).stat().st_size for item in files if item.endswith(".safetensors"))
        manifest = Manifest(
            kind="model",
            name=name,
            uri=uri,
            digest=digest,
            inputs={"origin": origin},
            counts={"files": len(digests), "weights_bytes": weights_bytes},
        )
        logger.info("staging model=%s files=%d weights_bytes=%d", name, len(digests), weights_bytes)
        return store.publish(manifest, staged, list(digests))


def _resolve(source: str, revision: str | None, download: Path) -> tuple[Path, str, str]:
    """The local folder, the model's name in the store, and where it came from."""
    is_on_hub = source not in BASE_MODELS and not _is_folder(source)
    if revision is not None and not is_on_hub:
        raise ConfigError(f"{source} is here and has no revisions; leave --revision {revision} out")
    if source in BASE_MODELS:
        return Path(str(resources.files("radiffuse") / "base_models" / source)), source, f"radiffuse:{source}"
    folder = Path(source)
    if not is_on_hub:
        return folder, _slug(folder.resolve().name), f"folder:{folder.resolve().name}"
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise ConfigError(
            f"no model {source!r}: neither a folder here, nor a base model ({', '.join(BASE_MODELS)}), "
            "nor a Hugging Face id such as CompVis/stable-diffusion-v1-4"
        )
    if revision is None:
        raise ConfigError(f"{source} is on the hub, where branches move; name the commit with --revision")
    download_model(source, revision, download, HUB_PATTERNS)
    return download, _slug(source.replace("/", "--")), f"hub:{source}@{revision}"


def _is_folder(source: str) -> bool:
    try:
        return Path(source).is_dir()
    except OSError as error:
        raise DataError(f"cannot read the model at {source}: {error.strerror}") from error


def _slug(name: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]
    return slug if slug else "model"  # a name in another script has no letter that an address may have


def _pipeline_files(folder: Path) -> list[str]:
    """Relative paths of everything to stage but model_index.json, sorted."""
    if not (folder / "model_index.json").is_file():
        raise DataError(f"{folder} holds no model_index.json; a diffusers pipeline folder is needed")
    for component in COMPONENTS:
        if not (folder / component).is_dir():
            raise DataError(f"{folder} has no {component}/; a Stable Diffusion pipeline has {', '.join(COMPONENTS)}")
    return sorted(name for component in COMPONENTS for name in _component_files(folder, component))


def _component_files(folder: Path, component: str) -> list[str]:
    paths = [path for path in (folder / component).iterdir() if path.is_file()]
    # A name with a dot inside its stem is a variant (…fp16.safetensors); full precision is what training starts from.
    weights = [path for path in paths if path.suffix == ".safetensors" and not _is_variant(path)]
    if component in WEIGHTS and not weights:
        found = ", ".join(sorted(path.name for path in paths))
        raise DataError(f"{folder / component} holds no full-precision safetensors, only {found}; convert it first")
    if not {path.name for path in paths} & set(DESCRIPTIONS.get(component, ("config.json",))):
        needed = " or ".join(DESCRIPTIONS.get(component, ("config.json",)))
        raise DataError(f"{folder / component} has no {needed}; fetch the pipeline again")
    for path in weights:
        check_safetensors(path)
    others = [path for path in paths if path.suffix in (".json", ".txt")]
    return [f"{component}/{path.name}" for path in (*weights, *others)]


def _is_variant(path: Path) -> bool:
    return any(suffix.startswith(".fp16") for suffix in path.suffixes)


def check_safetensors(path: Path) -> None:
    """Raise DataError unless the file has the header of its format and all the bytes that the header tells of."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        header_bytes = int.from_bytes(start, "little")
        if start == b"version ":
            raise DataError(f"{path} is only a pointer to the weights; run `git lfs pull` in its folder")
        try:
            header = json.loads(file.read(header_bytes)) if header_bytes < size_bytes else {}
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError):
            ends = []
    if not ends or size_bytes != 8 + header_bytes + max(ends):
        raise DataError(f"{path} is not a whole safetensors file ({size_bytes} bytes); fetch it again")


def _write_model_index(folder: Path, staged: Path) -> None:
    """The pipeline's index without the parts that are not staged, so that diffusers loads the copy as it is."""
    try:
        index: dict[str, Any] = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{folder / 'model_index.json'} is not JSON: {error}") from error
    kind = index.get("_class_name") if isinstance(index, dict) else None
    if kind != "StableDiffusionPipeline":
        raise DataError(
            f"{folder / 'model_index.json'} describes {kind}; only a StableDiffusionPipeline can be adapted"
        )
    for name, value in index.items():
        if isinstance(value, list) and name not in COMPONENTS:
            if name not in LEFT_OUT and value != [None, None]:
                raise DataError(f"{folder} has a part {name!r}, which Stable Diffusion 1 and 2 do not have")
            index[name] = [None, None]
    index["requires_safety_checker"] = False
    (staged / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
