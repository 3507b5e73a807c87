"""Hostile and broken .pkl files, and a process of its own that reads them all under supervision.

    python -m tests.ganfoundry.gan.attacks FOLDER

reads every file of a folder and prints one JSON line for each: how it ended, CPU seconds, peak memory so far in MB.
"""

import contextlib
import gzip
import io
import json
import pickle  # noqa: TID251
import resource
import struct
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tests.ganfoundry.gan.picklehelp import EasyDict, Persistent, dumps, file_of, module_state

MAGIC = 0x1950A86A20F9469CFC6C
SPARE_MEMORY = 1 << 30  # address space that the reader may take, against freezing the machine


class Call:
    """Pickles into a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.reduced = (function, args)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.reduced


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def storage_bytes(values: torch.Tensor) -> bytes:
    """What torch.storage._load_from_bytes gets."""
    _, arguments = torch.storage.TypedStorage.__reduce__(
        torch.storage.TypedStorage(wrap_storage=values.untyped_storage(), dtype=values.dtype, _internal=True)
    )
    content: bytes = arguments[0]
    return content


def binary(content: bytes) -> bytes:
    return b"\x8e" + struct.pack("<Q", len(content)) + content


def tensor(storage: bytes, offset: bytes, size: bytes, stride: bytes) -> bytes:
    """Opcodes of a tensor with any header."""
    load = name("torch.storage", "_load_from_bytes") + binary(storage) + b"\x85R"
    rest = b"\x89" + name("collections", "OrderedDict") + b")R"
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + load + offset + size + stride + rest + b"tR"


def with_tensors(*tensors: bytes) -> bytes:
    """A file whose generator has these buffers."""
    entries = b"".join(text(f"t{index}") + one for index, one in enumerate(tensors))
    state = b"}(" + text("_buffers") + b"}(" + entries + b"u" + b"u"
    return module_file(state)


def module(state: bytes) -> bytes:
    meta = b"}(" + text("type") + text("class") + text("class_name") + text("Generator") + text("state") + state + b"u"
    return name("torch_utils.persistence", "_reconstruct_persistent_obj") + meta + b"\x85R"


def module_file(state: bytes) -> bytes:
    return b"\x80\x04}" + text("G_ema") + module(state) + b"s."


def integers(*values: int) -> bytes:
    return b"(" + b"".join(b"\x8a\x0a" + value.to_bytes(10, "little", signed=True) for value in values) + b"t"


def code(target: Path) -> Iterator[tuple[str, bytes]]:
    """Files that would run something."""
    import os

    command = f"touch {target}"
    statement = f"__import__('pathlib').Path({str(target)!r}).touch()"
    for protocol in range(6):
        yield f"system-{protocol}", pickle.dumps(Call(os.system, command), protocol)
        yield f"system-inside-{protocol}", dumps(file_of(Call(os.system, command)), protocol)
        yield f"eval-{protocol}", dumps({"G_ema": Call(eval, statement)}, protocol)
        yield f"kwargs-{protocol}", dumps(file_of(None, seed=Call(exec, statement)), protocol)
    argument, function = text(command), name("os", "system")
    yield "reduce", b"\x80\x02" + function + argument + b"\x85R."
    yield "stack-global", b"\x80\x04" + text("os") + text("system") + b"\x93" + argument + b"\x85R."
    yield "newobj", b"\x80\x02" + function + argument + b"\x85\x81."
    yield "newobj-ex", b"\x80\x04" + function + argument + b"\x85}\x92."
    yield "inst", b"(" + b"S'" + command.encode() + b"'\n" + b"ios\nsystem\n."
    yield "inst-unicode", b"(V" + command.encode() + b"\nios\nsystem\n."
    yield "obj", b"(" + function + argument + b"o."
    for number, extension in enumerate((b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00")):
        yield f"ext-{number}", b"\x80\x02" + extension + argument + b"\x85R."
    yield "persid", b"P" + command.encode() + b"\n."
    yield "binpersid", b"\x80\x02" + argument + b"Q."
    yield "build", b"\x80\x02" + name("os", "system") + argument + b"b."
    yield "build-on-name", b"\x80\x02" + name("collections", "OrderedDict") + b"}" + text("x") + function + b"sb."
    yield (
        "build-node",
        b"\x80\x02" + name("collections", "OrderedDict") + b")R}" + text("__class__") + function + b"sb.",
    )
    yield "reduce-of-reduce", b"\x80\x02" + name("collections", "OrderedDict") + b")R" + argument + b"\x85R."
    yield "getattr", b"\x80\x02" + name("builtins", "getattr") + name("os", "path") + text("os") + b"\x86R."
    yield "dotted", b"\x80\x04" + text("torch._utils") + text("_rebuild_parameter.__globals__") + b"\x93."
    yield "dotted-allowed", b"\x80\x04" + text("collections") + text("OrderedDict.__init__.__globals__") + b"\x93."
    yield "split-name", b"\x80\x04" + text("torch_utils") + text("persistence._reconstruct_persistent_obj") + b"\x93."
    yield "name-of-bytes", b"\x80\x04C\x02osC\x06system\x93."
    for gadget in ("numpy.testing._private.utils.runstring", "numpy.load", "numpy.f2py.capi_maps.load_f2cmap_file"):
        place, _, attribute = gadget.rpartition(".")
        yield f"gadget-{attribute}", b"\x80\x02" + name(place, attribute) + text(statement) + b"}\x86R."
    made = Persistent("Generator", {**module_state({}, {}, {}, {})}, f"{statement}\nimport os\nos.system({command!r})")
    yield "module-source", dumps(file_of(made))
    yield "module-source-of-a-part", dumps(file_of(Persistent("G", module_state({}, {}, {"a": made}, {}))))
    bomb = pickle.dumps(Call(os.system, command), 2)
    before = b"".join(pickle.dumps(value, 2) for value in (MAGIC, 1001))
    system = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, 2)
    for number, payload in enumerate((bomb, before + bomb, before + system + bomb, before + system + before + bomb)):
        yield f"storage-{number}", with_tensors(tensor(payload, b"K\x00", b")", b")"))
    stream = io.BytesIO()
    torch.save({"x": Call(os.system, command)}, stream)
    yield "storage-zip", with_tensors(tensor(stream.getvalue(), b"K\x00", b")", b")"))
    yield "torch-zip", stream.getvalue()


def views() -> Iterator[tuple[str, bytes]]:
    """Tensors whose headers lie."""
    good = storage_bytes(torch.arange(12.0))
    headers = {
        "outside": (0, (13,), (1,)),
        "offset": (12, (1,), (1,)),
        "far-stride": (0, (2,), (1 << 62,)),
        "negative-offset": (-1, (2,), (1,)),
        "negative-stride": (5, (3,), (-1,)),
        "negative-size": (0, (-3,), (1,)),
        "expanded": (0, (1000, 1000, 1000), (0, 0, 0)),
        "overlapping": (0, (3, 3), (1, 1)),
        "overflow": (0, (1 << 32, 1 << 32), (1 << 32, 1)),
        "empty-but-huge": (0, (0, 1 << 39, 1 << 39), (1, 1, 1)),
        "dimensions": (0, (1,) * 100, (1,) * 100),
        "ranks": (0, (2, 2), (1,)),
        "offset-overflow": ((1 << 63) - 1, (2,), (1,)),
    }
    for label, (offset, size, stride) in headers.items():
        yield f"view-{label}", with_tensors(tensor(good, integers(offset)[1:-1], integers(*size), integers(*stride)))
    for number, part in enumerate((b"\x88", b"N", b"}", text("1"), b"G" + struct.pack(">d", 1.0))):
        yield f"view-type-{number}", with_tensors(tensor(good, b"K\x00", b"(" + part + b"t", integers(1)))
        yield f"view-tuple-{number}", with_tensors(tensor(good, part, part, part))
    count = good.rindex(struct.pack("<q", 12))
    for number in (-1, 11, 13, 1 << 40, (1 << 63) - 1):
        wrong = good[:count] + struct.pack("<q", number) + good[count + 8 :]
        yield f"storage-count-{number}", with_tensors(tensor(wrong, b"K\x00", integers(12), integers(1)))
    yield "storage-cut", with_tensors(tensor(good[:-1], b"K\x00", integers(12), integers(1)))
    yield "storage-text", with_tensors(tensor(b"", b"K\x00", integers(12), integers(1)))


def sizes() -> Iterator[tuple[str, bytes]]:
    """Length fields and indices beyond reason."""
    for label, opcode in (("bytes", b"\x8e"), ("text", b"\x8d"), ("bytearray", b"\x96"), ("frame", b"\x95")):
        for exponent in (31, 40, 62, 63):
            yield f"{label}-{exponent}", b"\x80\x05" + opcode + struct.pack("<Q", 1 << exponent) + b"abc."
    for label, opcode in (("bytes4", b"B"), ("text4", b"X"), ("long4", b"\x8b"), ("string4", b"T")):
        yield f"{label}", b"\x80\x04" + opcode + b"\xff\xff\xff\x7fabc."
    yield "memo-1e8", b"\x80\x04Nr" + struct.pack("<I", 10**8) + b"."
    yield "memo-4e9", b"\x80\x04Nr" + struct.pack("<I", (1 << 32) - 1) + b"."
    yield "memo-line", b"Np" + b"9" * 30 + b"\n."
    yield "memo-negative", b"Np-1\n."
    yield "memo-collisions", b"N" + b"".join(b"p%d\n" % (k * ((1 << 61) - 1)) for k in range(1, 60_000)) + b"."
    yield "digits", b"I" + b"9" * 10**6 + b"\n."
    yield "long-digits", b"L" + b"9" * 10**6 + b"L\n."
    yield "no-newline", b"V" + b"a" * 10**6
    yield "many-lines", b"V\n0" * 140_000 + b"N."
    yield "wide-text", b"\x80\x04" + text("\U0001f600" + "a" * 2_000_000) + b"."


def structures() -> Iterator[tuple[str, bytes]]:
    """Objects that are deep, cyclic, or larger than they look."""
    deep = 2_000_000
    yield "deep-tuples", b"\x80\x02N" + b"\x85" * deep + b"."
    yield "deep-tuples-within", b"\x80\x02N" + b"\x85" * 290_000 + b"."
    yield "deep-tuple-as-key", b"\x80\x02}N" + b"\x85" * 290_000 + b"Ns."
    yield "deep-lists", b"\x80\x02" + b"]" * 140_000 + b"a" * 139_999 + b"."
    yield "deep-calls", b"\x80\x02" + name("collections", "OrderedDict") * 99_000 + b")" + b"R\x85" * 98_999 + b"R."
    yield "marks", b"(" * 290_000 + b"."
    yield "empty-dicts", b"\x80\x02(" + b"}" * 290_000 + b"l."
    yield "empty-sets", b"\x80\x04(" + b"\x8f" * 290_000 + b"l."
    yield "one-entry-dicts", b"\x80\x04(" + b"}K\x01K\x01s" * 70_000 + b"l."
    yield "memo-entries", b"\x80\x04N" + b"\x94" * 290_000 + b"."
    names = b"".join(name("a", f"n{index}") for index in range(200_000))
    yield "names", b"\x80\x02(" + names + b"l."
    yield "underflow", b"\x80\x02R."
    yield "no-value", b"\x80\x02."
    yield "mark-underflow", b"\x80\x02t."
    collisions = b"".join(b"\x8a\x08" + (k * ((1 << 61) - 1)).to_bytes(8, "little") + b"N" for k in range(1, 4))
    yield "colliding-keys", b"\x80\x02}(" + collisions + b"u."
    yield "self-list", b"\x80\x02]q\x00h\x00a."
    yield "self-dict", b"\x80\x02}q\x00" + text("G_ema") + b"h\x00s."
    yield from module_structures()


def module_structures() -> Iterator[tuple[str, bytes]]:
    cycle = module_state({}, {}, {}, {})
    made = Persistent("Generator", cycle)
    cycle["_modules"] = {"child": made}
    looped = b"}q\x07(" + text("_modules") + b"}" + text("child") + module(b"h\x07") + b"su"
    yield "cyclic-module", module_file(looped)
    layer = Persistent("Layer", module_state({}, {"b": torch.zeros(1)}, {}, {}))
    for depth in range(35):
        layer = Persistent("Layer", module_state({}, {}, {"a": layer, "b": layer}, {}))
        if depth == 15:
            yield "module-dag-16", dumps(file_of(layer))
    yield "module-dag-35", dumps(file_of(layer))
    nested: list[Any] = []
    for _ in range(35):
        nested = [nested, nested]
    for kwargs in ({"x": nested}, {"x": [[0] * 30_000] * 30_000}):
        made = Persistent("Generator", module_state({}, {}, {}, {}))
        made.meta["state"] |= {"_init_args": (nested,), "_init_kwargs": kwargs}
        yield f"kwargs-dag-{len(kwargs['x'])}", dumps(file_of(made))
    looped = b"}(" + text("_init_kwargs") + b"}q\x01" + text("x") + b"h\x01su"
    yield "cyclic-kwargs", module_file(looped)
    wide = {f"a{index}": index for index in range(20_000)}
    empty = {f"a{index}": None for index in range(20_000)}
    for label, state in (("attributes", wide), ("parameters", {"_parameters": empty}), ("parts", {"_modules": empty})):
        one = Persistent("Layer", state)  # the same large dictionary below thousands of modules
        parts = {f"m{index}": Persistent("Layer", state) for index in range(4_000)}
        yield f"shared-{label}", dumps(file_of(Persistent("G", module_state({}, {}, {**parts, "one": one}, {}))))
    big = torch.zeros(1_000_000)
    views = b"".join(text(f"v{index}") + b"h\x05" for index in range(4_000))
    shared = text("first") + tensor(storage_bytes(big), b"K\x00", integers(1_000_000), integers(1)) + b"q\x05"
    yield "tensor-4000-times", module_file(b"}(" + text("_buffers") + b"}(" + shared + views + b"uu")
    small = {f"t{index}": torch.zeros(1) for index in range(6_000)}
    yield "tensors-6000", dumps(file_of(Persistent("G", module_state({}, small, {}, {}))))
    encode = name("_codecs", "encode") + b"h\x05" + text("latin1") + b"\x86R"
    entries = b"".join(text(f"t{index}") + tensor_of_text(encode) for index in range(500))
    content = text(storage_bytes(torch.zeros(500_000)).decode("latin1")) + b"q\x050"
    yield "text-500-times", b"\x80\x02" + content + module_file(b"}(" + text("_buffers") + b"}(" + entries + b"uu")[2:]


def tensor_of_text(encode: bytes) -> bytes:
    load = name("torch.storage", "_load_from_bytes") + encode + b"\x85R"
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + load + b"K\x00))\x89NtR"


def strangers() -> Iterator[tuple[str, bytes]]:
    """Files of other kinds under the name of a .pkl."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("data.pkl", b"\x80\x02N.")
    yield "zip", stream.getvalue()
    yield "empty", b""
    yield "html", b"<!DOCTYPE html><html><body>Quota exceeded</body></html>"
    yield "gzip", gzip.compress(b"\x80\x02N.")
    yield "png", b"\x89PNG\r\n\x1a\n" + bytes(40)
    yield "stop", b"."
    yield "none", b"N."
    yield "protocol-6", b"\x80\x06N."
    yield "protocol-255", b"\x80\xff."
    yield "text", b"hello" * 100
    yield "easydict", dumps(EasyDict(G=3, D=EasyDict()))


def attacks(target: Path) -> dict[str, bytes]:
    """Every file by name; those that run something would make the file `target`."""
    return dict([*code(target), *views(), *sizes(), *structures(), *strangers()])


FORBIDDEN = ("import", "exec", "compile", "os.", "subprocess.", "pickle.", "socket.", "shutil.", "ctypes.", "marshal.")


def main(folder: Path) -> None:
    """Read the files; the harmless ones twice, so that what the reader itself imports is there."""
    from ganfoundry.errors import InputError
    from ganfoundry.gan.checkpoints import load_gan

    paths = sorted(folder.glob("*.pkl"), key=lambda path: not path.name.startswith("harmless"))
    for path in (*folder.glob("harmless*"), *folder.glob("torch-zip*")):
        with contextlib.suppress(InputError):
            load_gan(path)
    events: list[str] = []
    sys.addaudithook(lambda event, args: events.append(event) if event.startswith(FORBIDDEN) else None)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_MEMORY, used + SPARE_MEMORY))
    for path in paths:
        events.clear()
        start = time.process_time()
        try:
            load_gan(path, allow_inert=("posix.system", "os.system") if path.stem.startswith("system") else ())
            ending = "loaded"
        except InputError as error:
            ending = str(error)
        seconds = time.process_time() - start
        peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
        sys.stdout.write(json.dumps([path.stem, ending, seconds, peak, events]) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
