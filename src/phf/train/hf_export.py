"""Settings of a checkpoint for servers and other programs: sampling defaults, and a template that adds the control token."""

from collections.abc import Mapping
from typing import Any

from phf.tokens import document_start

_TEMPLATE = """\
{{%- set prefix = control | default('{control}') -%}}
{{{{- '{start}' + prefix -}}}}
{{%- for message in messages -%}}{{{{- {content} -}}}}{{%- endfor -%}}"""


def sampling_settings(tokenizer: Any, notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of generation_config.json with which a server samples as phf does by default.

    Args:
        tokenizer: with the control tokens.
        notes: of phf.json: `control_tokens`, `segmenter`, `document_start`.

    Returns:
        Sampling, where the default would be greedy decoding; and no control token where segments are sentences, none but the
        model's own where they are lines (see `ban` in `phf.lm.Sampling`).
    """
    controls = list(notes.get("control_tokens", ()))
    banned = controls[1:] if _segments_are_lines(notes) else controls
    settings: dict[str, Any] = {"do_sample": True, "top_k": 0}
    start = notes.get("document_start", document_start(tokenizer))
    if tokenizer.eos_token_id not in (None, start):  # in training a document ends where the next one begins
        settings["eos_token_id"] = [tokenizer.eos_token_id, start]
    return settings | ({"suppress_tokens": tokenizer.convert_tokens_to_ids(banned)} if banned else {})


def chat_template(tokenizer: Any, notes: Mapping[str, Any]) -> str:
    """Return the chat template: the document start, the control token, and the texts of the messages one after another.

    The control token is the model's own unless the template is called with another one as `control`. Where segments are lines
    it comes before each line. A tokenizer that has a template keeps it.
    """
    if getattr(tokenizer, "chat_template", None):
        return str(tokenizer.chat_template)
    controls = [*notes.get("control_tokens", ()), ""]
    lines = _segments_are_lines(notes)
    content = "message['content'].replace('\\n', '\\n' + prefix)" if lines else "message['content']"
    start = tokenizer.convert_ids_to_tokens(notes.get("document_start", document_start(tokenizer)))
    quoted = str(start).replace("\\", "\\\\").replace("'", "\\'")
    return _TEMPLATE.format(control=controls[0], start=quoted, content=content)


def _segments_are_lines(notes: Mapping[str, Any]) -> bool:
    """Return whether training put control tokens in front of lines; phf.json names the segmenter, or holds its fields too."""
    segmenter = notes.get("segmenter")
    return (segmenter.get("name") if isinstance(segmenter, Mapping) else segmenter) == "lines"
