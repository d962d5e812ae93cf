# A package set with every case that resolve.nix distinguishes, without lib, stdenv or builders. Its arguments are
# exactly those of load-pkgs.nix. It traces when it is imported, so that a test can count imports.
{ system, config }:
let
  drv = name: arguments: derivation ({ inherit name system; builder = "/never/built"; } // arguments);
  # As in nixpkgs: if a package's meta forbids it, evaluating its paths throws, but evaluating its meta does not.
  refused = name: meta: drv name { } // {
    inherit meta;
    drvPath = throw "${name} is refused";
    outPath = throw "${name} is refused";
    out = { outPath = throw "${name} is refused"; };
  };
in
builtins.trace "imported with config ${builtins.toJSON config}" {
  # Names.
  hello = drv "hello-2.10" { } // {
    override = throw "never forced";
    tests.version = drv "hello-tests" { };
    meta = {
      description = "A greeting";
      homepage = "https://example.org/hello";
      license = { spdxId = "GPL-3.0-or-later"; shortName = "gpl3Plus"; free = true; };
      mainProgram = "hello";
    };
  };
  gitFull = drv "git-2.39.5" { };
  exactcase = drv "exact-lower" { };
  exactCase = drv "exact-camel" { };
  twinCase = drv "twin-1" { };
  twincasE = drv "twin-2" { };
  _1password = drv "1password-8" { };
  _7Zip = drv "7zip-24" { };
  both = drv "both-plain" { };
  _both = drv "both-underscore" { };
  foo-bar = drv "foo-bar-1" { };
  fooBar = drv "fooBar-1" { };
  "dotted.name" = drv "dotted" { };
  "quo\"te" = drv "quote" { };
  "\${hello}" = drv "antiquote" { };
  "--option" = drv "option" { };
  "Key" = drv "key" { };

  # Sets in sets.
  python3Packages = {
    recurseForDerivations = true;
    requests = drv "python3-requests-2" { };
    PyYAML = drv "python3-pyyaml-6" { };
    inner.deepEst = drv "deepest-1" { };
    aborts = abort "a sibling is evaluated";
  };
  Python3packagesX = { };
  throwingSet = throw "a set that is gone";
  lib.version = "23.05";
  emptySet = { };

  # Not packages.
  function = x: x;
  functor = { __functor = self: x: x; };
  text = "text";
  number = 1;
  list = [ ];
  nothing = null;
  path = /etc/hostname;
  oddType = { type = 1; };
  throwingType = { type = throw "what am I?"; };

  # Outputs.
  openssl = drv "openssl-3.0" { outputs = [ "bin" "dev" "out" "man" ]; } // { meta.outputsToInstall = [ "bin" "man" ]; };
  several = drv "several-1" { outputs = [ "out" "bin" "lib" ]; } // { meta.outputsToInstall = [ "lib" "bin" ]; };
  manOnly = drv "man-only-1" { outputs = [ "out" "man" ]; } // { meta.outputsToInstall = [ "man" ]; };
  docsOnly = drv "docs-only-1" { outputs = [ "doc" "man" ]; };
  noMeta = drv "no-meta-1" { outputs = [ "lib" "out" ]; };
  capitalOutput = drv "capital-output-1" { outputs = [ "out" "extraFiles" ]; };
  unknownOutput = drv "unknown-output-1" { } // { meta.outputsToInstall = [ "gone" ]; };
  oddOutputs = drv "odd-outputs-1" { } // { meta.outputsToInstall = "out"; };
  throwingOutputs = drv "throwing-outputs-1" { } // { meta.outputsToInstall = throw "which?"; };
  # Made by hand, with only the necessary attributes.
  bare =
    let inner = drv "bare-1" { }; in
    { type = "derivation"; inherit (inner) outPath drvPath name; };

  # Metadata.
  licenses = drv "licenses-1" { } // {
    meta.license = [
      { spdxId = "MIT"; }
      { shortName = "bsd3"; }
      { fullName = "A licence of our own"; }
      "Zlib"
      (throw "no licence")
      { free = true; }
      7
    ];
    meta.homepage = [ "https://one.example" "https://two.example" ];
  };
  throwingMeta = drv "throwing-meta-1" { } // { meta = throw "no meta"; version = throw "no version"; pname = 7; };
  oddMeta = drv "odd-meta-1" { } // { meta = { description = 7; homepage = { }; license = { }; mainProgram = null; }; };
  context = drv "context-1" { } // { meta.description = "needs ${drv "other-1" { }}"; };
  named = drv "name-with-9-1.2.3" { };
  unversioned = drv "unversioned" { };
  ownVersion = drv "own-version-unstable-2024" { } // { pname = "own-version"; version = "unstable-2024"; };

  # Refused by their meta, in the form of newer sets …
  unfree = refused "unfree-1" { unfree = true; license = { shortName = "unfree"; free = false; }; };
  broken = refused "broken-1" { broken = true; };
  insecure = refused "insecure-1" { insecure = true; knownVulnerabilities = [ "CVE-1" "CVE-2" ]; };
  unsupported = refused "unsupported-1" { unsupported = true; };
  # … and in the form of older ones.
  oldUnfree = refused "old-unfree-1" { license = [{ free = true; } { fullName = "Unfree"; free = false; }]; };
  oldInsecure = refused "old-insecure-1" { knownVulnerabilities = [ "CVE-1" ]; };
  oldUnsupported = refused "old-unsupported-1" { platforms = [ "m68k-linux" ]; };
  badPlatform = refused "bad-platform-1" { platforms = [ system ]; badPlatforms = [ system ]; };
  patterns = refused "patterns-1" { platforms = [{ cpu = "m68k"; }]; };
  unfreeAndBroken = refused "unfree-and-broken-1" { license.free = false; broken = true; };
  refusedForNoReason = refused "no-reason-1" { available = true; };
  # The licence is unfree, but the set allows the package to be built.
  allowedUnfree = drv "allowed-unfree-1" { } // { meta.license.free = false; };

  # Evaluation fails.
  throws = throw "throws has been removed; use hello instead";
  asserts = assert false; drv "asserts-1" { };
  dependsOnThrow = drv "depends-on-throw-1" { dependency = throw "the dependency is gone"; };
  missingAttribute = { }.attribute;
  typeError = drv "type-error-1" { text = 1 + "1"; };
  aborts = abort "aborts gives up";
  infiniteRecursion = let x = x; in x;
  importsFromDerivation = import (drv "imported" { });

  # Their output paths are not known before they are built.
  contentAddressed = drv "content-addressed-1" {
    __contentAddressed = true;
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
  };
  ofContentAddressed = drv "of-content-addressed-1" {
    part = drv "part-1" { __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; };
  };
  impure = drv "impure-1" { __impure = true; };
  # Looks content-addressed, but is an ordinary derivation to Nix.
  floating = drv "floating-1" { outputHashMode = "recursive"; outputHashAlgo = "sha256"; };
  noStorePath = { type = "derivation"; name = "no-store-path"; drvPath = "/etc/x.drv"; outPath = "/etc/passwd"; };
}
