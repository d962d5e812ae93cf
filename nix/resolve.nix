# Resolves package names to derivations of a package set.
#
#   nix-instantiate --eval --strict --json --read-write-mode \
#     --option allow-import-from-derivation false resolve.nix --argstr request "$JSON"
#
# request: { "source": see load-pkgs.nix, "system": "x86_64-linux", "config": { "allowUnfree": false },
#            "attributes": [ "git", "openssl.dev", "python3packages.requests" ], "explain": false, "proves": false }
# answer:  { "packages": { "<as asked>": { "ok": package } | { "problem": problem } },
#            "revision_date": seconds since 1970 or null }
#
# As a side effect, Nix writes the .drv files of resolved packages. It builds nothing. Names are evaluated one at a
# time. An error that `tryEval` can catch becomes a problem of that name only. An error that it cannot catch (a missing
# attribute, a type error, `abort`) ends the evaluation; then ask for each name separately. With "explain", nothing is
# caught, so that Nix prints the message of a `throw`; then ask for one name only.
#
# With "proves", what a package says of its store paths is not believed: they must be those of the derivation that its
# attributes make.
#
# Works with Nix 2.8 and newer. The package set must be an attribute set; it needs neither `lib` nor `stdenv`.
{ request }:
let
  inherit (builtins)
    attrNames concatMap elem elemAt filter genList head isAttrs isList isString length listToAttrs
    replaceStrings split stringLength tail tryEval;

  asked = builtins.fromJSON request;
  inherit (asked) system;
  config = asked.config or { };
  explain = asked.explain or false;
  proves = asked.proves or false;
  set = import ./load-pkgs.nix { inherit (asked) source; inherit system config; };
  packages =
    if isAttrs set.packages then set.packages
    else if set.packages == null then throw "the flake has no packages for ${system}"
    else throw "the package source is not an attribute set of packages but a ${builtins.typeOf set.packages}";

  # The value, or `other` if evaluating it throws.
  attempt = other: value:
    let result = tryEval value; in
    if result.success then result.value else other;
  # As above, but with "explain" the throw is not caught.
  attemptOrExplain = other: value: if explain then value else attempt other value;

  failed = { _type = "firn-failed"; };
  isFailed = value: isAttrs value && attempt null (value._type or null) == "firn-failed";

  problem = kind: message: candidates: { problem = { inherit kind message candidates; }; };
  # `reason` is a message of the package set, which only some clients may see.
  refused = kind: message: reason: {
    problem = { inherit kind message; candidates = [ ]; reason = if reason == "" then null else reason; };
  };
  # `prefix` is the part of the name that exists; `candidates` are the attributes in it.
  notFound = prefix: message: candidates: {
    problem = { kind = "not_found"; inherit message candidates prefix; };
  };
  quote = text: "‘${text}’";
  join = separator: parts:
    if parts == [ ] then "" else builtins.foldl' (all: part: "${all}${separator}${part}") (head parts) (tail parts);

  letters = text: filter (part: isString part && part != "") (split "" text);
  lower = replaceStrings (letters "ABCDEFGHIJKLMNOPQRSTUVWXYZ") (letters "abcdefghijklmnopqrstuvwxyz");

  # The attributes of `value` that match `component`: the attribute of exactly this name, else those that differ only by
  # case, else the same for the name with an underscore in front (image names cannot begin with one).
  matches = value: component:
    let
      differingByCase = text:
        filter (name: stringLength name == stringLength text && lower name == text) (attrNames value);
      from = text: if value ? ${text} then [ text ] else differingByCase text;
      plain = from component;
    in
    if plain != [ ] then plain else from "_${component}";

  isDerivation = value: isAttrs value && attempt null (value.type or null) == "derivation";

  # Whether a set is the package set again, usually for another platform (pkgsMusl, pkgsCross.riscv64). It is if it has
  # at least nine tenths of the package set's names. Such sets contain each other without end.
  isAgain = value:
    let shared = length (attrNames (builtins.intersectAttrs packages value)); in
    size >= 10 && shared * 10 >= size * 9;
  size = length (attrNames packages);

  # Resolves `components` in `at`. The result is { ok = package; } or { problem = …; }. `at` is
  # { value; path = [ names ]; again = whether the path goes through a set that is the package set again; }.
  descend = at: components:
    let
      component = head components;
      fits = matches at.value component;
      results = map (name: enter at name (tail components)) fits;
      prefix = join "." at.path;
    in
    if fits == [ ] then
      notFound prefix
        "${if at.path == [ ] then "the package set" else quote prefix} has no attribute ${quote component}"
        (attrNames at.value)
    else if length fits == 1 then head results
    else agreed component (map (fit: join "." (at.path ++ [ fit ])) fits) results;

  # The common result of attributes that differ only by case. Usually one is an alias of the other: the same derivation,
  # or a `throw` with the new name.
  agreed = component: attributes: results:
    let
      isGone = result: result ? problem && elem result.problem.kind [ "eval_error" "not_found" ];
      present = filter (result: !(isGone result)) results;
      first = head present;
      agrees = result:
        if first ? ok then result ? ok && result.ok.drv == first.ok.drv
        else result ? problem && result.problem.kind == first.problem.kind;
    in
    if present == [ ] then head results
    else if builtins.all agrees present then first
    else problem "ambiguous" "${quote component} fits several attributes" attributes;

  # Resolves `rest` in the attribute `name` of `at`.
  enter = at: name: rest:
    let
      value = attemptOrExplain failed at.value.${name};
      path = at.path ++ [ name ];
      full = join "." path;
      again = isAgain value;
      # Only the names. Whether they are packages shows only when they are evaluated.
      members = map (member: "${full}.${member}") (firsts 20 (attrNames value));
    in
    if isFailed value then problem "eval_error" "evaluating ${quote full} fails" [ ]
    else if isDerivation value then inPackage value { inherit value path; inherit (at) again; } rest
    else if !(isAttrs value) then
      problem "not_a_package"
        "${quote full} is ${kindOf value}, ${if rest == [ ] then "not a package" else "so it has no packages in it"}" [ ]
    else if rest == [ ] then
      problem "not_a_package" "${quote full} is a set, not a package; ask for something in it" members
    else if again && (at.again || name == "pkgs") then
      problem "not_a_package" "${quote full} is the package set again; ask for ${quote (join "." rest)} without it" [ ]
    else descend { inherit value path; again = at.again || again; } rest;

  kindOf = value:
    let type = builtins.typeOf value; in
    if type == "lambda" then "a function" else "a ${type}";

  resolve = attribute:
    let components = filter isString (split "\\." attribute); in
    if set.packages == null then problem "unsupported_system" "the flake has no packages for ${system}" [ ]
    else if elem "" components then notFound "" "${quote attribute} has an empty component" [ ]
    else descend { value = packages; path = [ ]; again = false; } components;

  firsts = count: list: genList (elemAt list) (if length list < count then length list else count);

  outputsOf = drv:
    let named = strings (attempt [ ] (drv.outputs or [ ])); in
    if named == [ ] then [ "out" ] else named;

  # Resolves `rest` in a derivation: the derivation itself if `rest` is empty, else an output, else an attribute
  # (gcc.cc, python3.pkgs.requests).
  inPackage = drv: at: rest:
    let
      full = join "." at.path;
      outputs = outputsOf drv;
      fits = matches (listToAttrs (map (name: { inherit name; value = null; }) outputs)) (head rest);
    in
    if rest == [ ] then package drv full (installed drv outputs)
    else if fits != [ ] && length rest == 1 then package drv full fits
    else if fits != [ ] then
      problem "not_a_package" "${quote "${full}.${head fits}"} is an output of a package, so it has no packages in it" [ ]
    else if matches drv (head rest) == [ ] then
      notFound full "the package ${quote full} has no output ${quote (head rest)}" outputs
    else descend at rest;

  # The package that consists of these outputs of a derivation.
  package = drv: full: chosen:
    let
      drvPath = attemptOrExplain null drv.drvPath;
      built = map (output: { name = output; path = pathOf drv output; }) chosen;
      isBuildable = isString drvPath && drvPath != "" && builtins.all (output: output.path != null) built;
      paths = [ drvPath ] ++ map (output: output.path) built;
    in
    if isBuildable && builtins.any isPlaceholder paths then
      problem "not_a_package"
        "${quote full}, or something that it is made of, is content-addressed or impure, so that its store path is known only when it is built; this registry serves no such packages" [ ]
    else if isBuildable && !(builtins.all isStorePath paths) then
      problem "not_a_package" "${quote full} is not a derivation of this Nix store" [ ]
    else if isBuildable && proves && !(isProved drv drvPath built) then
      problem "not_a_package" "${quote full} names store paths of another derivation than its own" [ ]
    else if isBuildable then {
      ok = metadata drv full // {
        attribute = full;
        drv = builtins.unsafeDiscardStringContext drvPath;
        outputs = built;
      };
    }
    else refusal drv full;

  # Whether these are the store paths of the derivation that `drv` is made of. Any set can claim to be a derivation with
  # any store path, and then the registry would serve that path, whoever may read it. `drvAttrs` are what `derivation`
  # was called with. To make attributes that give a certain store path, one needs all its inputs, or the hash of its
  # content. The context of the strings proves nothing: `builtins.appendContext` makes any.
  isProved = drv: drvPath: built:
    let
      made = attempt { } (builtins.derivationStrict drv.drvAttrs);
      names = value: path: isString value && builtins.unsafeDiscardStringContext value == path;
    in
    isAttrs (attempt null (drv.drvAttrs or null))
    && names (made.drvPath or null) (builtins.unsafeDiscardStringContext drvPath)
    && builtins.all (output: names (made.${output.name} or null) output.path) built;

  pathOf = drv: output:
    let
      value = attemptOrExplain null (if drv ? ${output} then drv.${output}.outPath else drv.outPath);
    in
    if isString value then builtins.unsafeDiscardStringContext value else null;

  # Whether a path is a placeholder for an output path that is not known yet. Content-addressed and impure derivations
  # have placeholders, and so have all derivations that depend on them.
  isPlaceholder = path: builtins.match "/[0-9a-z]{52}" path != null;
  isStorePath = path:
    builtins.match "${builtins.storeDir}/[0-9a-df-np-sv-z]{32}-[0-9a-zA-Z+._?=-]+" path != null;

  # The outputs to install according to `meta`, without documentation; else the default output.
  installed = drv: outputs:
    let
      meta = metaOf drv;
      wanted = filter (output: elem output outputs) (strings (attempt [ ] (meta.outputsToInstall or [ ])));
      programs = filter (output: !(elem output [ "man" "doc" "devdoc" "info" ])) wanted;
      default = attempt null (drv.outputName or null);
    in
    if programs != [ ] then programs
    else if isString default && elem default outputs then [ default ]
    else firsts 1 outputs;

  strings = value: if isList value then concatMap (item: let text = string item; in if text == null then [ ] else [ text ]) value else [ ];

  # The string without its context. Null if it is empty or not a string, or if evaluating it throws.
  string = value:
    let text = attempt null value; in
    if isString text && text != "" then builtins.unsafeDiscardStringContext text else null;

  metaOf = drv: let meta = attempt { } (drv.meta or { }); in if isAttrs meta then meta else { };

  metadata = drv: full:
    let
      meta = metaOf drv;
      name = string (drv.name or null);
      parsed = builtins.parseDrvName (if name == null then "" else name);
      orElse = other: value: if value == null && other != "" then other else value;
      homepages = attempt null (meta.homepage or null);
    in
    {
      name = orElse full name;
      pname = orElse parsed.name (string (drv.pname or null));
      version = orElse parsed.version (string (drv.version or null));
      license = concatMap licenseName (listOf (attempt null (meta.license or null)));
      main_program = string (meta.mainProgram or null);
      description = string (meta.description or null);
      homepage = if isList homepages && homepages != [ ] then string (head homepages) else string homepages;
    };

  listOf = value: if value == null then [ ] else if isList value then value else [ value ];

  licenseName = value:
    let
      license = attempt null value;
      names =
        if isAttrs license then map string [ (license.spdxId or null) (license.shortName or null) (license.fullName or null) ]
        else [ (string license) ];
    in
    firsts 1 (filter (name: name != null) names);

  # Why the check-meta of nixpkgs, or a similar check, refuses a derivation. The order of the checks is that of
  # check-meta. Newer package sets have the results in `meta`; older ones have only the attributes that they follow
  # from.
  refusal = drv: full:
    let
      meta = metaOf drv;
      name = string (drv.name or null);
      flag = flagName: other:
        let said = attempt null (meta.${flagName} or null); in
        if said == true || said == false then said else other;
      isUnfree = value: let license = attempt null value; in isAttrs license && attempt true (license.free or true) == false;
      unfree = flag "unfree" (builtins.any isUnfree (listOf (attempt null (meta.license or null))));
      broken = flag "broken" false;
      vulnerabilities = strings (attempt [ ] (meta.knownVulnerabilities or [ ]));
      insecure = flag "insecure" (vulnerabilities != [ ]);
      # A platform can also be a pattern. Only the `unsupported` of newer package sets handles patterns.
      listed = attempt [ ] (meta.platforms or [ ]);
      platforms = if isList listed then listed else [ ];
      isListed = platforms == [ ] || !(builtins.all isString platforms) || elem system platforms;
      isBad = let bad = attempt [ ] (meta.badPlatforms or [ ]); in isList bad && elem system bad;
      unsupported = flag "unsupported" (!isListed || isBad);
      licenses = join ", " (metadata drv full).license;
    in
    if unfree && !(config.allowUnfree or false) then
      refused "unfree" "${quote full} has an unfree license, which this package set is not configured to allow" licenses
    else if broken && !(config.allowBroken or false) then
      problem "broken" "${quote full} is marked as broken in this package set" [ ]
    else if unsupported && !(config.allowUnsupportedSystem or false) then
      problem "unsupported_system" "${quote full} is not available on ${system}" [ ]
    else if insecure && !(elem name (config.permittedInsecurePackages or [ ])) then
      refused "insecure" "${quote full} is marked as insecure" (join "; " vulnerabilities)
    else
      problem "eval_error" "evaluating ${quote full} fails" [ ];
in
{
  # The package set is loaded even if there are no attributes to resolve. So an empty request tests whether it loads.
  packages =
    let answer = listToAttrs (map (name: { inherit name; value = resolve name; }) asked.attributes); in
    if set.packages == null && asked.attributes != [ ] then answer else builtins.seq packages answer;
  revision_date = set.date;
}
