# Loads the package set, from one of three sources:
#
#   { type = "path"; path = "/absolute/path"; }
#   { type = "channel"; channel = "nixos-24.05"; }  or a full commit of nixpkgs
#   { type = "git"; url = "https://…"; rev = "<full commit>"; ref ? "branch" }  or a branch as `rev`,
#                                                  or neither for the default branch
#
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

  git = { url, rev ? null, ref ? null, ... }:
    let
      isRef = rev != null && !isCommit rev;
      name = if isRef then rev else ref;
    in
    builtins.fetchGit ({ inherit url; }
      // (if name == null then { } else { ref = name; })
      // (if rev == null || isRef then { } else { inherit rev; })
      # Where no branch is named the commit may be on any.
      // (if rev != null && name == null then { allRefs = true; } else { }));

  fetched =
    if source.type == "git" then
      let result = git (builtins.removeAttrs source [ "type" ]); in
      { path = result.outPath; revision = result.rev or null; date = result.lastModified or null; }
    else if source.type == "channel" then
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
      { inherit (source) path; revision = null; date = null; }
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
