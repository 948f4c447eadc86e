/* main.c: finds the command and runs it. */
#include "cli.h"
#include <string.h>

static const struct { const char *name; int id; int (*run)(Options *); const char *usage, *what; } commands[] = {
    {"compile", CMD_COMPILE, command_compile, "MODEL.onnx -o OUT", "C source, native code or IR from a model"},
    {"run", CMD_RUN, command_run, "MODEL.onnx", "one inference; writes OUTPUTNAME.npy"},
    {"bench", CMD_BENCH, command_bench, "MODEL.onnx", "time inference in this process"},
    {"verify", CMD_VERIFY, command_verify, "MODEL.onnx", "compare with expected outputs, or with the interpreter"},
    {"conformance", CMD_CONFORMANCE, command_conformance, "DIR...", "run ONNX backend test folders"},
    {"inspect", CMD_INSPECT, command_inspect, "MODEL.onnx", "operators, shapes, multiply-adds, memory"},
};

static void usage(FILE *f) {
  fprintf(f, "spinec %s: compiles ONNX models to standalone C or native code\n\n", SPINEC_VERSION);
  for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
    char call[64];
    snprintf(call, sizeof call, "%s %s", commands[i].name, commands[i].usage);
    fprintf(f, "  spinec %-30s %s\n", call, commands[i].what);
  }
  fprintf(f, "\n'spinec COMMAND --help' lists a command's options. Targets for --target:\n");
  for (int i = 0; i < spinec_target_count(); i++) fprintf(f, "  %-28s %s\n", spinec_target_name(i), spinec_target_summary(i));
}

int main(int argc, char **argv) {
  if (argc < 2) {
    usage(stderr);
    return EXIT_USAGE;
  }
  if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
    usage(stdout);
    return EXIT_OK;
  }
  if (!strcmp(argv[1], "--version")) {
    printf("spinec %s%s\n", SPINEC_VERSION, spinec_backend_available(SPINEC_BACKEND_JIT) ? " (LLVM)" : "");
    return EXIT_OK;
  }
  for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
    if (strcmp(argv[1], commands[i].name)) continue;
    Options o;
    bool help = false;
    int status = options_parse(&o, commands[i].id, argc, argv, &help) ? commands[i].run(&o) : help ? EXIT_OK : EXIT_USAGE;
    options_free(&o);
    if (fflush(stdout) || ferror(stdout)) {
      fprintf(stderr, "spinec: cannot write to standard output\n");
      return EXIT_FAILED;
    }
    return status;
  }
  fprintf(stderr, "spinec: no command '%s'; 'spinec --help' lists them\n", argv[1]);
  return EXIT_USAGE;
}
