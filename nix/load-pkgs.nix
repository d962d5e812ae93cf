# Loads the package set at a path:
#
#   { path = "/absolute/path"; date ? seconds since 1970; flake ? see flake.nix }
#
# Firn fetches repositories and channels itself, with the operator's settings, and passes them as a path.
# Nothing is taken from the environment: no channel, no NIX_PATH. The package set is imported once. It must be a
# function that accepts `system` and `config`; it gets no other arguments. A flake gets no `config`.
{ source, system, config ? { } }:
{
  # The package set. It is null if it is a flake that has packages for other systems only.
  packages =
    if source ? flake then import ./flake.nix { inherit source system; }
    else import source.path { inherit system config; };
  # The time of the commit of the package set in seconds since 1970; null if the source does not say.
  date = source.date or null;
}
