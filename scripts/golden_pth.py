#!/usr/bin/env python3
"""Small torch.save files for tests/test_pth.c: python3 scripts/golden_pth.py --out tests/golden/pth

With --corpus tests/fuzz/corpus/pickle the indexes go there too, as seeds of fuzz_pickle.

Good: gates of type `rg` for 2 layers, dim 8, 2 KV heads, 5 hidden units, per dtype, each with the same tensors as
.safetensors; as a module's state dict (an OrderedDict with attributes); in pickle protocol 4; as views of one storage;
as the parameters themselves, not detached.
Bad: one defect each, named by the file.  The evil ones would create the file EVIL_PTH_RAN if anything executed them;
for `inst` pickle has no writer, so its index is spelled out.

Inside a .pth, <folder>/data.pkl is replaced by rewriting the archive, as the index of a hostile file would be.
"""
import argparse
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file

N_LAYERS, DIM, N_KV, HIDDEN = 2, 8, 2, 5
COMMAND = "touch EVIL_PTH_RAN"


def gates(dtype):
    g = torch.Generator().manual_seed(11)
    out = {}
    for layer in range(N_LAYERS):
        prefix = f"model.layers.{layer}.self_attn.retention_gate."
        for leaf, shape in (("linear1.weight", (HIDDEN, DIM)), ("linear1.bias", (HIDDEN,)),
                            ("linear2.weight", (N_KV, HIDDEN)), ("bias", (N_KV,))):
            out[prefix + leaf] = torch.randn(shape, generator=g).to(dtype)
    return out


def rewrite(path, to, index=None, drop=(), replace=None, compress=False):
    """A copy of an archive with another index, without some entries, with other contents or compressed."""
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w", method) as new:
        for info in old.infolist():
            leaf = info.filename.split("/", 1)[1]
            data = index if index is not None and leaf == "data.pkl" else (replace or {}).get(leaf, old.read(info))
            if leaf not in drop:
                new.writestr(zipfile.ZipInfo(info.filename), data, method)


class Call:
    def __reduce__(self):
        return os.system, (COMMAND,)


def evil_inst():
    return b"\x80\x02(X" + len(COMMAND).to_bytes(4, "little") + COMMAND.encode() + b"iposix\nsystem\n."


def read_index(path):
    with zipfile.ZipFile(path) as z:
        return z.read(next(n for n in z.namelist() if n.endswith("/data.pkl")))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpus", type=Path)
    args = parser.parse_args()
    out = args.out
    out.mkdir(parents=True, exist_ok=True)
    for name, dtype in (("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)):
        torch.save(gates(dtype), out / f"gates_{name}.pth")
        save_file(gates(dtype), out / f"gates_{name}.safetensors")

    half = gates(torch.float16)
    state = OrderedDict(half)
    state._metadata = OrderedDict([("", {"version": 1})])
    torch.save(state, out / "state_dict.pth")
    torch.save(half, out / "protocol_4.pth", pickle_protocol=4)
    flat, views, at = torch.cat([t.flatten() for t in half.values()]), {}, 0
    for name, t in half.items():
        views[name] = flat[at:at + t.numel()].view(t.shape)
        at += t.numel()
    torch.save(views, out / "views.pth")
    torch.save({name: torch.nn.Parameter(t) for name, t in half.items()}, out / "parameters.pth")

    first = next(iter(half))
    torch.save({**half, first: half[first][:, :DIM - 1].contiguous()}, out / "bad_shape.pth")
    torch.save({**half, first: torch.zeros(DIM, HIDDEN, dtype=torch.float16).T}, out / "bad_strides.pth")
    torch.save({**half, first: half[first].long()}, out / "bad_dtype.pth")
    torch.save({**half, first: half[first].tolist()}, out / "bad_list.pth")
    good = out / "gates_f16.pth"
    rewrite(good, out / "bad_compressed.pth", compress=True)
    rewrite(good, out / "bad_missing.pth", drop=("data/3",))
    rewrite(good, out / "bad_short.pth", replace={"data/0": b"\0" * 78})
    rewrite(good, out / "bad_byteorder.pth", replace={"byteorder": b"big"})
    rewrite(good, out / "bad_no_index.pth", drop=("data.pkl",))
    rewrite(good, out / "evil_global.pth", pickle.dumps({first: Call()}, 2))
    rewrite(good, out / "evil_stack_global.pth", pickle.dumps({first: Call()}, 4))
    rewrite(good, out / "evil_inst.pth", evil_inst())

    if args.corpus:
        args.corpus.mkdir(parents=True, exist_ok=True)
        for name in ("gates_f16", "state_dict", "protocol_4", "views", "parameters", "bad_list", "evil_global", "evil_stack_global",
                     "evil_inst"):
            (args.corpus / name).write_bytes(read_index(out / f"{name}.pth"))

    # Each evil file does run its command when pickle is let loose on it.
    os.chdir(out)
    for name in ("global", "stack_global", "inst"):
        pickle.loads(read_index(f"evil_{name}.pth"))
        os.remove("EVIL_PTH_RAN")


if __name__ == "__main__":
    main()
