# Loads the package set, from one of two sources:
#
#   { type = "path"; path = "/absolute/path"; revision ? "<full commit>"; date ? seconds since 1970 }
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
    if source.type == "channel" then
      let
        path = channel source.channel;
        # nixos.org writes the commit into the tarball of a channel; GitHub does not.
        written = path + "/.git-revision";
        isWritten = !(isCommit source.channel) && builtins.pathExists written;
      in
      {
        inherit path;
        revision =
          if isCommit source.channel then source.channel
          else if isWritten then builtins.head (builtins.match "([0-9a-f]*).*" (builtins.readFile written))
          else null;
        date = null;
      }
    else if source.type == "path" then
      { inherit (source) path; revision = source.revision or null; date = source.date or null; }
    else
      throw "unknown type of package source: ${source.type}";
in
{
  # The set itself.
  packages = import fetched.path { inherit system config; };
  # The commit that it is, where the source tells.
  inherit (fetched) revision;
  # When that was committed, in seconds since 1970, where the source tells.
  inherit (fetched) date;
}
