# Loads the package set at a path:
#
#   { path = "/absolute/path"; revision ? "<full commit>"; date ? seconds since 1970 }
#
# What is elsewhere is fetched by Firn, with the operator's own settings and a limit of its own, and is a path here.
# Nothing is taken from the environment: no channel, no NIX_PATH. The set is imported once, with
# `system` and `config` and nothing else, so any function that accepts these two will do.
{ source, system, config ? { } }:
{
  # The set itself.
  packages = import source.path { inherit system config; };
  # The commit that it is, where it is one's.
  revision = source.revision or null;
  # When that was committed, in seconds since 1970, where it was.
  date = source.date or null;
}
