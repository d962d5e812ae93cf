use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> ImageName {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn repositories_are_images_where_they_ask_for_something() {
    let name = |text: &str| text.parse::<RepositoryName>().expect("a name");
    assert!(ImageName::of(&name("shell/git")).is_ok());
    assert_eq!(ImageName::of(&name("arm64")).map_err(|error| error.code), Err(ErrorCode::NameInvalid));
}

#[test]
fn canonical_form() {
    let check = |text: &str, expect: &str| assert_eq!(parse(text).to_string(), expect);
    check("git", "git");
    check("shell/git/htop", "shell/git/htop");
    check("shell/htop/git", "shell/git/htop");
    check("git/git", "git");
    check("shell/arm64/git", "arm64/shell/git");
    check("arm64/arm64/git", "arm64/git");
    check("shell", "shell");
    check("python3packages.requests/openssl.dev", "openssl.dev/python3packages.requests");
    check("1password/gtk__3/a--b/c_d", "1password/a--b/c_d/gtk__3");
    // After the first package, the name of a meta-package is an ordinary package name.
    check("git/shell", "git/shell");
    assert!(!parse("git/shell").shell());
    check("zsh/root/shell", "zsh/root/shell");
    check("root/git", "git");
    check("shell/user/arm64/debug/git", "arm64/user/shell/debug/git");
    check("user/user/root2", "user/root2");
}

#[test]
fn meta_packages_come_in_any_order() {
    let words = ["arm64", "user", "shell", "debug"];
    let expect = parse(&format!("{}/git", words.join("/")));
    for first in 0..4 {
        for second in (0..4).filter(|second| *second != first) {
            let mut order = vec![words[first], words[second]];
            order.extend(words.iter().filter(|word| **word != words[first] && **word != words[second]));
            assert_eq!(parse(&format!("{}/git", order.join("/"))), expect, "{order:?}");
        }
    }
    assert_eq!(parse("root/root/shell/git"), parse("shell/git"));
    assert_ne!(parse("user/git"), parse("git"));
    assert_ne!(parse("debug/git"), parse("shell/git"));
}

#[test]
fn a_shell_starts_where_it_is_asked_for_or_alone() {
    let check = |text: &str, expect: bool| assert_eq!(parse(text).starts_shell(), expect, "{text}");
    check("shell/git", true);
    check("debug", true);
    check("debug/git", false);
    check("git", false);
}

#[test]
fn platform_is_part_of_the_name() {
    assert_ne!(parse("arm64/git"), parse("git"));
    assert_ne!(parse("arm64/git"), parse("amd64/git"));
    assert_eq!(parse("arm64/git").platform(), Some(Platform::Arm64));
}

#[test]
fn refuses() {
    let check = |text: &str, expect: &str| match text.parse::<ImageName>() {
        Ok(name) => panic!("{text} parsed as {name}"),
        Err(error) => assert!(error.to_string().contains(expect), "{text}: {error}"),
    };
    check("", "empty component");
    check("/", "empty component");
    check("git/", "empty component");
    check("git//htop", "empty component");
    check("arm64", "no package");
    check("root", "no package");
    check("user", "no package");
    check("root/user/git", "two users");
    check("user/shell/root/git", "two users");
    check("arm64/amd64/git", "two platforms");
    check("Git", "lower case: write \"git\"");
    check("-git", "not a package name");
    check("--option", "not a package name");
    check("git-", "not a package name");
    check("_1password", "not a package name");
    check("a..b", "not a package name");
    check("a._b", "not a package name");
    check("a___b", "not a package name");
    check("..", "not a package name");
    check("git/../../etc", "not a package name");
    check("git\"", "not a package name");
    check("${builtins.abort}", "not a package name");
    check("git\n", "not a package name");
    check("git htop", "not a package name");
    check("gıt", "not a package name");
    check("git%2f", "not a package name");
    check(&"a".repeat(256), "at most 255");
    check(&"a/".repeat(5_000), "at most 255");
}

#[test]
fn wants_requested_before_implied() {
    let wants = parse("shell/zsh/git").wants();
    let names: Vec<_> = wants.iter().map(|want| want.names[0].as_str()).collect();
    assert_eq!(
        names,
        ["git", "zsh", "bashinteractive", "coreutils", "moreutils", "nano", "cacert", "iana-etc"]
    );
    assert_eq!(wants.iter().filter(|want| want.requested).count(), 2);
    assert_eq!(parse("git").wants().len(), 3);
    assert_eq!(parse("user/git").wants(), parse("git").wants());
}

#[test]
fn debug_needs_a_shell_and_likes_the_rest() {
    let required = |text: &str| -> Vec<String> {
        let wants = parse(text).wants();
        wants.iter().filter(|want| want.required).map(|want| want.names[0].to_string()).collect()
    };
    assert_eq!(required("debug/git"), ["git", "bashinteractive"]);
    assert_eq!(required("debug/shell/git"), ["git", "bashinteractive", "coreutils"]);
    for text in ["debug", "shell/debug", "debug/curl"] {
        let wants = parse(text).wants();
        let mut implied: Vec<_> =
            wants.iter().filter(|want| !want.requested).map(|want| &want.names).collect();
        let count = implied.len();
        implied.sort();
        implied.dedup();
        assert_eq!(implied.len(), count, "{text}: nothing is implied twice");
    }
}

proptest! {
    #[test]
    fn order_and_repetition_do_not_matter(names in proptest::collection::vec("[a-z][a-z0-9]{0,5}", 1..8)) {
        let mut reversed = names.clone();
        reversed.reverse();
        reversed.push(names[0].clone());
        // The names of meta-packages have another meaning at the front than elsewhere.
        prop_assume!(!names.iter().any(|name| MetaPackage::parse(name).is_some()));
        prop_assert_eq!(parse(&names.join("/")), parse(&reversed.join("/")));
    }

    #[test]
    fn round_trips(
        words in proptest::collection::vec("root|user|shell|debug|arm64|amd64|[a-z0-9]{1,6}([._-][a-z0-9]{1,3})?", 1..8),
    ) {
        if let Ok(parsed) = words.join("/").parse::<ImageName>() {
            prop_assert_eq!(parse(&parsed.to_string()), parsed.clone());
            // The printed name contains all packages. It is part of the keys of images.
            let spelled = parsed.packages().map(ToString::to_string).collect::<Vec<_>>().join("/");
            prop_assert!(parsed.to_string().ends_with(&spelled));
        }
    }

    #[test]
    fn one_text_is_one_name(
        a in proptest::collection::vec("root|user|shell|debug|arm64|git|zsh", 1..6),
        b in proptest::collection::vec("root|user|shell|debug|arm64|git|zsh", 1..6),
    ) {
        if let (Ok(a), Ok(b)) = (a.join("/").parse::<ImageName>(), b.join("/").parse::<ImageName>()) {
            prop_assert_eq!(a == b, a.to_string() == b.to_string());
        }
    }

    #[test]
    fn never_panics(text in "\\PC{0,300}") {
        let _ = text.parse::<ImageName>();
    }
}
