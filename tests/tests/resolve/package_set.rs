//! The bundled package set (tests/packages) has the attributes that its README promises, and depends only on its own
//! content. The tests that pull its images build it.

use crate::{evaluator::Evaluator, evaluator::evaluators, summary};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn bundled() -> PathBuf {
    std::env::var_os("FIRN_TEST_PACKAGES")
        .map(PathBuf::from)
        .expect("no package set; run: export FIRN_TEST_PACKAGES=$(setup/package-set)")
}

fn resolve(nix: &Evaluator, set: &Path, system: &str, config: Value, attributes: &[&str]) -> Value {
    let source = json!({ "path": set });
    let request = json!({ "source": source, "system": system, "config": config, "attributes": attributes });
    nix.resolve(&request).expect("resolves")["packages"].take()
}

/// This machine's platform, in Nix's form. The bundled set is made for it.
fn system() -> String {
    format!("{}-linux", std::env::consts::ARCH)
}

#[test]
fn real_software_resolves_with_its_metadata() {
    let names = "bash bashinteractive bc busybox bzip2 cacert coreutils curl dash diffutils file findutils gawk git \
         glibc gmp gnugrep gnumake gnused gnutar gzip hello htop iana-etc jq less moreutils nano ncurses netbase nginx \
         openssl pcre2 perl procps python3 readline ripgrep rsync socat sqlite tmux tree tzdata unzip vim wget which xz \
         zlib zstd python3packages.requests python3packages.urllib3 python3packages.pyyaml perlpackages.error \
         perlpackages.ipcrun perlpackages.iotty perlpackages.timedate perlpackages.timeduration";
    let names: Vec<&str> = names.split_whitespace().collect();
    for nix in evaluators() {
        let answer = resolve(&nix, &bundled(), &system(), json!({}), &names);
        for name in &names {
            let ok = &answer[*name]["ok"];
            let is_text = |key: &str| ok[key].as_str().is_some_and(|text| !text.is_empty());
            assert!(
                ["name", "pname", "version", "description"].into_iter().all(is_text),
                "{name}: {}",
                answer[*name]
            );
            assert!(ok["license"].as_array().is_some_and(|all| !all.is_empty()), "{name}: {ok}");
        }
        for (name, expect) in
            [("openssl", r#"["bin"]"#), ("curl", r#"["bin"]"#), ("bash", r#"["out"]"#), ("git", r#"["out"]"#)]
        {
            let summary = summary(&answer[name]);
            assert!(summary.ends_with(expect), "{name}: {summary}");
        }
        assert_eq!(answer["ripgrep"]["ok"]["main_program"], "rg");
        assert_eq!(answer["bash"]["ok"]["drv"], answer["bashinteractive"]["ok"]["drv"]);
    }
}

#[test]
fn difficult_packages_are_difficult_as_promised() {
    let expected = [
        ("helloworld", "ok helloWorld hello-world-1.0"),
        ("nested.deeper.evendeeper", "ok nested.deeper.evenDeeper nested-even-deeper-1.0"),
        ("twincase", r#"ambiguous ["TwinCase", "twinCase"]"#),
        ("1password", "ok _1password 1password-1.0"),
        ("7zz", "ok _7zz 7zz-1.0"),
        ("lib", "not_a_package"),
        ("callpackage", "not_a_package"),
        ("version", "not_a_package"),
        ("unfree-hello", "unfree"),
        ("broken-hello", "broken"),
        ("insecure-hello", "insecure"),
        ("unsupported-hello", "unsupported_system"),
        ("depends-on-unfree", "eval_error"),
        ("throws", "eval_error"),
    ];
    let built = "fails-to-build depends-on-failing slow-build slowish-1 slowish-2 slowish-3 slowish-4 slowish-all \
         empty-directory hardlink setuid sparse-file incompressible long-names unusual-names odd-links file-output \
         image-paths conflict-a conflict-b conflict-file conflict-directory conflict-link many-paths";
    let built: Vec<&str> = built.split_whitespace().collect();
    let names: Vec<&str> = expected.iter().map(|(name, _)| *name).chain(built.iter().copied()).collect();
    for nix in evaluators() {
        let answer = resolve(&nix, &bundled(), &system(), json!({}), &names);
        for (name, expect) in expected {
            let actual = summary(&answer[name]);
            assert!(actual.starts_with(expect), "{}: {name}: {actual}", nix.version());
        }
        for name in &built {
            assert!(summary(&answer[*name]).starts_with("ok "), "{}: {name}", nix.version());
        }
        let allowed = resolve(&nix, &bundled(), &system(), json!({ "allowUnfree": true }), &["unfree-hello"]);
        assert!(summary(&allowed["unfree-hello"]).starts_with("ok "));
        for name in ["missing-attribute", "type-error", "aborts", "infinite-recursion"] {
            let source = json!({ "path": bundled() });
            let attributes = [format!("hazards.{name}")];
            let request = json!({ "source": source, "system": system(), "attributes": attributes });
            nix.resolve(&request).expect_err(name);
        }
    }
}

#[test]
fn only_what_holds_no_machine_code_is_there_for_another_system() {
    let other = if system() == "aarch64-linux" { "x86_64-linux" } else { "aarch64-linux" };
    for nix in evaluators() {
        let names = ["cacert", "netbase", "empty-directory", "git", "helloworld"];
        let answer = resolve(&nix, &bundled(), other, json!({}), &names);
        let kinds: Vec<String> = names.iter().map(|name| summary(&answer[*name])).collect();
        assert!(kinds[..3].iter().all(|kind| kind.starts_with("ok ")), "{kinds:?}");
        assert_eq!(kinds[3..], ["unsupported_system []", "unsupported_system []"]);
    }
}

#[test]
fn the_place_of_the_set_does_not_matter_and_the_salt_does() {
    let [nix, ..] = evaluators();
    let names = ["git", "unusual-names", "slow-build", "many-paths"];
    let here = resolve(&nix, &bundled(), &system(), json!({}), &names);
    let elsewhere = tempfile::TempDir::new().expect("a temporary directory");
    let copy = elsewhere.path().join("copy");
    let copied = Command::new("cp").arg("-r").args([&bundled(), &copy]).status().expect("cp starts");
    assert!(copied.success());
    assert_eq!(resolve(&nix, &copy, &system(), json!({}), &names), here);

    let wrapper = nix.scratch(
        "default.nix",
        &format!(
            "{{ system, config }}: import {} {{ inherit system; config = config // {{ salt = \"x\"; }}; }}",
            copy.display()
        ),
    );
    let salted = resolve(&nix, &wrapper, &system(), json!({}), &names);
    assert_ne!(salted["slow-build"], here["slow-build"]);
    assert_eq!(salted["git"], here["git"]);
}
