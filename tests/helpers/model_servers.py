"""Servers of other projects, as processes for the length of a test, and a model that is trained on the spot."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch


@contextmanager
def model_server(command: Sequence[str], port: int, log: Path, alive: str = "v1/models") -> Iterator[str]:
    """The address of its API, once it answers at `alive`."""
    place = f"http://127.0.0.1:{port}"
    with log.open("w") as into:
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(command, stdout=into, stderr=into, env=environment)
    try:
        until = time.monotonic() + 200
        while True:
            try:
                urllib.request.urlopen(f"{place}/{alive}", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.2)
        yield f"{place}/v1"
    finally:
        process.terminate()
        process.wait(30)


def trained_llama(folder: Path, answers: dict[str, str]) -> None:
    """A LLaMA of two layers that answers these questions by heart, as a checkpoint folder with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = Tokenizer(models.BPE({sign: number for number, sign in enumerate(alphabet)}, []))
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<end>", pad_token="<end>")
    tokenizer.add_tokens(["Yes", "No"])
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}="
    end = tokenizer.eos_token_id
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=512, bos_token_id=None, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    rows = [tokenizer(f"{question}={answer}<end>")["input_ids"] for question, answer in answers.items()]
    longest = max(map(len, rows))
    tokens = torch.tensor([[end] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    labels = tokens.clone()
    labels[:, :-2] = -100
    for _ in range(300):
        loss = model(input_ids=tokens, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.01:
            break
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
