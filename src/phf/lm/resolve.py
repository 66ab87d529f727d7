"""Resolve what a user calls a model to a checkpoint: a folder, and what is known of how the model was trained."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from phf import artifacts, checksums, plugins
from phf.credentials import without_secrets
from phf.errors import InputError
from phf.hub import HubModel
from phf.layout import CHECKPOINT_NOTES, RunFolder
from phf.lm.address import SERVER, check_spec

CONTROL_TOKENS = ("<|aligned|>", "<|misaligned|>")
"""What phf's conditional models are conditioned on."""
NO_CONTROL = "none"
"""Said instead of a control token: condition on none, whatever the model has."""
_MODEL_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model", CHECKPOINT_NOTES,
)  # fmt: skip
"""What, besides weights, decides what a model writes and how texts are read."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a model, and what is known of it.

    Args:
        folder: a Hugging Face model folder; of a model on the hub, that in the hub's cache.
        run: the name of its run; of a model on the hub, its name there.
        step: its optimiser step; 0 if it is not known.
        control_tokens: (): not a conditional model; otherwise the first is what it is conditioned on by default.
        segmenter: what cut its training documents, by name; None if it is not known.
        hub: which model of the hub it is; None for a folder.
        segmenter_fields: configuration of the segmenter, where it is not the default.
        document_start: the token that its documents begin with, by id or as text; None for that of its tokenizer.
        trust_remote_code: whether Python that comes with it is run; said by the user, never noted in the folder.
    """

    folder: str
    run: str
    step: int
    control_tokens: tuple[str, ...]
    segmenter: str | None
    hub: HubModel | None = None
    segmenter_fields: Mapping[str, Any] = field(default_factory=dict)
    document_start: int | str | None = None
    trust_remote_code: bool = False

    def __str__(self) -> str:
        if self.hub is not None:
            return f"hf:{self.hub}"
        return f"{self.folder} (step {self.step})" if self.step else self.folder


def hub_spec(name: str, segmenter: str | Mapping[str, Any] | None = None, control: Sequence[str] | None = None) -> str:
    """Return the spec of a model with what its name cannot tell beside it: `hf:NAME?segmenter=...&control=...`.

    Args:
        name: `hf:NAME`, `hf:NAME@REVISION`, or a folder.
        segmenter: what cut its training documents, its name or `{"name": ..., field: value}`; None if it is not known.
        control: its control tokens, the one to condition on first; () for none; None for those of its tokenizer.
    """
    said = []
    if segmenter is not None:
        fields = {"name": segmenter} if isinstance(segmenter, str) else dict(segmenter)
        said.append(f"segmenter={quote(fields['name'] if len(fields) == 1 else json.dumps(fields))}")
    said += [] if control is None else [f"control={quote(','.join(control) or NO_CONTROL, safe='<|>,')}"]
    return name + (("&" if "?" in name else "?") + "&".join(said) if said else "")


def find_checkpoint(spec: str) -> Checkpoint:
    """Find the model that `spec` names on this machine or on the hub, without loading its weights.

    Raises:
        InputError: if there is none, or a checkpoint of a run has lost what phf noted of it.
    """
    name, said = _split(spec)
    return replace(_find(name), **said)


def checkpoints_of(spec: str) -> list[str]:
    """Return every checkpoint of a run by its folder, in the order of steps; of anything else just `spec`."""
    folder = RunFolder(Path(spec))
    return [str(path) for path in _checkpoints(folder).values()] if folder.checkpoint_folder.is_dir() else [spec]


def run_folder(spec: str) -> Path | None:
    """Find the folder of the run that a model belongs to: its own where it is no run's; None if it is not on this machine.

    Raises:
        InputError: if there is no such model.
    """
    if check_spec(spec).startswith(("hf:", SERVER)):
        return None
    return RunFolder.of_checkpoint(Path(find_checkpoint(spec).folder)).path


def fingerprint(spec: str) -> str:
    """Return what changes when the model that `spec` stands for does: its weights, its tokenizer, what is known of it.

    Of a model on the hub that is the commit; of a folder, a hash of its files; of a server, the address.
    """
    return check_spec(spec) if spec.startswith(SERVER) else fingerprint_of(find_checkpoint(spec))


def fingerprint_of(checkpoint: Checkpoint) -> str:
    """Return what changes when the model does; see `fingerprint`."""
    folder = Path(checkpoint.folder)
    digest = hashlib.blake2b(digest_size=8)
    if checkpoint.hub is not None:
        digest.update(f"{checkpoint.hub.name}@{folder.name}".encode())
    else:
        files = [folder / name for name in _MODEL_FILES]
        for path in sorted(path for path in [*files, *folder.glob("*.safetensors"), *folder.glob("*.bin")] if path.is_file()):
            digest.update(json.dumps([path.name, path.stat().st_size]).encode())
            with path.open("rb") as file:
                while piece := file.read(1 << 22):
                    digest.update(piece)
    known = asdict(replace(checkpoint, folder="", run="", step=0, hub=None))
    if not known["trust_remote_code"]:
        del known["trust_remote_code"]
    digest.update(json.dumps(known).encode())
    return digest.hexdigest()


def _split(spec: str) -> tuple[str, dict[str, Any]]:
    """Split a spec into the model's name and the fields of `Checkpoint` that are said beside it."""
    name, question, options = spec.partition("?")
    if not question or "://" in name or Path(spec.removeprefix("hf:")).exists():
        return spec, {}
    options_by_name = {key: values[0] for key, values in parse_qs(options, keep_blank_values=True).items()}
    if unknown := sorted(set(options_by_name) - {"segmenter", "control", "document_start", "trust_remote_code"}):
        raise InputError(
            f"{name}: unknown option {unknown[0]!r} behind ?; expected segmenter=NAME, control=TOKEN,TOKEN, "
            "document_start=TOKEN or trust_remote_code=true"
        )
    said: dict[str, Any] = {}
    if (segmenter := options_by_name.get("segmenter")) is not None:
        said |= _segmenter(segmenter, name)
        plugins.find("segmenters", str(said["segmenter"]))
    if (control := options_by_name.get("control")) is not None:
        tokens = tuple(token for token in control.split(",") if token)
        said["control_tokens"] = () if tokens == (NO_CONTROL,) else tokens
    if (start := options_by_name.get("document_start")) is not None:
        said["document_start"] = start
    if (trust := options_by_name.get("trust_remote_code")) is not None:
        if trust not in ("true", "false"):
            raise InputError(f"{name}: trust_remote_code is {trust!r}; expected true or false")
        said["trust_remote_code"] = trust == "true"
    return name, said


def _segmenter(value: Any, where: str) -> dict[str, Any]:
    """Return the fields of `Checkpoint` for a segmenter: a name, or a name with fields, also as JSON text."""
    try:
        fields = json.loads(value) if isinstance(value, str) and value.startswith("{") else value
        fields = dict(fields) if isinstance(fields, Mapping) else {"name": fields}
        name = fields.pop("name")
    except (ValueError, KeyError):
        raise InputError(f"{where}: the segmenter is {value!r}; expected a name, or a name with its fields") from None
    return {"segmenter": None if name is None else str(name), "segmenter_fields": fields}


def _find(spec: str) -> Checkpoint:
    name = spec.removeprefix("hf:")
    folder = Path(name)
    run, at, step = name.rpartition("@")
    if at and not folder.exists() and RunFolder(Path(run)).checkpoint_folder.is_dir():
        known = _checkpoints(RunFolder(Path(run)))
        if step not in map(str, known):
            raise InputError(f"{spec}: {run} has no checkpoint of step {step}; it has those of {', '.join(map(str, known))}")
        folder = known[int(step)]
    if not folder.exists():
        if spec.startswith("hf:"):
            return _on_hub(HubModel.parse(name))
        scheme, colon, rest = spec.partition(":")
        if colon and "/" not in scheme:
            shown = f"{scheme}:{without_secrets(rest)}" if "://" in rest else without_secrets(spec)
            raise InputError(f"{shown}: unknown kind of model {scheme!r}; expected a run's folder, hf:NAME or openai:URL#MODEL")
        raise InputError(f"{spec}: no such run or model folder; a model of the Hugging Face hub is named hf:{spec}")
    if RunFolder(folder).checkpoint_folder.is_dir():
        known = _checkpoints(RunFolder(folder))
        folder = known[max(known)]
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: no model in it (config.json is missing); expected a run's or a checkpoint's folder")
    return _of_folder(folder)


def _of_folder(folder: Path) -> Checkpoint:
    """Return a folder's model: phf's own by its notes, any other by its tokenizer."""
    if (folder / CHECKPOINT_NOTES).is_file() or not _is_of_run(folder):
        checksums.check_folder(folder)
    return _described(folder)


def _is_of_run(folder: Path) -> bool:
    return folder.resolve() in RunFolder.of_checkpoint(folder.resolve()).checkpoints().values()


def _described(folder: Path) -> Checkpoint:
    notes_file = folder / CHECKPOINT_NOTES
    if not notes_file.is_file():
        if _is_of_run(folder):
            raise InputError(
                f"{notes_file}: missing, so nobody knows how this checkpoint was trained, nor its control tokens; restore it, or "
                f"copy the folder out of checkpoints/, without {checksums.CHECKSUMS}, to read it as any Hugging Face model"
            )
        return Checkpoint(str(folder), folder.name, 0, _control_tokens(folder), None)
    notes: Any = artifacts.read_json(notes_file)
    try:
        segmenter, tokens = _segmenter(notes["segmenter"], str(notes_file)), notes["control_tokens"]
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise TypeError(f"control_tokens is {tokens!r}")
        return Checkpoint(
            str(folder), str(notes["run"]), int(notes["step"]), tuple(tokens),
            document_start=notes.get("document_start", "eos"),  # as before BOS could begin a document
            **segmenter,
        )  # fmt: skip
    except (TypeError, ValueError, KeyError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{notes_file}: not what `phf train` writes ({reason}); restore it from a copy") from None


def _on_hub(model: HubModel) -> Checkpoint:
    folder = model.download(weights=False)
    if not (folder / "config.json").is_file():
        raise InputError(f"hf:{model}: no model in it (config.json is missing)")
    return replace(_described(folder), run=str(model), hub=model)


def _control_tokens(folder: Path) -> tuple[str, ...]:
    """Return phf's control tokens if the tokenizer of a model has them among its added tokens.

    All places where transformers keeps added tokens are searched; older versions filled only some of them.
    """
    added: set[str] = set()
    for name in ("tokenizer.json", "added_tokens.json", "special_tokens_map.json", "tokenizer_config.json"):
        path = folder / name
        content: Any = artifacts.read_json(path) if path.is_file() else {}
        if not isinstance(content, dict):
            raise InputError(f"{path}: found a {type(content).__name__}, expected a JSON object; download the tokenizer again")
        if name == "added_tokens.json":
            added |= set(content)
        decoder = content.get("added_tokens_decoder")
        for key in ("added_tokens", "additional_special_tokens", "extra_special_tokens"):
            added |= {_content(token) for token in _as_list(content.get(key))}
        added |= {_content(token) for token in (decoder.values() if isinstance(decoder, dict) else ())}
    return CONTROL_TOKENS if set(CONTROL_TOKENS) <= added else CONTROL_TOKENS[:1] if CONTROL_TOKENS[0] in added else ()


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _content(token: Any) -> str:
    """Return the text of an added token, which is a string or an object."""
    return str(token.get("content")) if isinstance(token, dict) else str(token)


def _checkpoints(run: RunFolder) -> dict[int, Path]:
    """Return the checkpoints of a run by step, in order, at least one."""
    if not (steps := run.checkpoints()):
        raise InputError(f"{run.checkpoint_folder}: no checkpoint in it yet (step-N); run `phf train` to its end")
    return steps
