"""What a checkpoint tells servers and other programs: how it is sampled, and how a prompt is put behind the control token."""

from collections.abc import Mapping
from typing import Any

from phf.tokens.tokenizer import DOCUMENT_START

_TEMPLATE = """\
{{%- set prefix = control | default('{control}') -%}}
{{{{- '{start}' + prefix -}}}}
{{%- for message in messages -%}}{{{{- {content} -}}}}{{%- endfor -%}}"""


def sampling_settings(tokenizer: Any, about: Mapping[str, Any]) -> dict[str, Any]:
    """Give the fields of generation_config.json under which a server samples as phf does by default.

    Args:
        tokenizer: with the control tokens.
        about: what phf.json holds: `control_tokens`, `segmenter`.

    Returns:
        Sampling, where the default would be greedy decoding; and no control token where segments are sentences, none but the
        model's own where they are lines (see `ban` in `phf.lm.Sampling`).
    """
    controls = list(about.get("control_tokens", ()))
    banned = controls[1:] if about.get("segmenter") == "lines" else controls
    settings: dict[str, Any] = {"do_sample": True, "top_k": 0}
    return settings | ({"suppress_tokens": tokenizer.convert_tokens_to_ids(banned)} if banned else {})


def chat_template(tokenizer: Any, about: Mapping[str, Any]) -> str:
    """Give the template that makes a document's beginning of messages: its start, the control token, the texts one after another.

    The control token is the model's own unless the template is given another as `control`. Where segments are lines it stands
    in front of each. A tokenizer that comes with a template keeps it.
    """
    if getattr(tokenizer, "chat_template", None):
        return str(tokenizer.chat_template)
    controls = [*about.get("control_tokens", ()), ""]
    lines = about.get("segmenter") == "lines"
    content = "message['content'].replace('\\n', '\\n' + prefix)" if lines else "message['content']"
    start = DOCUMENT_START if DOCUMENT_START in tokenizer.get_vocab() else tokenizer.eos_token
    return _TEMPLATE.format(control=controls[0], start=start, content=content)
