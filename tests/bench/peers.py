#!/usr/bin/env python3
"""Times spinec beside its peers: interleaved runs in one process, medians, ratios to ONNX Runtime, and each one's largest error.

    python3 -m venv build/peers && build/peers/bin/pip install onnxruntime numpy openvino ncnn pnnx MNN iree-base-compiler[onnx] iree-base-runtime apache-tvm
    build/peers/bin/python tests/bench/peers.py --build build/release MODEL.onnx [MODEL.onnx ...] [--threads 1 2] [--engines ort,spinec-jit,...]

Peers that are not installed, or that cannot take a model, are left out with a line saying why. TVM is as it compiles without tuning. ONNX
Runtime's workers stop watching for work when its run ends, so that they do not hold a core while others run. Errors are against ONNX
Runtime's outputs, relative to the output's largest magnitude. One input per model; values N(0,1) of a fixed seed, or MODEL.in.npy beside it.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

import spinec_ctypes


def ort_session(path, threads):
    import onnxruntime as ort
    o = ort.SessionOptions()
    o.intra_op_num_threads, o.inter_op_num_threads = threads, 1
    o.log_severity_level = 3
    o.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])


def make_ort(path, threads, a):
    s = ort_session(path, threads)
    name = s.get_inputs()[0].name
    return lambda x: s.run(None, {name: x})


def make_openvino(path, threads, a):
    import openvino as ov
    core = ov.Core()
    m = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})
    r = m.create_infer_request()

    def run(x):
        r.infer([x], share_inputs=True)
        return [r.get_output_tensor(i).data for i in range(len(m.outputs))]
    return run


def make_ncnn(path, threads, a):
    import ncnn
    work = tempfile.mkdtemp(prefix="peers")
    s = ort_session(path, 1).get_inputs()[0]
    local = os.path.join(work, "m.onnx")
    os.symlink(os.path.abspath(path), local)
    tool = os.path.join(os.path.dirname(sys.executable), "pnnx")
    subprocess.run([tool, local, "inputshape=[%s]" % ",".join(map(str, s.shape)), "fp16=0"], check=True, cwd=work, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    net = ncnn.Net()
    net.opt.num_threads, net.opt.use_vulkan_compute = threads, False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    net.load_param(os.path.join(work, "m.ncnn.param"))
    net.load_model(os.path.join(work, "m.ncnn.bin"))
    outs = [n for n in net.output_names()]

    def run(x):
        e = net.create_extractor()
        e.input(net.input_names()[0], ncnn.Mat(x[0]))
        return [np.asarray(e.extract(o)[1])[None] for o in outs]
    return run


def make_mnn(path, threads, a):
    import MNN
    work = tempfile.mkdtemp(prefix="peers")
    out = os.path.join(work, "m.mnn")
    tool = os.path.join(os.path.dirname(sys.executable), "mnnconvert")
    subprocess.run([tool, "-f", "ONNX", "--modelFile", path, "--MNNModel", out, "--bizCode", "x"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    ort = ort_session(path, 1)
    names, inp = [o.name for o in ort.get_outputs()], ort.get_inputs()[0].name
    rt = MNN.nn.create_runtime_manager(({"backend": "CPU", "precision": "high", "numThread": threads},))
    m = MNN.nn.load_module_from_file(out, [inp], names, runtime_manager=rt)

    def run(x):
        v = MNN.expr.const(x, x.shape, MNN.expr.NCHW)
        return [np.array(MNN.expr.convert(o, MNN.expr.NCHW).read()) for o in m.forward([v])]
    return run


def make_iree(path, threads, a):
    import iree.runtime as ir
    work, tools = tempfile.mkdtemp(prefix="peers"), os.path.dirname(sys.executable)
    mlir, vmfb = os.path.join(work, "m.mlir"), os.path.join(work, "m.vmfb")
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([os.path.join(tools, "iree-import-onnx"), path, "-o", mlir, "--opset-version", "17"], **quiet)
    subprocess.run([os.path.join(tools, "iree-compile"), mlir, "-o", vmfb, "--iree-hal-target-backends=llvm-cpu", "--iree-llvmcpu-target-cpu=host"], **quiet)
    if threads == 1:
        device = ir.get_device("local-sync")
    else:
        ir.flags.parse_flags(f"--task_topology_max_group_count={threads}")
        device = ir.get_device("local-task")
    config = ir.Config(device=device)
    module = ir.load_vm_module(ir.VmModule.mmap(config.vm_instance, vmfb), config)
    name = next(n for n in module.vm_module.function_names if not n.startswith("__") and not n.endswith("$async"))

    def run(x):
        out = module[name](x)
        return [np.asarray(o.to_host()) for o in (out if isinstance(out, (list, tuple)) else [out])]
    return run


def make_tvm(path, threads, a):
    import onnx
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx
    os.environ["TVM_NUM_THREADS"] = str(threads)
    module = relax.get_pipeline("zero")(from_onnx(onnx.load(path)))
    vm = relax.VirtualMachine(tvm.compile(module, tvm.target.Target.from_device("cpu")), tvm.cpu())

    def run(x):
        out = vm["main"](tvm.runtime.tensor(x))
        return [o.numpy() for o in (out if isinstance(out, (list, tuple)) or not hasattr(out, "numpy") else [out])]
    return run


def make_spinec(backend, cc=None):
    def make(path, threads, a):
        return spinec_ctypes.Session(a.lib, path, backend, threads, a.winograd, a.target, cc).run
    return make


ENGINES = {"ort": make_ort, "spinec-jit": make_spinec("jit"), "spinec-c-gcc": make_spinec("c", "gcc"), "spinec-c-clang": make_spinec("c", "clang"),
           "openvino": make_openvino, "ncnn": make_ncnn, "mnn": make_mnn, "iree": make_iree, "tvm": make_tvm}


def model_input(path):
    given = path[:-5] + ".in.npy"
    if os.path.exists(given):
        return np.ascontiguousarray(np.load(given))
    shape = ort_session(path, 1).get_inputs()[0].shape
    return np.random.default_rng(1).standard_normal([d if isinstance(d, int) else 1 for d in shape]).astype(np.float32)


def largest_error(got, want):
    return max(float(np.abs(np.asarray(g).reshape(w.shape) - w).max() / max(np.abs(w).max(), 1e-30)) for g, w in zip(got, want))


def bench(path, threads, a):
    x, runs, errors = model_input(path), {}, {}
    want = [np.array(o) for o in make_ort(path, 1, a)(x)]
    for name in a.engines:
        try:
            start = time.perf_counter()
            run = ENGINES[name](path, threads, a)
            errors[name] = (largest_error(run(x), want), time.perf_counter() - start)
            runs[name] = run
        except Exception as e:   # a peer that cannot is left out, whatever the reason
            print(f"  {name}: left out: {str(e).splitlines()[0][:150] if str(e) else type(e).__name__}", flush=True)
    times = {n: [] for n in runs}
    began = time.perf_counter()
    for i in range(a.rounds):
        for n, run in runs.items():
            t = time.perf_counter()
            run(x)
            times[n].append((time.perf_counter() - t) * 1e3)
        if time.perf_counter() - began > a.seconds and i >= 4:
            break
    base = statistics.median(times["ort"]) if "ort" in times else None
    print(f"\n{os.path.basename(path)}, {threads} thread{'s' * (threads > 1)}, {len(next(iter(times.values())))} rounds")
    print(f"  {'engine':16s} {'median ms':>10s} {'min ms':>9s} {'vs ort':>8s} {'error':>9s} {'ready s':>8s}")
    for n, t in sorted(times.items(), key=lambda kv: statistics.median(kv[1])):
        med = statistics.median(t)
        ratio = f"{base / med:7.2f}x" if base else ""
        print(f"  {n:16s} {med:10.2f} {min(t):9.2f} {ratio:>8s} {errors[n][0]:9.1e} {errors[n][1]:8.2f}", flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("models", nargs="+")
    ap.add_argument("--build", default="build/release")
    ap.add_argument("--threads", type=int, nargs="+", default=[1])
    ap.add_argument("--engines", default=",".join(ENGINES))
    ap.add_argument("--rounds", type=int, default=31)
    ap.add_argument("--seconds", type=float, default=20, help="stop a table after this long, but not before five rounds")
    ap.add_argument("--winograd", type=int, default=-1)
    ap.add_argument("--target")
    a = ap.parse_args()
    a.engines = a.engines.split(",")
    a.lib = spinec_ctypes.load_library(a.build)
    for path in a.models:
        for t in a.threads:
            bench(path, t, a)


if __name__ == "__main__":
    main()
