use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> ImageName {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
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
    // Meta-packages are special only at the front; after that the word is a package's name.
    check("git/shell", "git/shell");
    assert!(!parse("git/shell").shell());
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
    assert_eq!(names, ["git", "zsh", "bashinteractive", "coreutils", "moreutils", "nano", "cacert"]);
    assert_eq!(wants.iter().filter(|want| want.requested).count(), 2);
    assert_eq!(parse("git").wants().len(), 2);
}

proptest! {
    #[test]
    fn order_and_repetition_do_not_matter(names in proptest::collection::vec("[a-z][a-z0-9]{0,5}", 1..8)) {
        let mut reversed = names.clone();
        reversed.reverse();
        reversed.push(names[0].clone());
        // A component `shell` means another thing at the front than elsewhere.
        prop_assume!(!names.iter().any(|name| matches!(name.as_str(), "shell" | "arm64" | "amd64")));
        prop_assert_eq!(parse(&names.join("/")), parse(&reversed.join("/")));
    }

    #[test]
    fn round_trips(name in "(arm64/)?(shell/)?[a-z0-9]{1,6}(/[a-z0-9]{1,6}([._-][a-z0-9]{1,3})?){0,4}") {
        if let Ok(parsed) = name.parse::<ImageName>() {
            prop_assert_eq!(parse(&parsed.to_string()), parsed);
        }
    }

    #[test]
    fn never_panics(text in "\\PC{0,300}") {
        let _ = text.parse::<ImageName>();
    }
}
