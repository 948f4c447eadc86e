/* From a list of blocks to a plan: which blocks exist, how wide they are, what feeds them.
 *
 * The tables are those of the papers (arXiv 1912.05027 and 2010.11426). Rules that the rows do not show:
 *  - filters are a table per level times a scale, truncated; a bottleneck puts out four times its filters;
 *  - an output block also takes, unchanged, every earlier node of its own level and channels that no block has used so far;
 *    these uses are not counted, and uses by blocks that turn out dead are;
 *  - blocks that reach no endpoint are not built (the level-2 output of the published network, for one). */
#define _POSIX_C_SOURCE 200809L
#include "spinenet.h"

#include <stdlib.h>
#include <string.h>

/* ---- the published networks ---- */

static const Variant variants[] = {
    /* name          mobile endpoint repeats head  scale alpha */
    {"49S", false, 128, 1, 128, 0.65, 0.5},   {"49", false, 256, 1, 256, 1.0, 0.5},   {"96", false, 256, 2, 256, 1.0, 0.5},
    {"143", false, 256, 3, 256, 1.0, 1.0},    {"190", false, 512, 4, 512, 1.3, 1.0},  {"mobile-49XS", true, 24, 1, 64, 0.6, 0},
    {"mobile-49S", true, 40, 1, 64, 0.65, 0}, {"mobile-49", true, 48, 1, 64, 1.0, 0},
};

/* Index: level. Level 0 is the mobile stem. */
static const int regular_filters[N_LEVELS] = {0, 32, 64, 128, 256, 256, 256, 256};
static const int mobile_filters[N_LEVELS] = {8, 16, 24, 40, 80, 112, 112, 112};

static const char regular_rows[] = "2 bottleneck 0 1;  4 residual 0 1;    3 bottleneck 2 3;      4 bottleneck 2 4;"
                                   "6 residual 3 5;    4 bottleneck 3 5;  5 residual 6 7;        7 residual 6 8;"
                                   "5 bottleneck 8 9;  5 bottleneck 8 10; 4 bottleneck 5 10 out; 3 bottleneck 4 10 out;"
                                   "5 bottleneck 7 12 out; 7 bottleneck 5 14 out; 6 bottleneck 12 14 out; 2 bottleneck 2 13 out";
static const char mobile_rows[] = "2 mbconv 0 1; 2 mbconv 1 2; 4 mbconv 1 2;  3 mbconv 3 4;  4 mbconv 3 5; 6 mbconv 4 6;"
                                  "4 mbconv 4 6; 5 mbconv 7 8; 7 mbconv 7 9;  5 mbconv 9 10; 5 mbconv 9 11;"
                                  "4 mbconv 6 11 out; 3 mbconv 5 11 out; 5 mbconv 8 13 out; 7 mbconv 6 15 out; 6 mbconv 13 15 out";

static const char *const kind_names[] = {[KIND_BOTTLENECK] = "bottleneck", [KIND_RESIDUAL] = "residual", [KIND_MBCONV] = "mbconv"};
enum { N_KINDS = sizeof kind_names / sizeof *kind_names };

const char *kind_name(BlockKind kind) { return kind_names[kind]; }

static int kind_expansion(BlockKind kind) { return kind == KIND_BOTTLENECK ? 4 : 1; }

const Variant *variant_at(int i) { return i >= 0 && i < (int)(sizeof variants / sizeof *variants) ? &variants[i] : NULL; }

const Variant *variant_find(const char *name) {
  for (int i = 0; variant_at(i); i++)
    if (strcmp(variants[i].name, name) == 0) return &variants[i];
  return NULL;
}

BlockList variant_blocks(Arena *a, const Variant *v) {
  BlockList l = {0};
  if (!blocks_parse(a, (char *)arena_printf(a, "%s", v->mobile ? mobile_rows : regular_rows), v->name, &l)) exit(EXIT_FAILURE);
  return l;
}

/* ---- block lists as text ---- */

static const char *node_name(Arena *a, int i) { return i < 2 ? (i ? "stem2" : "stem1") : arena_printf(a, "block%d", i - 1); }

static bool parse_kind(const char *s, BlockKind *out) {
  for (int k = 0; k < N_KINDS; k++)
    if (strcmp(s, kind_names[k]) == 0) return *out = (BlockKind)k, true;
  return false;
}

/* One row, `index` = its node. `at` is the place for messages. */
static bool parse_row(Arena *a, char *row, const char *at, int index, BlockSpec *b) {
  static const char blanks[] = " \t\r\f\v,()";
  char *rest = row, *t = strtok_r(row, blanks, &rest);
  if (!parse_int(t, MIN_LEVEL, MAX_LEVEL, &b->level)) {
    complain("%s: level '%s' of block %d is not a number from %d to %d", at, t, index - 1, MIN_LEVEL, MAX_LEVEL);
    return false;
  }
  t = strtok_r(NULL, blanks, &rest);
  if (!t || !parse_kind(t, &b->kind)) {
    complain("%s: kind '%s' of block %d is none of bottleneck, residual, mbconv", at, t ? t : "", index - 1);
    return false;
  }
  while ((t = strtok_r(NULL, blanks, &rest))) {
    int p;
    if (b->out) {
      complain("%s: block %d has '%s' after 'out', which ends a row", at, index - 1, t);
      return false;
    }
    if (strcmp(t, "out") == 0) {
      b->out = true;
    } else if (!parse_int(t, 0, MAX_BLOCKS + 1, &p)) {
      complain("%s: '%s' of block %d is neither a parent index nor 'out'", at, t, index - 1);
      return false;
    } else if (p >= index) {
      complain("%s: block %d cannot use parent %d: only 0 (stem1) to %d (%s) come before it", at, index - 1, p, index - 1,
               node_name(a, index - 1));
      return false;
    } else if (b->n_parents == MAX_PARENTS) {
      complain("%s: block %d has more than %d parents", at, index - 1, MAX_PARENTS);
      return false;
    } else {
      b->parents[b->n_parents++] = p;
    }
  }
  if (!b->n_parents) complain("%s: block %d has no parents", at, index - 1);
  return b->n_parents > 0;
}

bool blocks_parse(Arena *a, char *text, const char *where, BlockList *out) {
  int line = 1, n_rows = 1;
  bool ok = true;
  for (const char *s = text; *s; s++) n_rows += *s == ';' || *s == '\n';
  out->rows = arena_array(a, (size_t)n_rows, sizeof *out->rows);
  out->n = 0;
  for (char *s = text, more = 1; more;) {
    char *row = s;
    while (*s && *s != ';' && *s != '\n' && *s != '#') s++;
    char end = *s;
    *s = 0;
    if (end == '#') {
      while (*++s && *s != '\n') continue;
      end = *s;
    }
    more = end != 0;
    s += more;
    if (row[strspn(row, " \t\r\f\v,()")]) {
      if (out->n == MAX_BLOCKS) {
        complain("%s: more than %d blocks", where, MAX_BLOCKS);
        return false;
      }
      /* A bad row still takes its number: the rows after it mean what they say. */
      int i = out->n++;
      ok &= parse_row(a, row, arena_printf(a, "%s:%d", where, line), i + 2, &out->rows[i]);
    }
    line += end == '\n';
  }
  if (!out->n) complain("%s: no blocks", where);
  return ok && out->n;
}

const char *blocks_print(Arena *a, const BlockList *l, const char *separator) {
  enum { ROW = 32 + 12 * MAX_PARENTS };
  size_t size = (size_t)l->n * (ROW + strlen(separator)) + 1;
  char *text = arena_get(a, size), *p = text;
  for (int i = 0; i < l->n; i++) {
    const BlockSpec *b = &l->rows[i];
    const char *row = arena_printf(a, "%s%d %s", i ? separator : "", b->level, kind_name(b->kind));
    for (int k = 0; k < b->n_parents; k++) row = arena_printf(a, "%s %d", row, b->parents[k]);
    if (b->out) row = arena_printf(a, "%s out", row);
    size_t n = strlen(row);
    memcpy(p, row, n);
    p += n;
  }
  return text;
}

/* ---- the plan ---- */

/* Marked outputs; in a list without any mark, the last block of every endpoint level. */
static bool find_outputs(const Config *cfg, Plan *p) {
  const BlockList *l = &cfg->blocks;
  bool marked = false, ok = true;
  for (int i = 0; i < l->n; i++) marked |= l->rows[i].out;
  for (int lv = 0; lv < N_LEVELS; lv++) p->output[lv] = -1;
  for (int i = 0; i < l->n; i++) {
    int lv = l->rows[i].level;
    if (lv < cfg->first_level || lv > cfg->last_level || (marked && !l->rows[i].out)) continue;
    if (marked && p->output[lv] >= 0) {
      complain("block %d and block %d are both outputs of level %d", p->output[lv] - 1, i + 1, lv);
      ok = false;
    }
    p->output[lv] = i + 2;
  }
  for (int lv = cfg->first_level; lv <= cfg->last_level; lv++) {
    if (p->output[lv] >= 0) continue;
    complain("no output for level %d: %s", lv, marked ? "no block of that level is marked 'out'" : "no block has that level");
    ok = false;
  }
  return ok;
}

/* The extra parents of output block `i`; `uses` counts the uses by the blocks before it. */
static void find_extra_parents(Arena *a, Plan *p, int i, const int *uses) {
  PlanNode *b = &p->nodes[i];
  b->extra = arena_array(a, (size_t)i, sizeof(int));
  for (int j = 0; j < i; j++) {
    const PlanNode *e = &p->nodes[j];
    if (!uses[j] && e->level == b->level && e->channels == b->channels) b->extra[b->n_extra++] = j;
  }
}

static void mark_live(Plan *p) {
  for (int lv = 0; lv < N_LEVELS; lv++)
    if (p->output[lv] >= 0) p->nodes[p->output[lv]].live = true;
  /* Parents come before their block, so one sweep from the end suffices. */
  for (int i = p->n - 1; i >= 0; i--) {
    const PlanNode *b = &p->nodes[i];
    if (!b->live) continue;
    for (int k = 0; k < b->n_parents; k++) p->nodes[b->parents[k]].live = true;
    for (int k = 0; k < b->n_extra; k++) p->nodes[b->extra[k]].live = true;
    if (b->level > p->top_level) p->top_level = b->level;
  }
  if (p->nodes[1].live) p->nodes[0].live = true; /* stem2 is computed from stem1 */
  for (int i = 2; i < p->n; i++) p->n_dead += !p->nodes[i].live;
}

int plan_link_filters(const Config *cfg, const PlanNode *parent) {
  return (int)((double)(parent->channels / kind_expansion(parent->kind)) * cfg->alpha);
}

/* Every width in use must lie in 1 .. MAX_CHANNELS. */
static bool check_widths(const Config *cfg, const Plan *p) {
  for (int i = 0; i < p->n; i++) {
    const PlanNode *b = &p->nodes[i];
    int link = cfg->variant->mobile ? 1 : plan_link_filters(cfg, b);
    if (b->live && (b->filters < 1 || b->channels > MAX_CHANNELS)) {
      complain("filter scale %g gives %s %d channels: must be 1 to %d", cfg->scale, b->name, b->channels, MAX_CHANNELS);
      return false;
    }
    if (b->live && (link < 1 || link > MAX_CHANNELS)) {
      complain("alpha %g leaves %d channels for resampling %s: must be 1 to %d", cfg->alpha, link, b->name, MAX_CHANNELS);
      return false;
    }
  }
  return true;
}

static bool check_size(const Config *cfg, const Plan *p) {
  int unit = 1 << (p->top_level > 2 ? p->top_level : 2);
  if (cfg->height % unit == 0 && cfg->width % unit == 0) return true;
  complain("image size %dx%d is not a multiple of %d: the network halves it down to level %d, and maps rounded on the way down no longer "
           "match those enlarged by powers of two on the way up",
           cfg->height, cfg->width, unit, p->top_level);
  return false;
}

static void add_node(Arena *a, Plan *p, int level, BlockKind kind) {
  PlanNode *b = &p->nodes[p->n];
  b->name = node_name(a, p->n++);
  b->level = level;
  b->kind = kind;
  b->filters = p->width[level];
  b->channels = b->filters * kind_expansion(kind);
}

bool plan_make(Arena *a, const Config *cfg, Plan *p) {
  const BlockList *l = &cfg->blocks;
  const bool mobile = cfg->variant->mobile;
  *p = (Plan){.nodes = arena_array(a, (size_t)l->n + 2, sizeof(PlanNode))};
  for (int lv = 0; lv < N_LEVELS; lv++) p->width[lv] = (int)((mobile ? mobile_filters : regular_filters)[lv] * cfg->scale);
  bool ok = find_outputs(cfg, p);

  int *uses = arena_array(a, (size_t)l->n + 2, sizeof(int));
  add_node(a, p, mobile ? 1 : 2, mobile ? KIND_MBCONV : KIND_BOTTLENECK);
  add_node(a, p, 2, mobile ? KIND_MBCONV : KIND_BOTTLENECK);
  for (int i = 0; i < l->n; i++) {
    const BlockSpec *s = &l->rows[i];
    int self = p->n;
    add_node(a, p, s->level, s->kind);
    /* An unmarked list has outputs too, found above. */
    if (s->out || p->output[s->level] == self) find_extra_parents(a, p, self, uses);
    p->nodes[self].n_parents = s->n_parents;
    p->nodes[self].parents = s->parents;
    for (int k = 0; k < s->n_parents; k++) uses[s->parents[k]]++;
  }
  if (!ok) return false;
  mark_live(p);
  if (mobile && p->width[0] < 1) complain("filter scale %g leaves no filters for the stem", cfg->scale);
  return !(mobile && p->width[0] < 1) && check_widths(cfg, p) && check_size(cfg, p);
}
