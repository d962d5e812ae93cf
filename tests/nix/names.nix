# The package set of set.nix with what nixpkgs has in its names: aliases that differ by case, packages inside
# packages, and the package set inside itself.
{ system, config }:
let
  base = import ./set.nix { inherit system config; };
  drv = name: arguments: derivation ({ inherit name system; builder = "/never/built"; } // arguments);
  refused = name: drv name { } // {
    meta.unfree = true;
    drvPath = throw "${name} is refused";
    outPath = throw "${name} is refused";
  };
  # The package set for another machine: all of its names, and packages of its own for some of them.
  again = machine: packages // {
    hello = drv "hello-${machine}-2.10" { };
    python3Packages = packages.python3Packages // { requests = drv "python3-requests-${machine}-2" { }; };
    pkgs = again machine;
    pkgsMusl = again "${machine}-musl";
  };

  packages = base // {
    # Names that differ only by case.
    aliasCase = drv "alias-1" { };
    aliascasE = drv "alias-1" { };
    renamedCase = throw "renamedCase has been renamed to renamedcasE";
    renamedcasE = drv "renamed-1" { };
    goneCase = throw "goneCase has been removed";
    gonecasE = throw "gonecasE has been removed";
    refusedCase = refused "refused-case-1";
    refusedcasE = refused "refused-case-1";
    halfRefused = refused "half-refused-1";
    halfrefuseD = drv "half-refused-1" { };
    aliasSet.inner = drv "alias-set-1" { };
    aliasseT = { inner = drv "alias-set-1" { }; more = drv "alias-set-more-1" { }; };

    # The set again.
    pkgs = packages;
    pkgsMusl = again "musl";
    pkgsCross.riscv64 = again "riscv64";

    # Packages with packages in them.
    python3 = drv "python3-3.12" { } // { inherit (packages) pkgs; pythonPackages = packages.python3Packages; };
    gcc = drv "gcc-wrapper-14" { outputs = [ "out" "man" ]; } // {
      cc = drv "gcc-14" { };
      Man = drv "never-taken" { };
      isGNU = true;
      gone = throw "gcc.gone has been removed";
    };
  };
in
packages
