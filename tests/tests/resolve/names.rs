//! Which attribute a name means, and that a name cannot do anything else.

use crate::{check, evaluator::evaluators, request};

#[test]
fn finds_names() {
    check(&[
        ("hello", r#"ok hello hello-2.10 ["out"]"#),
        ("gitfull", r#"ok gitFull git-2.39.5 ["out"]"#),
        ("exactcase", r#"ok exactcase exact-lower ["out"]"#),
        ("exactCase", r#"ok exactCase exact-camel ["out"]"#),
        ("twincase", r#"ambiguous ["twinCase", "twincasE"]"#),
        ("1password", r#"ok _1password 1password-8 ["out"]"#),
        ("7zip", r#"ok _7Zip 7zip-24 ["out"]"#),
        ("both", r#"ok both both-plain ["out"]"#),
        ("foo-bar", r#"ok foo-bar foo-bar-1 ["out"]"#),
        ("foobar", r#"ok fooBar fooBar-1 ["out"]"#),
        ("python3packages.requests", r#"ok python3Packages.requests python3-requests-2 ["out"]"#),
        ("python3packages.pyyaml", r#"ok python3Packages.PyYAML python3-pyyaml-6 ["out"]"#),
        ("python3packages.inner.deepest", r#"ok python3Packages.inner.deepEst deepest-1 ["out"]"#),
        ("gitful", "not_found [\"${hello}\", \"--option\", \"Key\", …"),
        (
            "python3packages.nope",
            r#"not_found ["PyYAML", "aborts", "inner", "recurseForDerivations", "requests"]"#,
        ),
        ("emptyset.nope", "not_found []"),
    ]);
}

#[test]
fn says_how_far_a_name_was_found() {
    for nix in evaluators() {
        let answer =
            nix.resolve(&request(&["nope.x", "python3packages.nope", "openssl.nope"])).expect("resolves");
        for (name, prefix) in
            [("nope.x", ""), ("python3packages.nope", "python3Packages"), ("openssl.nope", "openssl")]
        {
            assert_eq!(answer["packages"][name]["problem"]["prefix"], prefix, "{}: {name}", nix.version());
        }
    }
}

#[test]
fn only_derivations_are_packages() {
    let set = r#"not_a_package ["python3Packages.PyYAML", "python3Packages.aborts", "python3Packages.inner", "python3Packages.recurseForDerivations", "python3Packages.requests"]"#;
    check(&[
        ("python3packages", set),
        ("lib", r#"not_a_package ["lib.version"]"#),
        ("emptyset", "not_a_package []"),
        ("functor", r#"not_a_package ["functor.__functor"]"#),
        ("oddtype", r#"not_a_package ["oddType.type"]"#),
        ("throwingtype", r#"not_a_package ["throwingType.type"]"#),
        ("lib.version", "not_a_package []"),
        ("lib.version.x", "not_a_package []"),
        ("function", "not_a_package []"),
        ("function.x", "not_a_package []"),
        ("text", "not_a_package []"),
        ("number", "not_a_package []"),
        ("list", "not_a_package []"),
        ("nothing", "not_a_package []"),
        ("path", "not_a_package []"),
        // Most attributes of a derivation are not packages.
        ("hello.override", "eval_error []"),
        ("hello.outPath", "not_a_package []"),
        ("hello.outpath", "not_a_package []"),
        ("hello.meta", r#"not_a_package ["hello.meta.description", …"#),
        ("hello.meta.description", "not_a_package []"),
        ("hello.drvattrs", r#"not_a_package ["hello.drvAttrs.builder", …"#),
        ("hello.nope", r#"not_found ["out"]"#),
        ("hello.nope.nope", r#"not_found ["out"]"#),
        ("hello.out.out", "not_a_package []"),
        ("gcc.isgnu", "not_a_package []"),
        ("gcc.gone", "eval_error []"),
        ("gcc.gone.more", "eval_error []"),
    ]);
}

#[test]
fn finds_packages_in_packages() {
    check(&[
        ("gcc.cc", r#"ok gcc.cc gcc-14 ["out"]"#),
        ("gcc.cc.out", r#"ok gcc.cc gcc-14 ["out"]"#),
        // An output has precedence over an attribute.
        ("gcc.man", r#"ok gcc gcc-wrapper-14 ["man"]"#),
        ("hello.tests.version", r#"ok hello.tests.version hello-tests ["out"]"#),
        (
            "python3.pythonpackages.requests",
            r#"ok python3.pythonPackages.requests python3-requests-2 ["out"]"#,
        ),
        ("python3.pythonpackages.request", r#"not_found ["PyYAML", …"#),
    ]);
}

#[test]
fn names_that_differ_by_case_only_are_one_where_their_derivations_are() {
    check(&[
        ("aliascase", r#"ok aliasCase alias-1 ["out"]"#),
        ("renamedcase", r#"ok renamedcasE renamed-1 ["out"]"#),
        ("gonecase", "eval_error []"),
        ("refusedcase", "unfree []"),
        ("halfrefused", r#"ambiguous ["halfRefused", "halfrefuseD"]"#),
        ("aliasset.inner", r#"ok aliasSet.inner alias-set-1 ["out"]"#),
        ("aliasset.more", r#"ok aliasseT.more alias-set-more-1 ["out"]"#),
        ("aliasset.nope", "not_found […"),
    ]);
}

#[test]
fn the_set_again_is_gone_through_once() {
    check(&[
        ("pkgsmusl.hello", r#"ok pkgsMusl.hello hello-musl-2.10 ["out"]"#),
        ("pkgscross.riscv64.hello", r#"ok pkgsCross.riscv64.hello hello-riscv64-2.10 ["out"]"#),
        (
            "pkgscross.riscv64.python3packages.requests",
            r#"ok pkgsCross.riscv64.python3Packages.requests python3-requests-riscv64-2 ["out"]"#,
        ),
        ("pkgs.hello", "not_a_package []"),
        ("pkgs.pkgs.pkgs.hello", "not_a_package []"),
        ("pkgsmusl.pkgsmusl.hello", "not_a_package []"),
        ("pkgsmusl.pkgs.hello", "not_a_package []"),
        ("python3.pkgs.hello", "not_a_package []"),
        ("pkgscross.riscv64.pkgsmusl.hello", "not_a_package []"),
        ("pkgsmusl.pkgscross.riscv64.hello", "not_a_package []"),
    ]);
    for nix in evaluators() {
        let answer = nix.resolve(&request(&["pkgsmusl.pkgscross.riscv64.hello"])).expect("resolves");
        let message = &answer["packages"]["pkgsmusl.pkgscross.riscv64.hello"]["problem"]["message"];
        let expect = "‘pkgsMusl.pkgsCross.riscv64’ is the package set again; ask for ‘hello’ without it";
        assert_eq!(*message, expect, "{}", nix.version());
    }
}

#[test]
fn hostile_names_are_only_names() {
    let long = "a".repeat(10_000);
    let dots = ".".repeat(5_000);
    let deep = "python3packages.".repeat(600) + "x";
    let hostile = [
        "",
        ".",
        "..",
        ".hello",
        "hello.",
        "hello..out",
        "\"",
        "hello\"; abort \"x",
        "${builtins.abort \"x\"}",
        "$(id)",
        "`id`",
        "--argstr",
        "-A",
        "../../etc/passwd",
        "/etc/passwd",
        "<nixpkgs>",
        "hello\n",
        "hello\u{1}",
        "hello ",
        " hello",
        "hello,git",
        "hello;git",
        "{}",
        "[ ]",
        "*",
        "%s",
        "\\",
        "\\u0000",
        "''",
        "''${hello}''",
        "\u{212a}ey", // the Kelvin sign, whose lower case is k
        "ｈｅｌｌｏ",
        "hеllo", // full width, a Cyrillic letter
        "\u{202e}olleh",
        "__functor",
        "_type",
        "or",
        "rec",
        "true",
        &long,
        &dots,
        &deep,
    ];
    let names: Vec<&str> = hostile.to_vec();
    for nix in evaluators() {
        let answer = nix.resolve(&request(&names)).expect("resolves");
        for name in &names {
            let kind = answer["packages"][*name]["problem"]["kind"].as_str();
            assert!(
                matches!(kind, Some("not_found" | "not_a_package")),
                "{}: {name:?}: {kind:?}",
                nix.version()
            );
        }
    }
    // Attributes with hostile names are found under exactly these names, and nothing in the names is evaluated.
    check(&[
        ("quo\"te", r#"ok quo"te quote ["out"]"#),
        ("${hello}", r#"ok ${hello} antiquote ["out"]"#),
        ("--option", r#"ok --option option ["out"]"#),
        ("dotted.name", "not_found […"),
    ]);
}
