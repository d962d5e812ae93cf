# Lists the names of a package set, for "did you mean" and `firn search`, and says what its packages are.
#
#   nix-instantiate --eval --strict --json --read-write-mode \
#     --option allow-import-from-derivation false index.nix --argstr request "$JSON"
#
# request: { "source": see load-pkgs.nix, "system": "x86_64-linux", "config": { "allowUnfree": false },
#            "look": null | [ attributes of the package set ], "metadata": false }
# answer:  { "names": { "": [ top-level attributes ], "<attribute of a set>": [ its attributes ] },
#            "packages": { "<attribute>": { "version", "main_program", "description": text or null } },
#            "candidates": [ what is looked at where `look` is null ] }
#
# What an attribute is shows only when it is evaluated; for all of nixpkgs that takes a minute and gigabytes.
# So without `look` only those are looked at whose names say that they are sets (python3Packages, vimPlugins,
# xorg), or all of them if the package set is small. With "metadata" it is told of the packages among those
# looked at what they are. No derivation is instantiated.
#
# What `tryEval` cannot catch in one of them (abort, a type error, endless recursion) ends the evaluation. Before
# each one its place in the list goes to standard error, as `trace: firn looks at 17`, so that the caller can go
# round it.
{ request }:
let
  inherit (builtins)
    attrNames concatMap elem elemAt filter genList intersectAttrs isAttrs isString length listToAttrs match
    seq trace tryEval;

  asked = builtins.fromJSON request;
  set = import ./load-pkgs.nix { inherit (asked) source system; config = asked.config or { }; };
  packages =
    if isAttrs set.packages then set.packages
    else throw "the package source is not an attribute set of packages but a ${builtins.typeOf set.packages}";
  top = attrNames packages;

  # A set that hand or company made, whose attributes can all be looked at.
  isSmall = length top <= 2000;
  # linuxPackages and its kin hold modules of one kernel each, and evaluate the kernel's configuration.
  isNamedAsSet = name:
    elem name knownSets
    || match ".*([Pp]ackages|[Pp]lugins|[Ee]xtensions|Modules|Dicts|Addons|Scripts|-fonts|-grammars|-providers)[0-9_]*" name != null
    && match "linux.*" name == null;
  # Sets of nixpkgs whose names do not say that they are sets.
  knownSets = [
    "gnome"
    "gst_all_1"
    "jetbrains"
    "kdePackages"
    "libretro"
    "libsForQt5"
    "lxqt"
    "mate"
    "minecraftServers"
    "nltk-data"
    "pantheon"
    "qt5"
    "qt6"
    "texlive"
    "unixtools"
    "xfce"
    "xorg"
  ];
  # Sets, but of functions, settings or the whole package set.
  isOther = name: elem name [ "lib" "builtins" "config" "options" "pkgs" ];

  candidates =
    if isSmall then filter (name: !(isOther name)) top
    else filter isNamedAsSet top;
  looked = if asked.look == null then candidates else asked.look;

  attempt = other: value:
    let result = tryEval value; in
    if result.success then result.value else other;

  # What package sets have in them that is no package.
  isMember = name: match "__.*" name == null && !(elem name [
    "buildPackages"
    "callPackage"
    "callPackages"
    "extend"
    "newScope"
    "override"
    "overrideAttrs"
    "overrideDerivation"
    "overrideScope"
    "overrideScope'"
    "packages"
    "pkgs"
    "recurseForDerivations"
    "targetPackages"
  ]);

  # Whether a set is the package set again (pkgsMusl, buildPackages): see resolve.nix.
  isAgain = value:
    let shared = length (attrNames (intersectAttrs packages value)); in
    length top >= 10 && shared * 10 >= length top * 9;

  isDerivation = value: attempt null (value.type or null) == "derivation";

  # Whether the attributes of a set are packages, as far as the set or its name says.
  isOfPackages = name: value:
    !(isOther name) && !(value ? __functor) && !(isAgain value)
    && (isSmall || isNamedAsSet name || attempt false (value.recurseForDerivations or false) == true);

  # The text without context, or null where it is none or evaluating it throws.
  string = value:
    let text = attempt null value; in
    if isString text && text != "" then builtins.unsafeDiscardStringContext text else null;

  summary = drv:
    let meta = attempt { } (drv.meta or { }); in
    {
      version = string (drv.version or null);
      main_program = if isAttrs meta then string (meta.mainProgram or null) else null;
      description = if isAttrs meta then string (meta.description or null) else null;
    };

  # The attribute at a place of the list, as a list of what there is to say of it.
  look = place:
    let
      name = elemAt looked place;
      value = trace "firn looks at ${toString place}" (attempt null (packages.${name} or null));
      names = filter isMember (attrNames value);
    in
    if !(isAttrs value) then [ ]
    else if isDerivation value then
      if asked.metadata then [{ kind = "package"; inherit name; value = summary value; }] else [ ]
    else if isOfPackages name value && names != [ ] then [{ kind = "set"; inherit name; value = names; }]
    else [ ];

  # Each is seen to the end before the next is begun, so that the place on standard error is the culprit's.
  seen = concatMap (place: let said = look place; in builtins.deepSeq said said) (genList (place: place) (length looked));
  ofKind = kind: listToAttrs (filter (said: said.kind == kind) seen);
in
{
  names = seq packages (ofKind "set" // { "" = top; });
  packages = ofKind "package";
  inherit candidates;
}
