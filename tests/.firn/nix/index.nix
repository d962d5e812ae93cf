# Lists the names of a package set, for "did you mean" and `firn search`.
#
#   nix-instantiate --eval --strict --json --read-write-mode \
#     --option allow-import-from-derivation false index.nix --argstr request "$JSON"
#
# request: { "source": see load-pkgs.nix, "system": "x86_64-linux", "config": { "allowUnfree": false },
#            "depth": "sets" | "named" | "top" }
# answer:  { "names": { "": [ top-level attributes ], "<attribute of a set>": [ its attributes ] } }
#
# No derivation is instantiated, and no package's metadata read: in nixpkgs that takes a minute and
# gigabytes. What an attribute is shows only when it is evaluated, so "named" looks into those alone whose
# names say that they are sets (python3Packages, vimPlugins); "sets" looks into all of them, if the set is
# small. What `tryEval` cannot catch in one of them ends the evaluation: ask for less depth then.
{ request }:
let
  inherit (builtins)
    attrNames concatMap elem filter isAttrs length listToAttrs match seq tryEval;

  asked = builtins.fromJSON request;
  set = import ./load-pkgs.nix { inherit (asked) source system; config = asked.config or { }; };
  packages =
    if isAttrs set.packages then set.packages
    else throw "the package source is not an attribute set of packages but a ${builtins.typeOf set.packages}";
  top = attrNames packages;

  # A set that hand or company made, whose attributes can all be looked at.
  isSmall = length top <= 2000;
  isNamedAsSet = name:
    match ".*(Packages|Plugins|Extensions|Modules)[0-9_]*" name != null && match "linux.*" name == null;
  # Sets, but of functions, settings or the whole package set.
  isOther = name: elem name [ "lib" "builtins" "config" "options" "pkgs" ];

  candidates =
    if asked.depth == "top" then [ ]
    else if asked.depth == "sets" && isSmall then filter (name: !(isOther name)) top
    else filter isNamedAsSet top;

  attempt = other: value:
    let result = tryEval value; in
    if result.success then result.value else other;

  # What package sets have in them that is no package.
  isMember = name: match "__.*" name == null && !(elem name [
    "callPackage"
    "extend"
    "newScope"
    "override"
    "overrideAttrs"
    "overrideDerivation"
    "overrideScope"
    "packages"
    "recurseForDerivations"
  ]);

  # The set's names as a list of one, or of none where it is no set of packages. One that has itself in it
  # is the package set again (buildPackages).
  members = name:
    let
      value = attempt null packages.${name};
      isSet = isAttrs value && attempt null (value.type or null) != "derivation" && !(value ? ${name});
      names = filter isMember (attrNames value);
    in
    if isSet && names != [ ] then [{ inherit name; value = names; }] else [ ];
in
{
  names = seq packages (listToAttrs ([{ name = ""; value = top; }] ++ concatMap members candidates));
}
