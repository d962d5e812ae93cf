# Loads the package set, from one of two sources:
#
#   { type = "path"; path = "/absolute/path"; date ? seconds since 1970 }
#   { type = "channel"; channel = "nixos-24.05"; }  or a full commit of nixpkgs
#
# Firn fetches git repositories itself, with the operator's settings, and passes them as a path.
# Nothing is taken from the environment: no channel, no NIX_PATH. The package set is imported once. It must be a
# function that accepts `system` and `config`; it gets no other arguments.
{ source, system, config ? { } }:
let
  # A shorter text is the name of a branch, even if it consists of hexadecimal digits.
  isCommit = text: builtins.match "[0-9a-f]{40}" text != null;

  # A commit never changes. Nix looks a channel up again after its `tarball-ttl`.
  channel = name: builtins.fetchTarball (
    if isCommit name
    then "https://github.com/NixOS/nixpkgs/archive/${name}.tar.gz"
    else "https://nixos.org/channels/${name}/nixexprs.tar.xz"
  );

  fetched =
    if source.type == "channel" then { path = channel source.channel; date = null; }
    else if source.type == "path" then { inherit (source) path; date = source.date or null; }
    else
      throw "unknown type of package source: ${source.type}";
in
{
  # The package set.
  packages = import fetched.path { inherit system config; };
  # The time of the commit of the package set in seconds since 1970; null if the source does not say.
  inherit (fetched) date;
}
