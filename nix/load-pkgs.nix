# Loads the package set at a path:
#
#   { path = "/absolute/path"; date ? seconds since 1970 }
#
# Firn fetches repositories and channels itself, with the operator's settings, and passes them as a path.
# Nothing is taken from the environment: no channel, no NIX_PATH. The package set is imported once. It must be a
# function that accepts `system` and `config`; it gets no other arguments.
{ source, system, config ? { } }:
{
  # The package set.
  packages = import source.path { inherit system config; };
  # The time of the commit of the package set in seconds since 1970; null if the source does not say.
  date = source.date or null;
}
