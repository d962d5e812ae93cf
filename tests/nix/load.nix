# The arguments that load-pkgs.nix passes to the fetchers, without a network. (`scopedImport` gives a file other
# builtins; the file itself is the real one.)
{ loader, source }:
let
  fetched = what: throw "fetches ${builtins.toJSON what}";
  fakes = builtins // { fetchTarball = fetched; };
  loaded = builtins.scopedImport { builtins = fakes; } loader {
    source = builtins.fromJSON source;
    system = "x86_64-linux";
  };
in
loaded.packages
