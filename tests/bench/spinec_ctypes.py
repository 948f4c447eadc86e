"""libspinec through ctypes, as far as the benchmarks need it (see include/spinec.h)."""
import ctypes as c
import os

import numpy as np

DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 9: np.bool_, 11: np.float64}
BACKENDS = {"interp": 0, "c": 1, "jit": 2}


class Tensor(c.Structure):
    _fields_ = [("dtype", c.c_int), ("rank", c.c_int), ("dims", c.c_int64 * 8), ("data", c.c_void_p)]


class CompileOptions(c.Structure):
    _fields_ = [("target", c.c_char_p), ("opt_level", c.c_int), ("winograd", c.c_int), ("max_weight_bytes", c.c_int64),
                ("max_workspace_bytes", c.c_int64), ("max_threads", c.c_int),
                ("dump_letters", c.c_char_p), ("print_after", c.c_char_p), ("stop_after", c.c_char_p), ("disable", c.c_char_p),
                ("bisect", c.c_int), ("time_passes", c.c_bool), ("stats", c.c_bool), ("dump", c.c_void_p), ("progress", c.c_void_p),
                ("progress_user", c.c_void_p)]


def load_library(build):
    lib = c.CDLL(os.path.join(build, "lib", "libspinec.so"))
    lib.spinec_compile_options_default.restype = CompileOptions
    for name in ("spinec_diagnostics_new",):
        getattr(lib, name).restype = c.c_void_p
    lib.spinec_diagnostics_text.restype = c.c_char_p
    lib.spinec_model_input.restype = lib.spinec_model_output.restype = Tensor
    return lib


class Session:
    """A model compiled and ready: run(x) with one input array gives the list of outputs."""

    def __init__(self, lib, path, backend="jit", threads=1, winograd=-1, target=None, cc=None):
        self.lib, diag = lib, c.c_void_p(lib.spinec_diagnostics_new())
        if cc:
            os.environ["SPINEC_CC"] = cc
        self.model, self.program, self.session = c.c_void_p(), c.c_void_p(), c.c_void_p()

        def check(status):
            if status:
                n = lib.spinec_diagnostics_count(diag)
                raise RuntimeError("; ".join(lib.spinec_diagnostics_text(diag, i).decode() for i in range(n)) or f"status {status}")

        check(lib.spinec_load(path.encode(), None, c.byref(self.model), diag))
        o = lib.spinec_compile_options_default()
        o.max_threads, o.winograd, o.target = threads, winograd, target.encode() if target else None
        check(lib.spinec_compile(self.model, c.byref(o), c.byref(self.program), diag))
        check(lib.spinec_session_open(self.program, BACKENDS[backend], threads, c.byref(self.session), diag))
        lib.spinec_diagnostics_free(diag)
        self.outs, n = [], lib.spinec_model_outputs(self.model)
        self.out_t = (Tensor * n)()
        for i in range(n):
            t = lib.spinec_model_output(self.model, i)
            a = np.empty([t.dims[k] for k in range(t.rank)], DTYPES[t.dtype])
            t.data = a.ctypes.data
            self.outs.append(a)
            self.out_t[i] = t
        self.in_t = (Tensor * 1)(lib.spinec_model_input(self.model, 0))

    def run(self, x):
        self.in_t[0].data = x.ctypes.data
        if self.lib.spinec_session_run(self.session, self.in_t, self.out_t, None):
            raise RuntimeError("run failed")
        return self.outs

    def close(self):
        self.lib.spinec_session_close(self.session)
        self.lib.spinec_program_free(self.program)
        self.lib.spinec_model_free(self.model)
