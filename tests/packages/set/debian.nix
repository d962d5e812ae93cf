# One derivation for each entry of index.json (written by `generate`): Debian packages unpacked and
# fixed by unpack.py. The builders use the host's bash, python3, dpkg-deb and patchelf.
{ index, checkMeta }:
let
  script = builtins.path { path = ./unpack.py; name = "unpack.py"; recursive = false; };

  # With a given hash, a .deb that is already in the store is not read again.
  source = name: deb: builtins.path {
    path = ./debs + "/${deb.file}";
    name = "${name}.deb";
    recursive = false;
    sha256 = deb.sha256;
  };

  # All outputs of a dependency, first the one with its libraries, which dependents need most.
  outputsOf = name:
    let
      drv = derivations.${name};
      main = if builtins.elem "out" drv.outputs then "out" else builtins.head drv.outputs;
    in
    map (output: drv.${output}.outPath) ([ main ] ++ builtins.filter (output: output != main) drv.outputs);

  named = names: builtins.listToAttrs (map (name: { inherit name; value = outputsOf name; }) names);

  derivations = builtins.mapAttrs
    (id: node: derivation {
      name = "${node.pname}-${node.version}";
      inherit (index) system;
      inherit (node) outputs;
      builder = "/bin/bash";
      # Ends with a builtin: Nix 2.8 can mistake the end of an exec'd program for a kill.
      args = [ "-c" ''/usr/bin/python3 -I -X utf8 ${script}; status=$?; exit "$status"'' ];
      PATH = "/usr/bin:/bin";
      recipe = builtins.toJSON {
        inherit (index) triplet;
        inherit (node) outputs depends keep links join wrap;
        libc = id == "glibc";
        debs = builtins.mapAttrs source node.debs;
        deps = named node.deps;
        use = named node.use;
        files = builtins.mapAttrs (_: file: builtins.readFile (./files + "/${file}")) node.files;
      };
    })
    index.nodes;

  license = id: { spdxId = id; shortName = id; fullName = id; free = true; };

  package = id: node: checkMeta derivations.${id}
    ({
      inherit (node) description;
      outputsToInstall = node.install;
    }
    // (if node.anywhere then { } else { platforms = [ index.system ]; })
    // (if node.homepage == null then { } else { inherit (node) homepage; })
    // (if node.license == null then { } else { license = map license node.license; })
    // (if node.main == null then { } else { mainProgram = node.main; }))
    { inherit (node) pname version; };

  # { attribute = [ "a" "b" ]; } … -> { a.b = …; }: at most two levels.
  insert = attributes: id:
    let
      path = index.nodes.${id}.attribute;
      name = builtins.head path;
      value = package id index.nodes.${id};
    in
    attributes // {
      ${name} =
        if builtins.length path == 1 then value
        else (attributes.${name} or { recurseForDerivations = true; }) // { ${builtins.elemAt path 1} = value; };
    };
in
builtins.foldl' insert { } (builtins.attrNames index.nodes)
