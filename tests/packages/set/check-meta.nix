# Like nixpkgs' check-meta.nix: a derivation whose `meta` forbids it still has its name and meta, but evaluating its
# paths throws. Its meta says why.
{ system, config }:
let
  licenses = meta: if builtins.isList (meta.license or [ ]) then meta.license or [ ] else [ meta.license ];
  flags = name: meta: {
    unfree = builtins.any (license: !(license.free or true)) (licenses meta);
    broken = meta.broken or false;
    insecure = meta.knownVulnerabilities or [ ] != [ ];
    unsupported = !(builtins.elem system (meta.platforms or [ system ]));
  };
  refusal = name: flag:
    if flag.unfree && !(config.allowUnfree or false) then
      "has an unfree license"
    else if flag.broken && !(config.allowBroken or false) then
      "is marked as broken"
    else if flag.unsupported && !(config.allowUnsupportedSystem or false) then
      "is not available on the requested hostPlatform (${system})"
    else if flag.insecure && !(builtins.elem name (config.permittedInsecurePackages or [ ])) then
      "is marked as insecure"
    else
      null;
in
# drv: the result of `derivation`. meta: as in nixpkgs. extra: further attributes (pname, version…).
drv: meta: extra:
let
  flag = flags drv.name meta;
  reason = refusal drv.name flag;
  allow = value:
    if reason == null then value else throw "Package ‘${drv.name}’ ${reason}, refusing to evaluate.";
  common = extra // {
    meta = { outputsToInstall = [ "out" ]; } // meta // flag // { available = reason == null; name = drv.name; };
  };
  guard = output: {
    name = output;
    value = drv.${output} // common // {
      outPath = allow drv.${output}.outPath;
      drvPath = allow drv.${output}.drvPath;
    } // outputs;
  };
  outputs = builtins.listToAttrs (map guard drv.outputs);
in
outputs.${builtins.head drv.outputs}
