"""The shipped experiment's model, transformers' Whisper of the same size, and the names of openai/whisper."""

import re
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from transformers import WhisperConfig, WhisperForConditionalGeneration

from tasks.asr.model import ASR
from tasks.asr.module import ASRModule
from tasks.build import TaskParser, add_model_arguments

CONFIG = Path(__file__).parents[3] / "configs/asr/whisper_tiny.yaml"
VOCAB, SPECIAL = 400, 8
PROMPT = [VOCAB + 1, VOCAB + 5]

_OPENAI = {
    r"^model\.": "",
    r"\.layers\.": ".blocks.",
    r"embed_tokens": "token_embedding",
    r"embed_positions\.weight": "positional_embedding",
    r"self_attn_layer_norm": "attn_ln",
    r"encoder_attn_layer_norm": "cross_attn_ln",
    r"final_layer_norm": "mlp_ln",
    r"self_attn": "attn",
    r"encoder_attn": "cross_attn",
    r"q_proj": "query",
    r"k_proj": "key",
    r"v_proj": "value",
    r"out_proj": "out",
    r"fc1": "mlp.0",
    r"fc2": "mlp.2",
    r"^encoder\.layer_norm": "encoder.ln_post",
    r"^decoder\.layer_norm": "decoder.ln",
}


def openai_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As openai/whisper names the weights of transformers' Whisper; it keeps no output head."""
    renamed = {}
    for name, weight in state.items():
        for theirs, openai in _OPENAI.items():
            name = re.sub(theirs, openai, name)
        renamed[name] = weight
    return {name: weight for name, weight in renamed.items() if name != "proj_out.weight"}


def reference(width: int = 384, layers: int = 4, heads: int = 6, **arguments: Any) -> WhisperForConditionalGeneration:
    """Random weights, also where training would begin with zeros and ones; what is said depends on the place."""
    torch.manual_seed(0)
    size = {f"{stack}_{part}": value for stack in ("encoder", "decoder")
            for part, value in {"layers": layers, "attention_heads": heads, "ffn_dim": 4 * width}.items()}  # fmt: skip
    ends = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), VOCAB)
    config = WhisperConfig(**({"vocab_size": VOCAB + SPECIAL, "d_model": width} | size | ends | arguments))
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "encoder.embed_positions" not in name:  # the sinusoids
                parameter.add_((0.5 if "embed_positions" in name else 0.03) * torch.randn_like(parameter))
    return model


def whisper(changes: dict[str, Any] | None = None, **arguments: Any) -> ASR:
    """The model of configs/asr/whisper_tiny.yaml with a small vocabulary; `changes` by dotted names."""
    config = yaml.safe_load(CONFIG.read_text())["model"]
    parser = TaskParser()
    add_model_arguments(parser, ASRModule)
    given = {"vocab_size": VOCAB, "sample_rate": 16_000, "tokens.num_special": SPECIAL, "tokens.prompt": PROMPT}
    for name, value in (given | (changes or {})).items():
        *path, last = name.split(".")
        inside = config
        for part in path:
            inside = inside[part]["init_args"]
        inside[last] = value
    torch.manual_seed(1)
    return parser.instantiate_classes(parser.parse_object({"model": config | arguments})).model.eval()
