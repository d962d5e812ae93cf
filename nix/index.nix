# Lists the names of a package set, with metadata of its packages, for suggestions and `firn search`.
#
#   nix-instantiate --eval --strict --json --read-write-mode \
#     --option allow-import-from-derivation false index.nix --argstr request "$JSON"
#
# request: { "source": see load-pkgs.nix, "system": "x86_64-linux", "config": { "allowUnfree": false },
#            "look": null | [ attributes of the package set ], "metadata": false }
# answer:  { "names": { "": [ top-level attributes ], "<attribute of a set>": [ its attributes ] },
#            "packages": { "<attribute>": { "version", "main_program", "description": text or null } },
#            "candidates": [ the attributes that are evaluated if `look` is null ] }
#
# Whether an attribute is a package or a set shows only when it is evaluated. For all of nixpkgs that takes minutes and
# gigabytes. So `look` lists the attributes to evaluate. If `look` is null, only the candidates are evaluated:
# attributes whose names say that they are sets (python3Packages, vimPlugins, xorg), or all attributes if the package
# set is small. With "metadata", the answer has the metadata of the packages among the evaluated attributes. No
# derivation is instantiated.
#
# An error that `tryEval` cannot catch (`abort`, a type error, infinite recursion) ends the evaluation. Before each
# attribute, its index in the list is printed to standard error, as `trace: firn looks at 17`, so that the caller can
# leave the attribute out.
{ request }:
let
  inherit (builtins)
    attrNames concatMap elem elemAt filter genList intersectAttrs isAttrs isString length listToAttrs match
    seq trace tryEval;

  asked = builtins.fromJSON request;
  set = import ./load-pkgs.nix { inherit (asked) source system; config = asked.config or { }; };
  packages =
    if isAttrs set.packages then set.packages
    # A flake without packages for this system.
    else if set.packages == null then { }
    else throw "the package source is not an attribute set of packages but a ${builtins.typeOf set.packages}";
  top = attrNames packages;

  # Whether the package set is so small that all attributes can be evaluated.
  isSmall = length top <= 2000;
  # Leaves out linuxPackages and similar sets: each has the modules of one kernel, and evaluates that kernel's
  # configuration.
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
  # Sets that contain functions, settings or the whole package set.
  isOther = name: elem name [ "lib" "builtins" "config" "options" "pkgs" ];

  candidates =
    if isSmall then filter (name: !(isOther name)) top
    else filter isNamedAsSet top;
  looked = if asked.look == null then candidates else asked.look;

  attempt = other: value:
    let result = tryEval value; in
    if result.success then result.value else other;

  # Leaves out attributes that package sets have but that are not packages.
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

  # Whether a set is the package set again (pkgsMusl, buildPackages); see resolve.nix.
  isAgain = value:
    let shared = length (attrNames (intersectAttrs packages value)); in
    length top >= 10 && shared * 10 >= length top * 9;

  isDerivation = value: attempt null (value.type or null) == "derivation";

  # Whether the attributes of a set are packages, judging from the set's attributes and its name.
  isOfPackages = name: value:
    !(isOther name) && !(value ? __functor) && !(isAgain value)
    && (isSmall || isNamedAsSet name || attempt false (value.recurseForDerivations or false) == true);

  # The string without its context. Null if it is empty or not a string, or if evaluating it throws.
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

  # Evaluates the attribute at an index of the list. Returns a list with its summary or names, or an empty list.
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

  # Each attribute is evaluated completely before the next. So if the evaluation ends, the last index on standard error
  # is that of the faulty attribute.
  seen = concatMap (place: let said = look place; in builtins.deepSeq said said) (genList (place: place) (length looked));
  ofKind = kind: listToAttrs (filter (said: said.kind == kind) seen);
in
{
  names = seq packages (ofKind "set" // { "" = top; });
  packages = ofKind "package";
  inherit candidates;
}
