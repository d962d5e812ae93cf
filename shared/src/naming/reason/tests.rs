use super::*;
use proptest::prelude::*;

/// The parts of a text that are shown.
fn shown(text: &str) -> Option<String> {
    Reason::new(text, &["/srv/my packages", "/"]).ok().map(|reason| reason.to_string())
}

fn check(text: &str, expect: &str) {
    assert_eq!(shown(text).as_deref(), Some(expect), "{text:?}");
}

#[test]
fn what_helps_the_client_stays() {
    for text in [
        "'kdevelop' has been renamed to/replaced by 'kdePackages.kdevelop'",
        "foo was removed, see https://github.com/NixOS/nixpkgs/pull/12345.",
        "use (https://example.org/a?b=c#d), or <http://localhost:8080/x>",
        "it's and/or, 1/2, python/3, ./x, ../y, ~/.config/nixpkgs, nixpkgs#a/b, a / b",
        "git+https://example.org/x and ssh://git@example.org/x",
        "Package ‘unrar-6.2’ has an unfree license (‘unfree’), refusing to evaluate.",
        "infinite recursion encountered",
    ] {
        check(text, text);
    }
}

#[test]
fn paths_of_the_machine_are_cut() {
    const SOURCE: &str = "/nix/store/3pmppdlqjx4i0ww255kg6wjzlvg8shdc-source";
    check(
        &format!(
            "Package ‘unrar-6.2’ in {SOURCE}/pkgs/unrar/default.nix:41 has an unfree license, refusing."
        ),
        "Package ‘unrar-6.2’ has an unfree license, refusing.",
    );
    check(&format!("cannot read '{SOURCE}/a b/c', giving up"), "cannot read '…', giving up");
    check("attribute 'x' missing, at /srv/pkgs/default.nix:3:1", "attribute 'x' missing");
    assert_eq!(shown("in /root/x"), None);
    assert_eq!(shown("/root/x"), None);
    check("nixpkgs=/root/x:/home/y is it", "nixpkgs=… is it");
    check("opening \"/home/John Doe/x\" failed", "opening \"…\" failed");
    check("opening /srv/my packages/x failed", "opening … failed");
    check("a file:///root/x b path:/root/x c git+file:///root/x d", "a … b … c git+… d");
    check("-I/root/x --prefix/root is cut; so is a/nix/store/x", "-I… --prefix… is cut; so is a…");
    check("see /a/b. Or [/c], {/d};/e (/f)", "see …. Or […], {…};… (…)");
    check("https:///root/x is no host", "https:… is no host");
    check("https://cache.example.org/nix/store/x", "https://cache.example.org…");
    check("https://me:token@example.org/x", "https://example.org/x");
}

#[test]
fn it_is_one_line_without_effects() {
    check("\u{1b}[31;1merror\u{1b}[0m:\n\tfoo\r\n  is   gone\u{7}", "error: foo is gone");
    check("\u{1b}]8;;http://x\u{7}link\u{1b}", "link");
    check("a\u{202e}b\u{200b}c", "abc");
    assert_eq!(shown(" \u{1b}[0m\n"), None);
    assert_eq!(shown(" …, "), None);
    let long = "word ".repeat(100);
    let reason = Reason::new(&long, &[]).expect("words");
    assert_eq!(reason.as_str(), format!("{}…", "word ".repeat(78) + "word"));
    let long = Reason::new(&"ä".repeat(1000), &[]).expect("words");
    assert_eq!(long.as_str().chars().count(), Reason::MAX_CHARS);
}

#[test]
fn the_innermost_error_is_the_reason() {
    let check = |stderr: &str, expect: Option<&str>| {
        let lines: Vec<_> = stderr.lines().map(ToString::to_string).collect();
        let reason = Reason::of_evaluation(&lines, &[]);
        assert_eq!(reason.as_ref().map(Reason::as_str), expect, "{stderr}");
    };
    check(
        "error: foo was removed; use bar\n\n       at /x.nix:1:1\n(use '--show-trace')",
        Some("foo was removed; use bar"),
    );
    check(
        "error:\n       … while evaluating\n         at /x.nix:3:1:\n\n       error: foo is gone,\n       alas\n       at /x",
        Some("foo is gone, alas"),
    );
    check("\u{1b}[31;1merror:\u{1b}[0m foo is gone", Some("foo is gone"));
    check(
        "error: Package ‘a-1’ in /nix/store/x/a.nix:1 is marked as broken, refusing to evaluate.\n\n       a) To \
         temporarily allow broken packages, you can use an environment variable",
        Some("Package ‘a-1’ is marked as broken, refusing to evaluate."),
    );
    check("warning: something", None);
    check("", None);
}

#[test]
fn what_has_to_be_built_first_is_known() {
    let said = |text: &str| is_import_from_derivation(&[text.to_owned()]);
    assert!(said(
        "error: cannot build '/nix/store/x.drv' during evaluation because the option \
         'allow-import-from-derivation' is disabled"
    ));
    assert!(!said("error: cannot build it"));
}

proptest! {
    #[test]
    fn no_absolute_path_is_ever_shown(
        before in "([a-z]{0,5}[ '\"‘(=:,;<|{\\[]){1,3}",
        path in "/(root|home|nix/store|srv|tmp|var|Z)(/[A-Z_.0-9-]{1,8}){1,4}",
        after in "([ '\"’)>.,:;][a-z /]{0,8}){0,3}",
    ) {
        let reason = Reason::new(&format!("x{before}{path}{after}"), &[]);
        let shown = reason.map(|reason| reason.to_string()).unwrap_or_default();
        let first: String = path.chars().take_while(|c| !c.is_ascii_uppercase()).collect();
        prop_assert!(!shown.contains(&path), "{}", shown);
        prop_assert!(!shown.contains(first.trim_end_matches('/')) || first.len() < 2, "{}", shown);
    }

    #[test]
    fn urls_stay(
        before in "[a-z' (]{0,10} ",
        url in "(https?|ssh|git)://[a-z]{1,8}(\\.[a-z]{2,3}){1,2}(:[0-9]{2,4})?(/[a-zA-Z0-9._~-]{1,6}){0,4}",
        after in "( [a-z]{1,5}){0,3}",
    ) {
        let reason = Reason::new(&format!("x {before}{url}{after}"), &[]).expect("words");
        prop_assert!(reason.as_str().contains(&url), "{}", reason);
    }

    #[test]
    fn any_text_gives_a_line_that_may_be_shown(
        text in "([a-z/:'‘’ .~=<-]|\u{1b}\\[|/nix/store/|https://|file:/|/root|\\PC|\n|\u{202e}){0,200}",
        place in "/[a-z/ ]{0,10}",
    ) {
        if let Ok(reason) = Reason::new(&text, &[&place]) {
            let shown = reason.as_str();
            prop_assert!(shown.chars().count() <= Reason::MAX_CHARS);
            let is_unseen = shown.chars().any(|c| c.is_control() || c == '\u{202e}');
            prop_assert!(!is_unseen, "{}", shown);
            prop_assert!(!shown.contains("/nix/store/"), "{}", shown);
            let is_path = |word: &str| {
                word.starts_with('/') && word.trim_start_matches('/').starts_with(char::is_alphanumeric)
            };
            prop_assert!(!shown.split(' ').any(is_path), "{}", shown);
        }
    }
}
