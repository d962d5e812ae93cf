# Small packages that are difficult on purpose, each in one way. README.md lists them for tests.
#
# `salt` changes the store paths of the slow ones, so that a test can have them built again.
{ index, bash, checkMeta, salt }:
let
  # A derivation that uses the host's shell. The script ends with a builtin (see debian.nix).
  make = { pname, version ? "1.0", script, meta ? { }, environment ? { }, extra ? { } }:
    let
      drv = derivation ({
        name = "${pname}-${version}";
        inherit (index) system;
        outputs = [ "out" ];
        builder = "/bin/bash";
        args = [ "-e" "-c" "${script}\nexit 0" ];
        PATH = "/usr/bin:/bin";
      } // environment);
      free = { spdxId = "MIT"; shortName = "mit"; fullName = "MIT License"; free = true; };
    in
    checkMeta drv ({ description = "Test package ${pname}"; license = free; } // meta)
      ({ inherit pname version; } // extra);

  # A package with one text file, named after it.
  text = arguments@{ pname, ... }: make ({
    script = ''
      mkdir -p "$out/share/${pname}"
      echo ${pname} > "$out/share/${pname}/name"
    '';
  } // arguments);

  # A package with one program that prints a greeting.
  greeter = pname: arguments: make ({
    inherit pname;
    script = ''
      mkdir -p "$out/bin"
      printf '%s\n' '#!${bash}/bin/bash' 'echo "Hello from ${pname}"' > "$out/bin/${pname}"
      chmod +x "$out/bin/${pname}"
    '';
  } // arguments // { meta = { mainProgram = pname; platforms = [ index.system ]; } // arguments.meta or { }; });

  slow = pname: seconds: text {
    inherit pname;
    environment = { inherit salt; };
    script = ''
      for i in {1..${toString seconds}}; do
        echo "step $i of ${toString seconds}"
        sleep 1
      done
      mkdir -p "$out/share/${pname}"
      echo ${pname} > "$out/share/${pname}/name"
    '';
  };

  failing = make {
    pname = "fails-to-build";
    environment = { inherit salt; };
    script = ''
      echo "configuring"
      echo "compiling main.c"
      echo "main.c:3: error: the snow has melted" >&2
      exit 3
    '';
  };

  unfree = greeter "unfree-hello" {
    meta.license = { shortName = "unfree"; fullName = "Unfree"; free = false; };
  };

  slowish = builtins.genList (i: slow "slowish-${toString (i + 1)}" 5) 4;

  # Each refers to the one before: a closure of many small paths.
  chain = builtins.foldl'
    (before: i: text {
      pname = "many-paths-${toString i}";
      environment = { inherit before; };
      script = ''
        mkdir -p "$out/share/many-paths"
        echo "$before" > "$out/share/many-paths/${toString i}"
      '';
    }) "the end"
    (builtins.genList (i: i + 1) 199);
in
{
  # Names.
  helloWorld = greeter "hello-world" { };
  twinCase = text { pname = "twin-case"; };
  TwinCase = text { pname = "twin-case"; version = "2.0"; };
  _1password = text { pname = "1password"; };
  _7zz = text { pname = "7zz"; };
  nested = {
    recurseForDerivations = true;
    camelCase = text { pname = "nested-camel-case"; };
    deeper.evenDeeper = text { pname = "nested-even-deeper"; };
  };

  # Not packages.
  lib = { version = "23.05"; id = x: x; };
  callPackage = f: arguments: f arguments;
  version = "1.0";

  # Refused by their meta.
  unfree-hello = unfree;
  broken-hello = greeter "broken-hello" { meta.broken = true; };
  insecure-hello = greeter "insecure-hello" { meta.knownVulnerabilities = [ "CVE-2024-0000: melts" ]; };
  unsupported-hello = greeter "unsupported-hello" { meta.platforms = [ "m68k-linux" ]; };
  depends-on-unfree = text { pname = "depends-on-unfree"; environment.dependency = unfree; };

  # Evaluation fails in a way that tryEval catches …
  throws = throw "throws has been removed; use hello instead";
  # … and in ways that it does not.
  hazards = {
    missing-attribute = { }.attribute;
    type-error = text { pname = "type-error"; version = 1 + "1"; };
    aborts = abort "aborts gives up";
    infinite-recursion = let x = x; in x;
    # Neither ends: the first keeps a core busy, the second uses more and more memory.
    endless = let fib = n: if n < 2 then n else fib (n - 1) + fib (n - 2); in fib 90;
    hungry = builtins.length (builtins.genericClosure {
      startSet = [{ key = 0; }];
      operator = { key }: [{ key = key + 1; }];
    });
  };

  # Building fails, or takes its time.
  fails-to-build = failing;
  depends-on-failing = text { pname = "depends-on-failing"; environment.dependency = failing; };
  slow-build = slow "slow-build" 60;
  slowish-1 = builtins.elemAt slowish 0;
  slowish-2 = builtins.elemAt slowish 1;
  slowish-3 = builtins.elemAt slowish 2;
  slowish-4 = builtins.elemAt slowish 3;
  slowish-all = text {
    pname = "slowish-all";
    environment = { inherit slowish; };
    script = ''
      mkdir -p "$out/share/slowish-all"
      printf '%s\n' $slowish > "$out/share/slowish-all/paths"
    '';
  };

  # Contents of store paths.
  empty-directory = make {
    pname = "empty-directory";
    script = ''mkdir -p "$out"/share/empty-directory/{empty,nested/empty}'';
  };
  hardlink = make {
    pname = "hardlink";
    script = ''
      mkdir -p "$out/share/hardlink"
      echo "one file, two names" > "$out/share/hardlink/first"
      ln "$out/share/hardlink/first" "$out/share/hardlink/second"
    '';
  };
  setuid = make {
    pname = "setuid";
    script = ''
      mkdir -p "$out/bin"
      printf '%s\n' '#!/bin/sh' 'id' > "$out/bin/setuid"
      chmod 0755 "$out/bin/setuid"
      # Nix refuses, or takes the bit away when it registers the path.
      chmod 6755 "$out/bin/setuid" || echo "setuid was refused"
    '';
  };
  sparse-file = make {
    pname = "sparse-file";
    script = ''
      mkdir -p "$out/share/sparse-file"
      # 8 GiB is the most that a classic tar header can say.
      truncate -s 8590000000 "$out/share/sparse-file/sparse"
      printf 'the end' >> "$out/share/sparse-file/sparse"
    '';
  };
  incompressible = make {
    pname = "incompressible";
    script = ''
      mkdir -p "$out/share/incompressible"
      /usr/bin/python3 -I -c '
      import hashlib, sys
      for block in range(128):
          sys.stdout.buffer.write(hashlib.shake_128(b"firn %d" % block).digest(1 << 20))
      ' > "$out/share/incompressible/noise"
    '';
  };
  long-names = make {
    pname = "long-names";
    script = ''
      share=$out/share/long-names
      ten=0123456789
      hundred=$ten$ten$ten$ten$ten$ten$ten$ten$ten$ten
      # A name of more than 100 bytes, one of the longest possible, paths of more than 255 and 1000.
      mkdir -p "$share/$hundred/$hundred/$hundred/$hundred/$hundred/$hundred/$hundred/$hundred/$hundred/$hundred"
      echo 101 > "$share/x$hundred"
      echo 255 > "$share/$hundred$hundred''${ten:5}$ten$ten$ten$ten$ten"
      echo 300 > "$share/$hundred/$hundred/$hundred/file"
      echo 1000 > "$share/$hundred/$hundred/$hundred/$hundred/$hundred/$hundred/$hundred/$hundred/$hundred/$hundred/file"
      ln -s "x$hundred" "$share/link-101"
      ln -s "$hundred/$hundred/$hundred/file" "$share/link-300"
      ln -s "$share/$hundred/$hundred/$hundred/file" "$share/link-absolute"
      ln -s "$hundred/$hundred/$hundred/$hundred/$hundred/$hundred/$hundred/$hundred/$hundred/$hundred/file" "$share/y$hundred"
      ln "$share/$hundred/$hundred/$hundred/file" "$share/$hundred/$hundred/$hundred/hardlink"
    '';
  };
  unusual-names = make {
    pname = "unusual-names";
    script = ''
      mkdir -p "$out/share/unusual-names"
      cd "$out/share/unusual-names"
      i=0
      for name in 'a space' ' leading' 'trailing ' '-rf' '--option' '*' '~' '$(id)' '`id`' 'a"quote' "an'apostrophe" \
        'a\backslash' 'a:colon' 'a%2fpercent' 'a=equals' 'Firn und Schnee ❄' $'new\nline' $'tab\t' $'bell\a' $'escape\e[31m' \
        $'latin1-\xe9' $'invalid-\xff\xfe' $'nfc-\xc3\xa9' $'nfd-e\xcc\x81' '.hidden' '...' 'CON' 'UPPER' 'upper'
      do
        i=$((i + 1))
        echo "$i" > "./$name"
      done
      ln -s $'invalid-\xff\xfe' $'link-\xff'
      ln -s $'new\nline' link-newline
      mkdir $'directory-\xff'
      echo inside > $'directory-\xff/inside'
    '';
  };
  odd-links = make {
    pname = "odd-links";
    script = ''
      mkdir -p "$out/share/odd-links/directory"
      cd "$out/share/odd-links"
      ln -s nowhere dangling
      ln -s loop loop
      ln -s /etc/hostname absolute
      ln -s ../../../../../../etc/shadow outside
      ln -s directory link-to-directory
      ln -s . self
    '';
  };
  file-output = make { pname = "file-output"; script = ''echo "a file, not a directory" > "$out"''; };
  image-paths = make {
    pname = "image-paths";
    script = ''
      mkdir -p "$out"/{tmp,etc/ssl/certs,nix/store/foreign,proc,dev,usr/bin,root}
      echo left-behind > "$out/tmp/left-behind"
      echo 'mallory:x:0:0::/:/bin/sh' > "$out/etc/passwd"
      echo 'mallory:x:0:' > "$out/etc/group"
      echo not-a-certificate > "$out/etc/ssl/certs/ca-bundle.crt"
      echo foreign > "$out/nix/store/foreign/file"
      echo env > "$out/usr/bin/env"
      echo null > "$out/dev/null"
    '';
  };
  conflict-a = make {
    pname = "conflict-a";
    script = ''mkdir -p "$out/share/conflict"; echo a > "$out/share/conflict/file"; echo a > "$out/share/conflict/a"'';
  };
  conflict-b = make {
    pname = "conflict-b";
    script = ''mkdir -p "$out/share/conflict"; echo b > "$out/share/conflict/file"; echo b > "$out/share/conflict/b"'';
  };
  conflict-file = make {
    pname = "conflict-file";
    script = ''mkdir -p "$out/share"; echo file > "$out/share/conflict-kind"'';
  };
  conflict-directory = make {
    pname = "conflict-directory";
    script = ''mkdir -p "$out/share/conflict-kind"; echo inside > "$out/share/conflict-kind/inside"'';
  };
  conflict-link = make {
    pname = "conflict-link";
    script = ''
      mkdir -p "$out/share/conflict-link/elsewhere"
      echo elsewhere > "$out/share/conflict-link/elsewhere/linked"
      ln -s conflict-link/elsewhere "$out/share/conflict-kind"
    '';
  };
  many-paths = chain;
}
