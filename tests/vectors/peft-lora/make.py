"""Makes the vectors of this folder with PEFT itself. Needs torch, peft, transformers and safetensors.

usage: make.py OUT

Per case: a base model, an adapter as `save_pretrained` writes it, and the weights after PEFT's own
`merge_and_unload`.
"""
import json
import shutil
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import nn

WIDTH = 6
TWO = {"id2label": {"0": "no", "1": "yes"}}
HEADS = {
    "heads": [
        {"name": "topic", "id2label": {"0": "a", "1": "b", "2": "c"}},
        {"name": "mood", "id2label": {"0": "d", "1": "e"}},
    ]
}


class Network(nn.Module):
    def __init__(self, **output):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, WIDTH)])
        for name, layer in output.items():
            setattr(self, name, layer)


def linear():
    return Network(classifier=nn.Linear(WIDTH, 2))


def convolution():
    return Network(classifier=nn.Conv2d(WIDTH, 2, 1))


def heads():
    return Network(heads=nn.ModuleDict({"topic": nn.Linear(WIDTH, 3), "mood": nn.Linear(WIDTH, 2)}))


CASES = {
    "linear": (linear, TWO, {"r": 2, "lora_alpha": 8, "target_modules": ["classifier"]}),
    "rslora": (linear, TWO, {"r": 3, "lora_alpha": 5, "target_modules": ["classifier"], "use_rslora": True}),
    "convolution": (convolution, TWO, {"r": 2, "lora_alpha": 4, "target_modules": ["classifier"]}),
    "heads": (
        heads,
        HEADS,
        {"r": 2, "lora_alpha": 6, "target_modules": ["heads.topic"], "modules_to_save": ["mood"]},
    ),
    # Refused by Sealift: the adapter changes an inner layer too.
    "inner": (linear, TWO, {"r": 2, "lora_alpha": 8, "target_modules": ["layers.0", "classifier"]}),
}


def main(out):
    for seed, (name, (network, config, lora)) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        make(out / name, network(), config, LoraConfig(**lora))


def make(folder, base, config, lora):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    layers = {"model_type": "mlp", "hidden_act": "relu", "layer_sizes": [4, WIDTH, 5 if "heads" in config else 2]}
    (folder / "config.json").write_text(json.dumps(layers | config) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in base.state_dict().items()}, folder / "model.safetensors")
    adapted = get_peft_model(base, lora)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            # As after training: B starts as zeros, and a saved module as the base's.
            if "lora_" in name or "modules_to_save" in name:
                parameter.normal_(std=0.5)
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    merged = adapted.merge_and_unload().state_dict()
    save_file({name: tensor.contiguous() for name, tensor in merged.items()}, folder / "merged.safetensors")


main(Path(sys.argv[1]))
