// Which nodes a policy allows is for the policy to say, also where there is no VMA to ask about.
//
// Matches: the declaration and the definition; mm/internal.h declares it for others.
//
// file: mm/mempolicy.c
// expect: 2

@ decl @
typedef nodemask_t, gfp_t, pgoff_t;
position p;
@@
- static nodemask_t *policy_nodemask@p(gfp_t gfp, struct mempolicy *pol, pgoff_t ilx, int *nid);
+ nodemask_t *policy_nodemask(gfp_t gfp, struct mempolicy *pol, pgoff_t ilx, int *nid);

@ def @
typedef nodemask_t, gfp_t, pgoff_t;
position p;
@@
- static nodemask_t *policy_nodemask@p(gfp_t gfp, struct mempolicy *pol, pgoff_t ilx, int *nid)
+ nodemask_t *policy_nodemask(gfp_t gfp, struct mempolicy *pol, pgoff_t ilx, int *nid)
  { ... }
