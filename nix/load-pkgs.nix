# Loads the package set, from one of two sources:
#
#   { type = "path"; path = "/absolute/path"; date ? seconds since 1970 }
#   { type = "channel"; channel = "nixos-24.05"; }  or a full commit of nixpkgs
#
# A repository is fetched by Firn, with git and the operator's own settings, and is a path here.
# Nothing is taken from the environment: no channel, no NIX_PATH. The set is imported once, with
# `system` and `config` and nothing else, so any function that accepts these two will do.
{ source, system, config ? { } }:
let
  # Anything shorter is the name of a branch, even if it consists of hexadecimal digits.
  isCommit = text: builtins.match "[0-9a-f]{40}" text != null;

  # A commit never changes; a channel is looked up again after Nix' `tarball-ttl`.
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
  # The set itself.
  packages = import fetched.path { inherit system config; };
  # When its commit was made, in seconds since 1970, where the source tells.
  inherit (fetched) date;
}
