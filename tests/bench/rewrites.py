#!/usr/bin/env python3
"""What each rewrite of the graph saves: work, memory traffic, kernels, workspace, time; with it and without it.

    python3 tests/bench/rewrites.py --build build/release --spinenet 49S:640 49:640 mobile-49S:384 --resnet-fpn 640 --mobilenet-v2 224 [MODEL.onnx ...]

Networks are made by spinenet-gen with their BatchNormalization, as VARIANT:SIZE, VARIANT:SIZE:retinanet with the detection head; ResNet-50
with a feature pyramid and MobileNetV2 are those of networks.py (which needs the onnx package). For each one, a table: all rewrites, then without each
that applied (what its absence costs is what it saves; the stores it avoids have a column), then without any of them. Multiply-adds and bytes
of activations are those of the graph as it is lowered (spinec --stats: every kernel reads each of its tensors once; weights do not count),
kernels and workspace those of the program, times the smallest of some runs on one thread, rounds of all rows taking turns.
--with CMD puts a command in front of each timing. --no-times leaves them out.
"""
import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

import networks

KEPT = {"clean", "fold", "layout"}   # not rewrites of the network: left on


def run(cmd):
    r = subprocess.run(cmd, capture_output=True, text=True)
    if r.returncode:
        sys.exit("%s: %s" % (" ".join(cmd), r.stderr))
    return r.stdout, r.stderr


COST = r"(-?\d+) kernels, (-?\d+) macs, (-?\d+) flops, (-?\d+) bytes moved, (-?\d+) bytes stored"


def measure(spinec, model, without):
    out, err = run([spinec, "inspect", model, "--json", "--stats", "-q"] + (["--disable", without] if without else []))
    info = json.loads(out)
    kernels, macs, _, moved, stored = map(int, re.search("as lowered: " + COST, err).groups())
    applied = {m[0]: int(m[1]) for m in re.findall(r"stats: (\w+) applied (\d+) times", err)}
    return {"macs": macs, "moved": moved, "stored": stored, "nodes": kernels, "calls": info["calls"], "workspace": info["workspace_bytes"],
            "applied": applied, "ms": None}


def best_ms(spinec, model, without, iters, prefix):
    cmd = prefix + [spinec, "bench", model, "--json", "--iters", str(iters), "-q"] + (["--disable", without] if without else [])
    return json.loads(run(cmd)[0])["min_ms"]


def table(name, spinec, model, a):
    full = measure(spinec, model, None)
    rows = [("all rewrites", None, full)]
    passes = [p for p in full["applied"] if p not in KEPT]
    rows += [("without " + p, p, measure(spinec, model, p)) for p in passes]
    rows.append(("without any", ",".join(passes), measure(spinec, model, ",".join(passes))))
    for _ in range(0 if a.no_times else a.rounds):
        for _, without, r in rows:
            ms = best_ms(spinec, model, without, a.iters, shlex.split(a.prefix))
            r["ms"] = ms if r["ms"] is None else min(r["ms"], ms)
    print("\n**%s**\n" % name)
    print("| | applied | multiply-adds, G | moved, MB | stored, MB | stores avoided, MB | kernels | workspace, MB | ms |\n" + "|---" * 9 + "|")
    for title, without, r in rows:
        avoided = "%.1f" % ((r["stored"] - full["stored"]) / 1e6) if without else ""
        print("| %s | %s | %.3f | %.1f | %.1f | %s | %d | %.2f | %s |" % (title, full["applied"].get(without, ""), r["macs"] / 1e9, r["moved"] / 1e6,
              r["stored"] / 1e6, avoided, r["calls"], r["workspace"] / 1e6, "" if r["ms"] is None else "%.1f" % r["ms"]))
    sys.stdout.flush()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="*")
    p.add_argument("--build", default="build/release")
    p.add_argument("--spinenet", nargs="*", default=[], metavar="VARIANT:SIZE[:HEAD]")
    p.add_argument("--resnet-fpn", type=int, metavar="SIZE")
    p.add_argument("--mobilenet-v2", type=int, metavar="SIZE")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--iters", type=int, default=5)
    p.add_argument("--with", dest="prefix", default="", metavar="CMD")
    p.add_argument("--no-times", action="store_true")
    a = p.parse_args()
    spinec, gen = (os.path.join(a.build, "bin", x) for x in ("spinec", "spinenet-gen"))
    with tempfile.TemporaryDirectory(prefix="rewrites") as work:
        model = os.path.join(work, "m.onnx")
        for spec in a.spinenet:
            variant, size, head = (spec.split(":") + ["none"])[:3]
            run([gen, "--variant", variant, "--size", size, "--head", head, "--keep-bn", "-o", model])
            title = "SpineNet-%s at %s%s" % (variant, size, "" if head == "none" else " with %s head" % head)
            table(title, spinec, model, a)
        if a.resnet_fpn:
            networks.resnet50_fpn(model, a.resnet_fpn)
            table("ResNet-50-FPN at %d" % a.resnet_fpn, spinec, model, a)
        if a.mobilenet_v2:
            networks.mobilenet_v2(model, a.mobilenet_v2)
            table("MobileNetV2 at %d" % a.mobilenet_v2, spinec, model, a)
        for m in a.models:
            table(os.path.basename(m), spinec, m, a)


if __name__ == "__main__":
    main()
