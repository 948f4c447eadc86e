/* cli/profile.h: time per kernel, as `bench --profile` reports it. Section: profile.c */
#ifndef CLI_PROFILE_H
#define CLI_PROFILE_H

#include "cli.h"
#include <jansson.h>

typedef struct Profile {
  const spinec_program *program;
  double *call_ns;         /* per call: the median of several runs */
  spinec_machine peak;     /* the machine's, measured beside them */
} Profile;

void profile_print(const Profile *p);
/* Adds the members "profile" (a list of calls), "operators" (totals) and "machine" to an object. */
void profile_add_json(const Profile *p, json_t *to);

#endif
