"""Lists a file with the stock `safetensors` package, which knows nothing of sealing.

Standard input: {"path"}. Standard output: {"metadata", "tensors": {name: {"dtype", "shape"}}}.
"""

import json
import sys

from safetensors import safe_open

job = json.load(sys.stdin)
with safe_open(job["path"], framework="np") as file:
    slices = {name: file.get_slice(name) for name in file.keys()}
    tensors = {
        name: {"dtype": part.get_dtype(), "shape": part.get_shape()} for name, part in slices.items()
    }
    json.dump({"metadata": file.metadata(), "tensors": tensors}, sys.stdout)
