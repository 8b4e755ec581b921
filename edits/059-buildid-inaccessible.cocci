// A folio that is frozen is looked up again and again, here with preemption off or from an NMI: the
// one who is to thaw it may be the one who was interrupted. And what a guest keeps private is nothing
// to look for a build id in.
//
// Matches: where memory of memfd_secret() is refused.
//
// file: lib/buildid.c
// expect: 1

@ fetch @
expression M;
position p;
statement S;
@@
  freader_fetch(...)
  {
  <...
  if (
-     secretmem_mapping@p(M)
+     secretmem_mapping(M) || mapping_inaccessible(M)
     ) S
  ...>
  }
