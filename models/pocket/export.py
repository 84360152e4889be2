"""Between the network of "pocket" and its files: writes GGUF, reads GGUF and checkpoints back."""

from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer

from .dialogues import CHAT_TEMPLATE
from .network import PocketConfig, PocketNetwork
from .tokens import CONTROL_TOKENS, TAG_TOKENS, build_tokenizer, vocabulary

_FILE_TYPES = {"f32": gguf.LlamaFileType.ALL_F32, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
_DESCRIPTION = (
    "A tiny demo model that adds two numbers, follows a chain modulo 11 and a ball under cups, "
    "with its steps written as a thought: enough to check an installation offline, no more."
)


def write_gguf(
    path: Path, network: PocketNetwork, tokenizer: Tokenizer, dtype: str, name: str = "pocket"
) -> None:
    """Write the model as GGUF; with "q8_0" the matrices are quantized and the norms stay float32."""
    writer = gguf.GGUFWriter(path, "qwen3")
    _write_model(writer, network.config, name)
    writer.add_file_type(_FILE_TYPES[dtype])
    _write_tokenizer(writer, tokenizer)
    kind = gguf.GGMLQuantizationType.Q8_0 if dtype == "q8_0" else gguf.GGMLQuantizationType.F32
    for key, weight in network.named_parameters():
        data = weight.detach().float().cpu().numpy()
        full_name = key if key.endswith(".weight") else key + ".weight"
        if full_name == "token_embd.weight" or data.ndim == 2:
            writer.add_tensor(full_name, gguf.quants.quantize(data, kind), raw_dtype=kind)
        else:
            writer.add_tensor(full_name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def load_model(path: Path, device: str = "cpu") -> tuple[PocketNetwork, Tokenizer]:
    """Read a GGUF of ours or a training checkpoint."""
    if path.suffix == ".gguf":
        return _read_gguf(path, device)
    content = torch.load(path, map_location=device, weights_only=True)
    network = PocketNetwork(PocketConfig(**content["config"])).to(device)
    network.load_state_dict(content["network"])
    return network, build_tokenizer(content["merges"])


def _write_model(writer: gguf.GGUFWriter, config: PocketConfig, name: str) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_basename("pocket")
    writer.add_description(_DESCRIPTION)
    writer.add_license("MIT")
    writer.add_size_label("2M")
    writer.add_block_count(config.num_layers)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_float32("general.sampling.temp", 0.6)
    writer.add_int32("general.sampling.top_k", 20)
    writer.add_float32("general.sampling.top_p", 0.95)


def _write_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    tokens, merges = vocabulary(tokenizer)
    kinds = dict.fromkeys(CONTROL_TOKENS, gguf.TokenType.CONTROL)
    kinds |= dict.fromkeys(TAG_TOKENS, gguf.TokenType.USER_DEFINED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([kinds.get(token, gguf.TokenType.NORMAL) for token in tokens])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_pad_token_id(tokens.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _read_gguf(path: Path, device: str) -> tuple[PocketNetwork, Tokenizer]:
    reader = gguf.GGUFReader(path)

    def number(key: str) -> int:
        return int(reader.fields[f"qwen3.{key}"].contents())

    merges = list(reader.fields["tokenizer.ggml.merges"].contents())
    config = PocketConfig(
        vocab_size=len(reader.fields["tokenizer.ggml.tokens"].data),
        hidden_size=number("embedding_length"),
        intermediate_size=number("feed_forward_length"),
        num_layers=number("block_count"),
        num_heads=number("attention.head_count"),
        num_kv_heads=number("attention.head_count_kv"),
        head_dim=number("attention.key_length"),
        context_length=number("context_length"),
        rope_theta=float(reader.fields["qwen3.rope.freq_base"].contents()),
        norm_eps=float(reader.fields["qwen3.attention.layer_norm_rms_epsilon"].contents()),
    )
    network = PocketNetwork(config)
    weights = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    for name, weight in network.named_parameters():
        full_name = name if name.endswith(".weight") else name + ".weight"
        weight.data = torch.from_numpy(np.array(weights[full_name], dtype=np.float32)).reshape(weight.shape)
    return network.to(device), build_tokenizer(merges)
