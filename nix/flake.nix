# The packages of a locked flake, for load-pkgs.nix.
#
# source: { path = "/absolute/path"; flake = { dir, rev ? …, nar_hash ? … }; date ? seconds since 1970 }
#
# This is what `call-flake.nix` inside of Nix does, but with functions that every version has and that `restrict-eval`
# restricts. So experimental features stay off, and a flake that a client chose reaches no more than other expressions
# that clients choose. Store paths are those that `nix build` has, because the flake and its inputs are in the Nix store
# under the same names.
#
# Inputs are downloaded when something in them is evaluated. Only what the lock file pins by its hash is downloaded.
{ source, system }:
let
  inherit (builtins)
    attrNames compareVersions concatStringsSep filter fromJSON genList hasAttr head isFunction isList length mapAttrs nixVersion pathExists readFile
    removeAttrs stringLength substring tail toString typeOf;
  inherit (source) flake;

  # The files, in the Nix store. Their hash is known if they belong to a commit. Then they are copied once only.
  tree = builtins.path ({
    inherit (source) path;
    name = "source";
  } // (
    if flake ? nar_hash then { sha256 = flake.nar_hash; }
    # A repository's own data is not part of the content of a path.
    else { filter = path: type: baseNameOf path != ".git"; }
  ));
  rootInfo = { outPath = tree; } // revisionOf flake // timeOf source.date or null
    // (if flake ? nar_hash then { narHash = flake.nar_hash; } else { });

  revisionOf = info:
    if info ? rev then { inherit (info) rev; shortRev = substring 0 7 info.rev; } else { };
  timeOf = seconds:
    if seconds == null then { } else { lastModified = seconds; lastModifiedDate = dateOf seconds; };

  # YYYYMMDDhhmmss. The days are converted as in http://howardhinnant.github.io/date_algorithms.html.
  dateOf = seconds:
    let
      mod = a: b: a - b * (a / b);
      days = seconds / 86400 + 719468;
      time = mod seconds 86400;
      era = days / 146097;
      dayOfEra = days - era * 146097;
      yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146096) / 365;
      dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100);
      shifted = (5 * dayOfYear + 2) / 153;
      day = dayOfYear - (153 * shifted + 2) / 5 + 1;
      month = shifted + (if shifted < 10 then 3 else -9);
      year = yearOfEra + era * 400 + (if month <= 2 then 1 else 0);
      two = number: (if number < 10 then "0" else "") + toString number;
    in
    toString year + concatStringsSep "" (map two [ month day (time / 3600) (mod (time / 60) 60) (mod time 60) ]);

  rootPath = tree + (if flake.dir == "" then "" else "/" + flake.dir);
  lockPath = rootPath + "/flake.lock";
  wanted = attrNames ((import (rootPath + "/flake.nix")).inputs or { });
  lock =
    if pathExists lockPath then fromJSON (readFile lockPath)
    else if wanted == [ ] then { version = 7; root = "root"; nodes.root = { }; }
    else throw "the flake has inputs (${concatStringsSep ", " wanted}) but no flake.lock; run: nix flake lock";
  unlocked = filter (name: !(hasAttr name (lock.nodes.${lock.root}.inputs or { }))) wanted;

  nodes = mapAttrs node lock.nodes;

  node = key: entry:
    let
      locked = entry.locked or { };
      isRoot = key == lock.root;
      # An input inside of the flake that refers to it.
      isRelative = locked.type or null == "path" && substring 0 1 locked.path != "/";
      parent = nodes.${follow lock.root (entry.parent or [ ])};
      sourceInfo = if isRoot then rootInfo else if isRelative then parent.sourceInfo else fetch key locked;
      outPath =
        if isRoot then rootPath
        else if isRelative then parent.outPath + (if locked.path == "" then "" else "/" + locked.path)
        else sourceInfo.outPath + (if locked.dir or "" == "" then "" else "/" + locked.dir);
      expression = import (outPath + "/flake.nix");
      inputs = mapAttrs (_: input: nodes.${target input}.result) (entry.inputs or { });
      outputs = expression.outputs (inputs // { self = result; });
      result = outputs // sourceInfo // { inherit outPath inputs outputs sourceInfo; _type = "flake"; };
    in
    {
      inherit outPath sourceInfo;
      result =
        if !(entry.flake or true) then sourceInfo // { inherit sourceInfo outPath; }
        else if isFunction expression.outputs then result
        else throw "the outputs of the flake ${outPath} are not a function but a ${typeOf expression.outputs}";
    };

  # The name of the node that an input refers to: itself, or a path from the root by which it follows another input.
  target = input: if isList input then follow lock.root input else input;
  follow = name: path:
    if path == [ ] then name else follow (target lock.nodes.${name}.inputs.${head path}) (tail path);

  fetch = key: locked:
    let
      sha256 = locked.narHash or (throw "flake.lock has no hash of the input ${key}");
      tarball = url: { outPath = builtins.fetchTarball { inherit url sha256; }; };
      at = { host ? "github.com", owner, repo, rev, ... }: "https://${host}/${owner}/${repo}/archive/${rev}.tar.gz";
      fetchers = {
        github = tarball (at locked);
        sourcehut = tarball (at ({ host = "git.sr.ht"; } // locked));
        gitlab =
          let project = builtins.replaceStrings [ "/" ] [ "%2F" ] "${locked.owner}/${locked.repo}"; in
          tarball "https://${locked.host or "gitlab.com"}/api/v4/projects/${project}/repository/archive.tar.gz?sha=${locked.rev}";
        tarball = tarball locked.url;
        path = { outPath = builtins.path { inherit (locked) path; name = "source"; inherit sha256; }; };
        git = builtins.fetchGit ({
          inherit (locked) url rev narHash;
          submodules = locked.submodules or false;
        }
        // (if locked ? ref then { inherit (locked) ref; } else { allRefs = true; })
        # Flakes have all files of the commit, and `fetchGit` does not since it knows this argument.
        // (if compareVersions nixVersion "2.20" < 0 then { } else { exportIgnore = false; }));
      };
    in
    timeOf locked.lastModified or null // revisionOf locked // { narHash = sha256; }
    // fetchers.${locked.type} or (throw
      "the input ${key} of the flake is of the type ${locked.type}, which this registry cannot download");

  inherit (nodes.${lock.root}) result;
  outputs = if unlocked == [ ] then result.outputs else
  throw "flake.lock lacks inputs of the flake (${concatStringsSep ", " unlocked}); run: nix flake lock";
  sets = filter (set: outputs ? ${set}) [ "legacyPackages" "packages" ];
  systems = filter (set: outputs.${set} ? ${system}) sets;
in
# The same as `nix build` finds: something in `packages` comes before something of the same name in `legacyPackages`.
if sets == [ ] then throw "the flake has neither legacyPackages nor packages"
else if systems == [ ] then null
else builtins.foldl' (all: set: all // outputs.${set}.${system}) { } systems
