# A package set in the form of nixpkgs: real software from Debian packages (debian.nix), and small packages that are
# difficult on purpose (special.nix).
{ system ? builtins.currentSystem, config ? { }, ... }:
let
  index = builtins.fromJSON (builtins.readFile ./index.json);
  checkMeta = import ./check-meta.nix { inherit system config; };
  debian = import ./debian.nix { inherit index checkMeta; };
  special = import ./special.nix {
    inherit index checkMeta;
    inherit (debian) bash;
    salt = config.salt or "";
  };
  packages = debian // special // {
    bashInteractive = debian.bash;
    netbase = debian.iana-etc;
    pkgs = packages;
  };
in
packages
