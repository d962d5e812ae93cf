# Packages that have the same names in every possible way.
# `product` names files, by package, of lines "NAME SHAPE"; `script` is shapes.py.
{ product, script }:
{ system, ... }:
let
  make = name: variables: text: derivation (variables // {
    inherit name system;
    builder = "/bin/bash";
    args = [ "-e" "-c" "${text}\nexit 0" ];
    PATH = "/usr/bin:/bin";
  });

  # The targets of other packages' links.
  target = own: make "target-${own}" { inherit own; } ''
    mkdir -p $out/directory/below $out/bin $out/share/man $out/share/$own
    for file in file directory/x directory/of-$own directory/below/y directory/below/of-$own \
      bin/x bin/target-$own share/man/page share/man/of-$own share/$own/file
    do echo $own > $out/$file; done
    ln -s directory $out/chain-1
    ln -s chain-1 $out/chain-2
    ln -s $out/chain-2 $out/chain-3
  '';
  common = target "common";

  filled = own: names: make "names-${own}"
    { inherit own names common script; other = target own; }
    "python3 -I $script";
  single = own: shape: filled own (builtins.toFile "names" "name ${shape}\n");

  # Whole outputs.
  plain = name: make name { inherit name; } ''
    mkdir -p $out/bin $out/share/man $out/lib $out/etc/conf.d $out/.hidden $out/tmp
    for file in bin/x bin/$name share/man/page share/man/of-$name lib/y lib/perllocal.pod etc/passwd \
      etc/conf.d/$name README .hidden/$name tmp/$name
    do echo $name > $out/$file; done
  '';
  roots = {
    root-plain = plain "plain";
    root-same = plain "same";
    root-file = make "file" { } "echo file > $out";
    root-output-link = make "output-link" { other = target "output-link"; } "ln -s $other $out";
    root-links = make "links" { other = target "links"; } ''
      mkdir -p $out/lib
      ln -s $other/bin $other/share $out
      ln -s ../../$(basename $other)/directory $out/lib/linked
      echo links > $out/lib/y
    '';
    root-chain = make "chain" { other = roots.root-links; inherit common; } ''
      mkdir -p $out/lib
      ln -s $other/share $out/share
      ln -s lib $out/bin
      ln -s $common/file $out/lib/x
      ln -s $other/lib/linked $out/lib/linked
    '';
    root-propagates = make "propagates" { inherit common; other = plain "propagated"; } ''
      mkdir -p $out/bin $out/nix-support
      echo propagates > $out/bin/propagates
      echo "$other  $common" > $out/nix-support/propagated-user-env-packages
    '';
    root-propagates-on = make "propagates-on"
      { other = roots.root-propagates; plain = roots.root-plain; } ''
      mkdir -p $out/bin $out/nix-support
      echo propagates > $out/bin/x
      printf '%s\n' $other $plain > $out/nix-support/propagated-user-env-packages
    '';
  };

  # Packages that are found through links, and packages of which no image can be made.
  program = make "program" { } ''
    mkdir -p $out/bin
    for name in program sh env; do echo $name > $out/bin/$name; done
  '';
  deep = name: make name { inherit name; } ''
    # Deeper than JSON parsers allow, and nearly as deep as Linux allows.
    path=$out/share
    for i in {1..1900}; do path=$path/d; done
    mkdir -p $path
    echo $name > $path/$name
  '';
  # As many paths as there are particles in the universe, made of two links per directory.
  bomb = name: make name { } ''
    mkdir -p $out/share/bomb
    cd $out/share/bomb
    mkdir d{0..250}
    for i in {1..250}; do
      ln -s ../d$((i - 1)) d$i/a
      ln -s ../d$((i - 1)) d$i/b
    done
  '';
  whiteout = make "whiteout" { } "mkdir -p $out/share; echo gone > $out/share/.wh.nix";
  odd = {
    program-link = make "program-1.0" { other = program; } "mkdir $out; ln -s $other/bin $out/bin";
    deep-a = deep "deep-a";
    deep-b = deep "deep-b";
    bomb-a = bomb "bomb-a";
    bomb-b = bomb "bomb-b";
    inherit whiteout;
    needs-whiteout = make "needs-whiteout" { other = whiteout; } "mkdir $out; echo $other > $out/file";
    aufs = make "aufs" { } "mkdir -p $out/share; echo > $out/share/.wh..wh..opq; mkdir $out/.wh..wh.plnk";
  };

  shapes = [ "dangling" "directory" "file" "link-chain" "link-out" "loop" "nested-loop" ];
  singles = builtins.concatMap
    (own: map (shape: { name = "${own}-${shape}"; value = single own shape; }) shapes) [ "a" "b" ];
in
roots // odd // builtins.listToAttrs singles // builtins.mapAttrs filled product // { c-file = single "c" "file"; }
